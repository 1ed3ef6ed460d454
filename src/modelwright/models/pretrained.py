"""Pretrained networks for texts, as the library `transformers` builds them.

From that library comes the code of the networks alone. Folders are read here: their settings as
JSON and their weights as safetensors, never a pickle, never code that lies beside them, and nothing
is ever fetched. What a model file keeps is the settings, of which every name must be known.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from pydantic import JsonValue
from torch import Tensor, nn

from modelwright.errors import ModelFileError, RecipeError, require
from modelwright.kinds import InputKind
from modelwright.models.network import SequenceNetwork, TextFrame
from modelwright.models.padding import mask, masked_mean
from modelwright.models.pretrained_generators import PretrainedDecoder, PretrainedSeq2Seq
from modelwright.models.pretrained_io import first_line
from modelwright.recipe.networks import Dropout
from modelwright.recipe.spec import Spec
from modelwright.transforms.hf_tokenizer import MOST_TOKENS, TokenIdMap

_MOST = 1 << 24
"""No number of a network's settings may be larger."""
_MOST_BASE = 1 << 40
"""The largest base of rotary positions."""
_MOST_LAYERS = 512
_MOST_RELATIVE = 100_000
"""The longest text where positions are relative: the most that `text.max_length` takes."""

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
"""The encoders that are known here, by `model_type`. Where it says 1, the positions of a text are
counted from one behind the id of padding, which takes that many of `max_position_embeddings`."""
SEQ2SEQ: dict[str, int | None] = {"bart": 2, "marian": 1, "mt5": None, "pegasus": 1, "t5": None}
"""The networks that generate a text from another, by `model_type`: how many of
`max_position_embeddings` a text can't have, for what it begins with; none where positions are
relative and a text may have any length."""
DECODERS: dict[str, tuple[str, bool]] = {
    "gemma": ("max_position_embeddings", False),
    "gpt2": ("n_positions", True),
    "gpt_neox": ("max_position_embeddings", False),
    "llama": ("max_position_embeddings", False),
    "mistral": ("max_position_embeddings", False),
    "opt": ("max_position_embeddings", True),
    "phi": ("max_position_embeddings", False),
    "qwen2": ("max_position_embeddings", False),
    "qwen3": ("max_position_embeddings", False),
    "smollm3": ("max_position_embeddings", False),
}
"""The networks that continue a text, by `model_type`: the setting that says on how long texts they
were trained, and whether they have a table of that many positions, so that none lies beyond it."""
_ROPES = ("default", "linear", "llama3", "yarn")
"""The kinds of rotary positions that are the same however long a text is."""
KNOWN = (*ENCODERS, *SEQ2SEQ, *DECODERS)


class PretrainedModel(Spec):
    """What a model file keeps of a network of transformers; `rebuild` reads it back."""

    inputs = frozenset({InputKind.TEXT})
    name: Literal["transformers"]
    model_type: str
    """The library's name of the kind of network."""
    config: dict[str, JsonValue]
    """The library's settings of that kind, all of them."""
    pooling: Literal["first", "mean"] | None = None
    """How an encoder's states become one vector."""
    dropout: Dropout | None = None
    """The share dropped before an encoder's last layer, in training."""
    token_ids: dict[str, int | None] | None = None
    """Of a network that generates text, the map of its token ids to ours."""

    @property
    def max_length(self) -> int:
        """The most tokens of a text."""
        if self.model_type in SEQ2SEQ and SEQ2SEQ[self.model_type] is None:
            return _MOST_RELATIVE
        positions = cast("int", self.config[_positions(self.model_type)])
        if self.model_type in DECODERS:
            return positions if self.window is None else min(positions, self.window)
        if self.model_type in SEQ2SEQ:
            return positions - (SEQ2SEQ[self.model_type] or 0)
        if ENCODERS[self.model_type]:
            padding = self.config.get("pad_token_id")
            return positions - 1 - (padding if isinstance(padding, int) else 0)
        return positions

    @property
    def places(self) -> int | None:
        """The most tokens of a prompt with its continuation, where there is such a limit.

        The limit is a table of positions, or a window beyond which a token no longer sees all.
        """
        if self.model_type not in DECODERS:
            return None
        return self.max_length if DECODERS[self.model_type][1] or self.window else None

    @property
    def window(self) -> int | None:
        """How far back a token of a decoder sees, where that isn't to the beginning."""
        window = self.config.get("sliding_window")
        is_narrow = self.config.get("use_sliding_window", True)
        return window if isinstance(window, int) and is_narrow else None


def _positions(model_type: str) -> str:
    """Return the setting that says how long texts may be."""
    return DECODERS[model_type][0] if model_type in DECODERS else "max_position_embeddings"


class Encoder(SequenceNetwork):
    """A pretrained encoder, one vector of its states, and a linear `head` of our own.

    Raises:
        ModelFileError: the library can't build it from these settings.
        MissingExtraError: the library `transformers` isn't installed.
    """

    def __init__(self, spec: PretrainedModel, num_outputs: int) -> None:
        super().__init__()
        assert spec.pooling is not None
        assert spec.dropout is not None
        self.encoder = built(spec)
        width = int(self.encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
        padding = spec.config.get("pad_token_id")
        self.padding = padding if isinstance(padding, int) else 0
        self.pooling = spec.pooling
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(width, num_outputs)

    def features(self, tokens: Tensor, length: Tensor) -> Tensor:
        """Return what the head gets, `[N, D]`; the arguments are those of `forward`."""
        is_real = mask(length, tokens.shape[1])
        # Padding is masked, but some networks count positions by its id.
        ids = tokens.masked_fill(~is_real, self.padding)
        x: Tensor = self.encoder(input_ids=ids, attention_mask=is_real.long())[0]
        pooled = x[:, 0] if self.pooling == "first" else masked_mean(x, length)
        dropped: Tensor = self.dropout(pooled)
        return dropped


def build_pretrained(spec: PretrainedModel, frame: TextFrame) -> nn.Module:
    """Build a network of transformers, with fresh weights.

    Raises:
        RecipeError: texts may be longer than it takes, or have tokens that it doesn't know.
        ModelFileError: the settings can't be used.
    """
    check_config(spec)
    vocabulary = cast("int", spec.config["vocab_size"])
    if spec.model_type not in ENCODERS:
        token_ids = TokenIdMap.from_json(spec.token_ids)
        if token_ids is None:
            raise ModelFileError("the architecture has no map of token ids")
        sizes = {frame.vocabulary, frame.num_outputs}
        if token_ids.size != vocabulary or sizes != {token_ids.count}:
            raise ModelFileError("the map of token ids isn't of the network's vocabulary")
        if spec.model_type in SEQ2SEQ:
            return PretrainedSeq2Seq(built(spec), token_ids)
        return PretrainedDecoder(built(spec), token_ids)
    if spec.pooling is None or spec.dropout is None or spec.token_ids is not None:
        raise ModelFileError("an encoder's section has no `pooling` or no `dropout`, or token ids")
    if frame.max_length > spec.max_length:
        raise RecipeError(
            f"texts of {frame.max_length:,} tokens are longer than the network takes",
            fix=f"Write `text: {{max_length: {spec.max_length}}}`, or less",
        )
    if frame.vocabulary > vocabulary:
        raise RecipeError(
            f"the tokenizer has {frame.vocabulary:,} tokens, and the network knows {vocabulary:,}",
            fix="Use the tokenizer that the network was trained with",
        )
    return Encoder(spec, frame.num_outputs)


# -- settings --------------------------------------------------------------------------------


def library_of_networks() -> Any:
    """Return transformers, silenced.

    Raises:
        MissingExtraError: it isn't installed.
    """
    library = require("transformers", extra="finetune", purpose="a network of transformers")
    library.logging.set_verbosity_error()  # It has no word for the user that isn't said here.
    return library


def own_settings(model_type: str) -> frozenset[str]:
    """Return the settings by which one kind of network differs from another of its kind."""
    library = library_of_networks()
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
    )
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
    config, own = spec.config, own_settings(spec.model_type)
    # One that is missing has the library's default: a newer version may have more of them.
    for name in sorted(config.keys() - own):
        raise ModelFileError(
            f"the network's setting `{name:.60}` is unknown",
            fix="Use the version of transformers in constraints.txt",
        )
    for name, value in config.items():
        most = _MOST_LAYERS if "layers" in name or "group" in name else _MOST
        if name.startswith("rope_"):
            most = _MOST_BASE
        if not _is_plain(value, most):
            raise ModelFileError(f"the network's setting `{name}` isn't a plain value in bounds")
    sizes = ["vocab_size"]
    if SEQ2SEQ.get(spec.model_type, 0) is not None:
        sizes.append(_positions(spec.model_type))
    for name in sizes:
        if type(config.get(name)) is not int:
            raise ModelFileError(f"the network's setting `{name}` isn't a whole number")
    rope = config.get("rope_parameters") or {}
    kind = rope.get("rope_type", "default") if isinstance(rope, dict) else "none"
    if kind not in _ROPES:
        raise ModelFileError(
            f"its rotary positions are of the type `{kind!s:.40}`, which isn't known here",
            why="Those that change with a text's length can't be exported",
        )
    kinds = config.get("layer_types")
    if spec.model_type in DECODERS and isinstance(kinds, list) and spec.window is None:
        others = [kind for kind in kinds if kind != "full_attention"]
        if others:
            raise ModelFileError(
                f"its layers are of the type `{others[0]!s:.40}`, and no window is set"
            )
    for name, least in (("vocab_size", 4), ("sliding_window", 2)):
        size = config.get(name)
        if isinstance(size, int) and not least <= size <= MOST_TOKENS:
            raise ModelFileError(
                f"the network's setting `{name}` is {size:,}",
                fix=f"{least} to {MOST_TOKENS:,} is taken",
            )
    is_encoder = spec.model_type in ENCODERS
    if is_encoder and (config.get("is_decoder") or config.get("add_cross_attention")):
        raise ModelFileError("the network is set to read as a decoder (`is_decoder`)")


def _is_plain(value: JsonValue, most: int, depth: int = 0) -> bool:
    if isinstance(value, dict | list):
        items = list(value.values()) if isinstance(value, dict) else value
        fits = depth < 3 and len(items) <= _MOST_LAYERS
        return fits and all(_is_plain(item, most, depth + 1) for item in items)
    if isinstance(value, str):
        return len(value) <= 100
    return value is None or isinstance(value, bool) or abs(value) <= most


def built(spec: PretrainedModel) -> nn.Module:
    """Return the library's network."""
    library = library_of_networks()
    auto = library.AutoModelForCausalLM
    if spec.model_type in ENCODERS:
        auto = library.AutoModel
    elif spec.model_type in SEQ2SEQ:
        auto = library.AutoModelForSeq2SeqLM
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
