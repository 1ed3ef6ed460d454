"""Networks that were trained elsewhere, as the library `transformers` builds them.

From that library comes the code of the networks alone. Folders are read here: their settings as
JSON and their weights as safetensors, never a pickle, never code that lies beside them, and nothing
is ever fetched. What a model file keeps is the settings, of which every name must be known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue
from torch import Tensor, nn

from modelwright.errors import ModelFileError, ModelwrightError, RecipeError, require
from modelwright.models.elsewhere import (
    CONFIG,
    MOST_CONFIG,
    WEIGHTS,
    digest_of,
    fill,
    first_line,
    no_weights,
    read_bytes,
    read_json,
    read_weights,
)
from modelwright.models.logmel import mask
from modelwright.models.network import TextFrame
from modelwright.models.pretrained_seq2seq import PretrainedSeq2Seq, numbering_of
from modelwright.recipe.model import Dropout
from modelwright.recipe.spec import Spec

TOKENIZER = "tokenizer.json"
_GENERATION = "generation_config.json"
_INDEX = f"{WEIGHTS}.index.json"
_MOST_INDEX = 64 << 20
_MOST = 1 << 24
"""No number of a network's settings may be larger."""
_MOST_LAYERS = 512
_MOST_RELATIVE = 100_000
"""The longest text where places are relative, as `text.longest` has it."""

ENCODERS: dict[str, int] = {
    "albert": 0,
    "bert": 0,
    "camembert": 1,
    "deberta-v2": 0,
    "distilbert": 0,
    "electra": 0,
    "modernbert": 0,
    "mpnet": 1,
    "roberta": 1,
    "xlm-roberta": 1,
}
"""The encoders that are known here, by `model_type`. Where it says 1, the places of a text are
counted from one behind the number of padding, which takes that many of `max_position_embeddings`.
"""


SEQ2SEQ: dict[str, int | None] = {"bart": 2, "marian": 1, "mt5": None, "pegasus": 1, "t5": None}
"""The networks that write a text from another, by `model_type`: how many of
`max_position_embeddings` a text can't have, for what it begins with; none where places are relative
and a text may have any length."""


KNOWN = (*ENCODERS, *SEQ2SEQ)


class PretrainedModel(Spec):
    """What a model file keeps of a network from elsewhere; `_read` and `build` take it back."""

    name: Literal["transformers"]
    model_type: str
    """The library's name of the kind of network."""
    config: dict[str, JsonValue]
    """The library's settings of that kind, all of them."""
    pooling: Literal["first", "mean"] | None
    """How an encoder's states become one vector."""
    dropout: Dropout | None
    """The share dropped before an encoder's last layer, in training."""
    numbering: dict[str, int] | None
    """Of a network that writes, how its tokens are numbered."""

    @property
    def longest(self) -> int:
        """The most tokens of a text."""
        if self.model_type in SEQ2SEQ and SEQ2SEQ[self.model_type] is None:
            return _MOST_RELATIVE
        positions = self.config["max_position_embeddings"]
        assert isinstance(positions, int)
        if self.model_type in SEQ2SEQ:
            return positions - (SEQ2SEQ[self.model_type] or 0)
        if ENCODERS[self.model_type]:
            padding = self.config.get("pad_token_id")
            return positions - 1 - (padding if isinstance(padding, int) else 0)
        return positions


class Encoder(nn.Module):
    """An encoder from elsewhere, one vector of its states, and a linear `head` of our own.

    Args:
        spec: the network's settings.
        num_outputs: K.

    Raises:
        ModelFileError: the library can't build it from these settings.
        MissingExtraError: the library `transformers` isn't installed.
    """

    def __init__(self, spec: PretrainedModel, num_outputs: int) -> None:
        super().__init__()
        assert spec.pooling is not None
        assert spec.dropout is not None
        self.encoder = _built(spec)
        width = int(self.encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
        padding = spec.config.get("pad_token_id")
        self.padding = padding if isinstance(padding, int) else 0
        self.pooling = spec.pooling
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Return the outputs `[N, K]` for tokens `[N, T]` of which `length` `[N]` are real."""
        is_real = mask(length, tokens.shape[1])
        # What stands at padding isn't seen, but some networks count places by it.
        ids = tokens.masked_fill(~is_real, self.padding)
        x: Tensor = self.encoder(input_ids=ids, attention_mask=is_real.long())[0]
        if self.pooling == "first":
            vector = x[:, 0]
        else:
            held = x.masked_fill(~is_real[..., None], 0.0)
            vector = held.sum(1) / length[:, None].to(x.dtype)
        outputs: Tensor = self.head(self.dropout(vector))
        return outputs


def build_pretrained(spec: PretrainedModel, frame: TextFrame) -> nn.Module:
    """Build a network from elsewhere, with fresh weights.

    Raises:
        RecipeError: texts may be longer than it takes, or have tokens that it doesn't know.
        ModelFileError: the settings can't be used.
    """
    check_config(spec)
    vocabulary = spec.config["vocab_size"]
    assert isinstance(vocabulary, int)
    if spec.model_type in SEQ2SEQ:
        numbering = numbering_of(spec.numbering)
        if numbering.size != vocabulary or {frame.vocabulary, frame.num_outputs} != {
            vocabulary + 1
        }:
            raise ModelFileError("the numbering of tokens isn't of the network's vocabulary")
        return PretrainedSeq2Seq(_built(spec), numbering)
    if spec.pooling is None or spec.dropout is None or spec.numbering is not None:
        raise ModelFileError("an encoder's section doesn't say what stands behind it")
    if frame.longest > spec.longest:
        raise RecipeError(
            f"texts of {frame.longest:,} tokens are longer than the network takes",
            fix=f"Write `text: {{longest: {spec.longest}}}`, or less",
        )
    if frame.vocabulary > vocabulary:
        raise RecipeError(
            f"the tokenizer has {frame.vocabulary:,} tokens, and the network knows {vocabulary:,}",
            fix="Use the tokenizer that the network was trained with",
        )
    return Encoder(spec, frame.num_outputs)


# -- settings --------------------------------------------------------------------------------


def _library() -> Any:
    found = require("transformers", extra="finetune", purpose="a network of transformers")
    found.logging.set_verbosity_error()  # It has no word for the user that isn't said here.
    return found


def _own_settings(model_type: str) -> frozenset[str]:
    """Return the settings by which one kind of network differs from another of its kind."""
    library = _library()
    kind = library.CONFIG_MAPPING[model_type]
    return _UNDECLARED.get(model_type, frozenset()) | frozenset(
        name
        for holder in kind.__mro__
        if issubclass(holder, library.PreTrainedConfig) and holder is not library.PreTrainedConfig
        for name in vars(holder).get("__annotations__", {})
        if not name.startswith("_") and name not in _FIXED
    )


_UNDECLARED = {
    "deberta-v2": frozenset(
        {
            "attention_head_size",
            "conv_act",
            "conv_groups",
            "conv_kernel_size",
            "norm_rel_ebd",
            "position_buckets",
            "share_att_key",
        }
    ),
}
"""Settings that a kind of network reads where a folder has them, and else does without."""
_FIXED = frozenset(
    {"model_type", "attribute_map", "sub_configs", "keys_to_ignore_at_inference", "base_config_key"}
)


def check_config(spec: PretrainedModel) -> None:
    """Refuse settings that aren't plain, or that aren't those of the kind of network.

    Raises:
        ModelFileError: they aren't.
    """
    if spec.model_type not in KNOWN:
        raise ModelFileError(
            f"a network of the type `{spec.model_type:.40}` isn't known here",
            fix=f"Known are {', '.join(KNOWN)}",
        )
    config, own = spec.config, _own_settings(spec.model_type)
    # One that is missing has the library's default: a newer version may have more of them.
    for name in sorted(config.keys() - own):
        raise ModelFileError(
            f"the network's setting `{name:.60}` is unknown",
            fix="Use the version of transformers in constraints.txt",
        )
    for name, value in config.items():
        most = _MOST_LAYERS if "layers" in name or "group" in name else _MOST
        if not _is_plain(value, most):
            raise ModelFileError(f"the network's setting `{name}` isn't a plain value in bounds")
    has_places = spec.model_type in ENCODERS or SEQ2SEQ[spec.model_type] is not None
    for name in ("vocab_size", *(["max_position_embeddings"] if has_places else [])):
        if type(config.get(name)) is not int:
            raise ModelFileError(f"the network's setting `{name}` isn't a whole number")
    reads = spec.model_type in ENCODERS
    if reads and (config.get("is_decoder") or config.get("add_cross_attention")):
        raise ModelFileError("the network is set to read as a decoder (`is_decoder`)")


def _is_plain(value: JsonValue, most: int, depth: int = 0) -> bool:
    if isinstance(value, dict | list):
        items = list(value.values()) if isinstance(value, dict) else value
        fits = depth < 3 and len(items) <= _MOST_LAYERS
        return fits and all(_is_plain(item, most, depth + 1) for item in items)
    if isinstance(value, str):
        return len(value) <= 100
    return value is None or isinstance(value, bool) or abs(value) <= most


def _built(spec: PretrainedModel) -> nn.Module:
    """Return the library's network."""
    library = _library()
    auto = library.AutoModelForSeq2SeqLM if spec.model_type in SEQ2SEQ else library.AutoModel
    try:
        config = library.AutoConfig.for_model(spec.model_type, **spec.config)
        way = "sdpa" if auto._model_mapping[type(config)]._supports_sdpa else "eager"
        network: nn.Module = auto.from_config(config, attn_implementation=way)
    except Exception as error:
        raise ModelFileError(
            f"transformers can't build this `{spec.model_type}`", why=first_line(error)
        ) from error
    if getattr(network, "pooler", None) is not None:
        network.pooler = None  # type: ignore[assignment]  # The head is ours.
    return network


# -- folders ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PretrainedFolder:
    """A folder as transformers saves it, with its settings read and nothing else."""

    path: Path
    model_type: str
    config: dict[str, Any]
    """The settings of its kind of network, all of them."""
    numbers: dict[str, int]
    """Of a network that writes, the numbers of padding, begin and end."""

    @property
    def writes(self) -> bool:
        """Whether its network writes texts."""
        return self.model_type in SEQ2SEQ

    def tokenizer_bytes(self) -> bytes:
        """Return its `tokenizer.json`.

        Raises:
            RecipeError: there is none.
        """
        path = self.path / TOKENIZER
        if not path.is_file():
            raise RecipeError(
                f"there is no `{TOKENIZER}`",
                where=str(self.path),
                why="The files of slow tokenizers aren't read",
                fix="Save it once with transformers: "
                "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
            )
        return read_bytes(path, _MOST_INDEX)

    def weight_files(self) -> list[Path]:
        """Return the files of the weights: one, or those that an index names.

        Raises:
            RecipeError: there is none, or only pickles.
        """
        if (self.path / WEIGHTS).is_file():
            return [self.path / WEIGHTS]
        if (self.path / _INDEX).is_file():
            return self._indexed()
        raise no_weights(
            self.path, fix="Save them with transformers: model.save_pretrained(FOLDER)"
        )

    def _indexed(self) -> list[Path]:
        where = str(self.path / _INDEX)
        held = read_json(self.path / _INDEX, _MOST_INDEX).get("weight_map")
        names = sorted(set(held.values())) if isinstance(held, dict) else []
        for name in names:
            # A name is one in this folder, and no path to elsewhere.
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise RecipeError(
                    f"it names `{name:.60}`, which isn't a file of weights", where=where
                )
            if not (self.path / name).is_file():
                raise RecipeError(f"`{name}` isn't there", where=where)
        if not names:
            raise RecipeError("it names no file", where=where)
        return [self.path / name for name in names]

    def digest(self) -> str:
        """Return the SHA-256 of the files of weights, one after the other."""
        return digest_of(self.weight_files())

    def weights(self) -> dict[str, Tensor]:
        """Return the weights by their names in the files, in fp32.

        Raises:
            RecipeError: a file is damaged or cut short.
        """
        return read_weights(self.weight_files())


def open_folder(path: Path) -> PretrainedFolder:
    """Read the settings of a folder that transformers saved.

    Raises:
        RecipeError: it is none, or of a kind that isn't known here.
        MissingExtraError: the library `transformers` isn't installed.
    """
    if not path.is_dir():
        raise RecipeError("this is a file, and a folder is wanted", where=str(path))
    if not (path / CONFIG).is_file():
        raise RecipeError(
            f"there is no `{CONFIG}`",
            where=str(path),
            fix="Give a folder that transformers' `save_pretrained` has written",
        )
    document = read_json(path / CONFIG, MOST_CONFIG)
    where, model_type = str(path / CONFIG), document.get("model_type")
    if not isinstance(model_type, str) or model_type not in KNOWN:
        own = "its code lies beside it, which isn't run" if "auto_map" in document else ""
        raise RecipeError(
            f"a network of the type `{model_type!s:.40}` isn't known here",
            where=where,
            why=own[:1].upper() + own[1:],
            fix=f"Known are {', '.join(KNOWN)}",
        )
    if "quantization_config" in document:
        raise RecipeError(
            "the weights are quantized, and such weights can't be trained further",
            where=where,
            fix="Take the folder that it was made from",
        )
    if document.get("position_embedding_type", "absolute") != "absolute":
        raise RecipeError(
            "its relative positions (`position_embedding_type`) aren't known", where=where
        )
    settings = _settings(model_type, document, where)
    numbers = _numbers(path, document) if model_type in SEQ2SEQ else {}
    return PretrainedFolder(path, model_type, settings, numbers)


def _numbers(path: Path, document: Mapping[str, Any]) -> dict[str, int]:
    """Return the numbers of padding, begin and end of a network that writes."""
    more = path / _GENERATION
    held = {**(read_json(more, MOST_CONFIG) if more.is_file() else {}), **document}
    wanted = {
        "padding": "pad_token_id",
        "begin": "decoder_start_token_id",
        "end": "eos_token_id",
    }
    found = {}
    for name, key in wanted.items():
        number = held.get(key)
        if type(number) is not int:
            raise RecipeError(
                f"`{key}` isn't a token's number",
                where=str(path / CONFIG),
                why="Without it a text has no begin or no end",
            )
        found[name] = number
    return found


def _settings(model_type: str, document: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the settings of a folder, with the library's defaults and in today's spelling."""
    library = _library()
    given = {name: value for name, value in document.items() if name not in _OF_THE_LIBRARY}
    given = {name: value for name, value in given.items() if not name.startswith("_")}
    try:
        whole = library.AutoConfig.for_model(model_type, **given).to_dict()
    except Exception as error:
        raise RecipeError(
            "the settings aren't those of its network", where=where, why=first_line(error)
        ) from error
    found = {name: whole[name] for name in sorted(_own_settings(model_type) & whole.keys())}
    spec = PretrainedModel(
        name="transformers",
        model_type=model_type,
        config=found,
        pooling=None,
        dropout=None,
        numbering=None,
    )
    try:
        check_config(spec)
    except ModelwrightError as error:
        raise RecipeError(error.what, where=where, fix=error.fix) from error
    return found


_OF_THE_LIBRARY = frozenset(
    {
        "architectures",
        "attn_implementation",
        "auto_map",
        "dtype",
        "experts_implementation",
        "model_type",
        "torch_dtype",
        "transformers_version",
    }
)
"""Settings that say how the library is to work, and not what the network is."""


# -- weights ---------------------------------------------------------------------------------


def take_weights(network: Encoder | PretrainedSeq2Seq, folder: PretrainedFolder) -> list[str]:
    """Put a folder's weights into a network; an encoder's head keeps its own.

    Returns:
        The names of the folder's weights that have no place in it, such as those of another head.

    Raises:
        RecipeError: weights are missing or have other shapes.
    """
    held = folder.weights()
    inner = network.network if isinstance(network, PretrainedSeq2Seq) else network.encoder
    if isinstance(network, Encoder):
        held = _renamed(held, str(inner.base_model_prefix))
    return fill(inner, held, where=folder.path, asks=f"`{CONFIG}`", needless=_needless(inner, held))


def _needless(inner: nn.Module, held: Mapping[str, Tensor]) -> frozenset[str]:
    """Return the weights that a folder may leave out: another's, by two names, and fixed tables."""
    own = inner.state_dict()
    filled = {own[name].data_ptr() for name in own.keys() & held.keys()}
    fixed = {name for name, item in inner.named_parameters() if not item.requires_grad}
    shared = {name for name, item in own.items() if item.data_ptr() in filled}
    return frozenset(shared | fixed)


def _renamed(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return weights by their names in the encoder alone, and by today's names of norms."""
    start = f"{prefix}."
    found = {}
    for name, held in weights.items():
        stem, _, last = name.removeprefix(start).rpartition(".")
        if stem.endswith("LayerNorm"):
            last = {"gamma": "weight", "beta": "bias"}.get(last, last)
        found[f"{stem}.{last}" if stem else last] = held
    return found
