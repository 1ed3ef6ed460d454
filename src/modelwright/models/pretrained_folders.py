"""Folders as transformers saves them: settings as JSON, weights as safetensors, nothing else.

What is read is checked by name; nothing is fetched, no pickle is opened, and no code that lies
beside is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from modelwright.errors import ModelwrightError, RecipeError
from modelwright.models.pretrained import (
    DECODERS,
    ENCODERS,
    KNOWN,
    SEQ2SEQ,
    Encoder,
    PretrainedModel,
    built,
    check_config,
    library_of_networks,
    own_settings,
)
from modelwright.models.pretrained_generators import PretrainedGenerator
from modelwright.models.pretrained_io import (
    CONFIG,
    MOST_CONFIG,
    WEIGHTS,
    check_fit,
    digest_of,
    fill,
    first_line,
    no_weights,
    read_bytes,
    read_json,
    read_shapes,
    read_weights,
)

TOKENIZER = "tokenizer.json"
_GENERATION = "generation_config.json"
_INDEX = f"{WEIGHTS}.index.json"
_MOST_INDEX = 64 << 20
Architecture = Literal["encoder", "seq2seq", "causal_lm"]
"""What a network does with a text: answers it, writes another from it, or goes on with it."""


@dataclass(frozen=True, slots=True)
class PretrainedFolder:
    """A folder as transformers saves it, with its settings read and nothing else."""

    path: Path
    model_type: str
    config: dict[str, Any]
    """The settings of its kind of network, all of them."""
    numbers: dict[str, int | None]
    """Of a network that writes, the numbers of padding, begin and end."""

    @property
    def architecture(self) -> Architecture:
        """What its network does with a text."""
        if self.model_type in ENCODERS:
            return "encoder"
        return "seq2seq" if self.model_type in SEQ2SEQ else "causal_lm"

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
        named = list(held.values()) if isinstance(held, dict) else []
        if not all(isinstance(name, str) for name in named):
            raise RecipeError("its `weight_map` holds what is no name of a file", where=where)
        names = sorted(set(named))
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
    numbers: dict[str, int | None] = {}
    if model_type not in ENCODERS:
        numbers = _numbers(path, document, model_type)
    size = settings["vocab_size"]
    for name, number in numbers.items():
        if number is not None and not 0 <= number < size:
            raise RecipeError(
                f"the token of {name} has the number {number}, and the vocabulary {size:,} tokens",
                where=where,
            )
    return PretrainedFolder(path, model_type, settings, numbers)


def _numbers(path: Path, document: Mapping[str, Any], model_type: str) -> dict[str, int | None]:
    """Return the numbers of padding, begin and end of a network that writes."""
    more = path / _GENERATION
    held = {**(read_json(more, MOST_CONFIG) if more.is_file() else {}), **document}
    if model_type in DECODERS:
        ends = held.get("eos_token_id")
        end = ends[0] if isinstance(ends, list) and ends else ends
        # Some have one token for all three, and some say of the end alone.
        begin = held.get("bos_token_id") if type(held.get("bos_token_id")) is int else end
        padding = held.get("pad_token_id")
        found = {"padding": padding if padding != end else None, "begin": begin, "end": end}
        wanted = {"end": "eos_token_id"}
    else:
        wanted = {
            "padding": "pad_token_id",
            "begin": "decoder_start_token_id",
            "end": "eos_token_id",
        }
        found = {name: held.get(key) for name, key in wanted.items()}
    for name, key in wanted.items():
        if type(found[name]) is not int:
            raise RecipeError(
                f"`{key}` isn't a token's number",
                where=str(path / CONFIG),
                why="Without it a text has no begin or no end",
            )
    return {name: held if type(held) is int else None for name, held in found.items()}


def _settings(model_type: str, document: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the settings of a folder, with the library's defaults and in today's spelling."""
    library = library_of_networks()
    given = {name: value for name, value in document.items() if name not in _OF_THE_LIBRARY}
    given = {name: value for name, value in given.items() if not name.startswith("_")}
    try:
        whole = library.AutoConfig.for_model(model_type, **given).to_dict()
    except Exception as error:
        raise RecipeError(
            "the settings aren't those of its network", where=where, why=first_line(error)
        ) from error
    found = {name: whole[name] for name in sorted(own_settings(model_type) & whole.keys())}
    spec = PretrainedModel(
        name="transformers",
        model_type=model_type,
        config=found,
        pooling=None,
        dropout=None,
        token_ids=None,
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

_HEAD, _OLD_HEAD = "lm_head.weight", "embed_out.weight"
"""The weights behind a language model's states, today and as GPT-NeoX's files name them."""


def take_weights(network: Encoder | PretrainedGenerator, folder: PretrainedFolder) -> list[str]:
    """Put a folder's weights into a network; an encoder's head keeps its own.

    Returns:
        The names of the folder's weights that have no place in it, such as those of another head.

    Raises:
        RecipeError: weights are missing or have other shapes.
    """
    inner = network.encoder if isinstance(network, Encoder) else network.network
    held = _placed(folder, inner, folder.weights())
    for names in _names(inner):
        given = [name for name in names if name in held]
        if any(not torch.equal(held[name], held[given[0]]) for name in given[1:]):
            raise RecipeError(
                f"the weights `{given[0]}` and `{given[1]}` differ, and `{CONFIG}` says that they "
                "are one",
                where=str(folder.path),
                fix="Write `tie_word_embeddings: false` there, if both were trained",
            )
    return fill(inner, held, where=folder.path, asks=f"`{CONFIG}`", needless=_needless(inner, held))


def check_shapes(folder: PretrainedFolder, spec: PretrainedModel) -> None:
    """Refuse a folder whose weights aren't those that its settings ask for, before any are drawn.

    Raises:
        RecipeError: weights are missing or have other shapes.
        ModelFileError: the library can't build the network from the settings.
    """
    with torch.device("meta"):
        inner = built(spec)
    held = _placed(folder, inner, read_shapes(folder.weight_files()))
    check_fit(
        inner.state_dict(),
        held,
        where=folder.path,
        asks=f"`{CONFIG}`",
        needless=_needless(inner, held),
    )


def _placed(
    folder: PretrainedFolder, inner: nn.Module, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return weights by their names in the network."""
    prefix = str(inner.base_model_prefix)
    if folder.architecture == "encoder":
        return _renamed(weights, prefix)
    return _with_head(weights, prefix) if folder.architecture == "causal_lm" else dict(weights)


def _with_head(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return weights by their names in the network with its head.

    Some folders hold what is within alone, and name it so.
    """
    found = {_HEAD if name == _OLD_HEAD else name: held for name, held in weights.items()}
    if any(name.startswith(f"{prefix}.") for name in found):
        return found
    return {name if name == _HEAD else f"{prefix}.{name}": held for name, held in found.items()}


def _needless(inner: nn.Module, held: Mapping[str, Tensor]) -> frozenset[str]:
    """Return the weights that a folder may leave out: another's, by two names, and fixed tables."""
    fixed = {name for name, item in inner.named_parameters() if not item.requires_grad}
    shared = {
        name for names in _names(inner) if any(name in held for name in names) for name in names
    }
    return frozenset(shared | fixed)


def _names(inner: nn.Module) -> list[list[str]]:
    """Return the names of each parameter; most have one."""
    found: dict[int, list[str]] = {}
    for name, item in inner.named_parameters(remove_duplicate=False):
        found.setdefault(id(item), []).append(name)
    return list(found.values())


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
