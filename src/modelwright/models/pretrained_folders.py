"""Folders as transformers saves them: settings as JSON, weights as safetensors, nothing else.

What is read is checked by name; nothing is fetched, no pickle is opened, and no code that lies
beside is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from modelwright.errors import ModelwrightError, RecipeError
from modelwright.files import Json, JsonObject
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
    load_weights,
    no_weights,
    parse_object,
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
"""What a network does with a text: classifies it, generates another from it, or continues it."""


@dataclass(frozen=True, slots=True)
class PretrainedFolder:
    """A folder as transformers saves it, with its settings read and nothing else."""

    path: Path
    model_type: str
    config: JsonObject
    """The settings of its kind of network, all of them."""
    special_ids: dict[str, int | None]
    """Of a network that generates text, its token ids of padding, begin and end."""
    content: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Files of it that were read before, by name: their bytes are used."""

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
        if TOKENIZER in self.content:
            return self.content[TOKENIZER]
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
        if not (self.path / _INDEX).is_file():
            raise no_weights(
                self.path, fix="Save them with transformers: model.save_pretrained(FOLDER)"
            )
        where = str(self.path / _INDEX)
        weight_map = read_json(self.path / _INDEX, _MOST_INDEX).get("weight_map")
        names = list(weight_map.values()) if isinstance(weight_map, dict) else []
        if not all(isinstance(name, str) for name in names):
            raise RecipeError("its `weight_map` holds what is no name of a file", where=where)
        names = sorted(set(names))
        for name in names:
            # Only files of this folder: a name must not be a path.
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise RecipeError(
                    f"it names `{name:.60}`, which isn't a file of weights", where=where
                )
            if not (self.path / name).is_file():
                raise RecipeError(f"`{name}` isn't there", where=where)
        if not names:
            raise RecipeError("it names no file", where=where)
        return [self.path / name for name in names]

    def weights(self) -> dict[str, Tensor]:
        """Return the weights by their names there, in fp32.

        Raises:
            RecipeError: there are none, only pickles, or a file is damaged or cut short.
        """
        if WEIGHTS in self.content:
            return load_weights(self.content[WEIGHTS], where=self.path / WEIGHTS)
        return read_weights(self.weight_files())

    def digest(self) -> str:
        """Return the SHA-256 of the files of weights, one after the other."""
        return digest_of(self.weight_files())


def open_folder(path: Path, content: Mapping[str, bytes] | None = None) -> PretrainedFolder:
    """Read the settings of a folder that transformers saved.

    Args:
        path: the folder.
        content: files of it that were read before, by name.

    Raises:
        RecipeError: it is none, or of a kind that isn't known here.
        MissingExtraError: the library `transformers` isn't installed.
    """
    if not path.is_dir():
        raise RecipeError("this is a file, not a folder", where=str(path))
    if not (path / CONFIG).is_file():
        raise RecipeError(
            f"there is no `{CONFIG}`",
            where=str(path),
            fix="Give a folder that transformers' `save_pretrained` has written",
        )
    read = {} if content is None else content
    document = (
        parse_object(read[CONFIG], where=path / CONFIG)
        if CONFIG in read
        else read_json(path / CONFIG, MOST_CONFIG)
    )
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
    special_ids: dict[str, int | None] = {}
    if model_type not in ENCODERS:
        special_ids = _special_ids(path, document, model_type)
    size = settings["vocab_size"]
    for name, token_id in special_ids.items():
        if token_id is not None and not 0 <= token_id < size:
            raise RecipeError(
                f"the {name} token has the id {token_id}, and the vocabulary {size:,} tokens",
                where=where,
            )
    return PretrainedFolder(path, model_type, settings, special_ids, read)


def _special_ids(
    path: Path, document: Mapping[str, Json], model_type: str
) -> dict[str, int | None]:
    """Return the token ids of padding, begin and end of a network that generates text."""
    generation = path / _GENERATION
    settings = {**(read_json(generation, MOST_CONFIG) if generation.is_file() else {}), **document}
    if model_type in DECODERS:
        required = {"end": "eos_token_id"}
        ends = settings.get("eos_token_id")
        end = ends[0] if isinstance(ends, list) and ends else ends
        # Some use one token for all three, and some declare only the end.
        begin, padding = settings.get("bos_token_id"), settings.get("pad_token_id")
        begin = begin if type(begin) is int else end
        ids = {"padding": padding if padding != end else None, "begin": begin, "end": end}
    else:
        required = {
            "padding": "pad_token_id",
            "begin": "decoder_start_token_id",
            "end": "eos_token_id",
        }
        ids = {name: settings.get(key) for name, key in required.items()}
    for name, key in required.items():
        if type(ids[name]) is not int:
            raise RecipeError(
                f"`{key}` isn't a token id",
                where=str(path / CONFIG),
                why="Without it a text has no begin or no end",
            )
    return {name: item if type(item) is int else None for name, item in ids.items()}


def _settings(model_type: str, document: Mapping[str, Json], where: str) -> JsonObject:
    """Return the settings of a folder, with the library's defaults and in today's spelling."""
    library = library_of_networks()
    own = {
        name: value
        for name, value in document.items()
        if name not in _OF_THE_LIBRARY and not name.startswith("_")
    }
    try:
        whole = library.AutoConfig.for_model(model_type, **own).to_dict()
    except Exception as error:
        raise RecipeError(
            "the settings aren't those of its network", where=where, why=first_line(error)
        ) from error
    config = {name: whole[name] for name in sorted(own_settings(model_type) & whole.keys())}
    try:
        check_config(PretrainedModel(name="transformers", model_type=model_type, config=config))
    except ModelwrightError as error:
        raise RecipeError(error.what, where=where, fix=error.fix) from error
    return config


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
"""Settings of the library, not of the network."""


# -- weights ---------------------------------------------------------------------------------

_HEAD, _OLD_HEAD = "lm_head.weight", "embed_out.weight"
"""The weights behind a language model's states, today and as GPT-NeoX's files name them."""

_OLD_NORMS = {"gamma": "weight", "beta": "bias"}
"""The weights of norms, as old files of encoders name them."""


def take_weights(network: Encoder | PretrainedGenerator, folder: PretrainedFolder) -> list[str]:
    """Put a folder's weights into a network; an encoder's head keeps its own.

    Returns:
        The names of the folder's weights that have no place in it, such as those of another head.

    Raises:
        RecipeError: weights are missing or have other shapes.
    """
    inner = network.encoder if isinstance(network, Encoder) else network.network
    weights = _renamed(folder, inner, folder.weights())
    for names in _names(inner):
        present = [name for name in names if name in weights]
        if any(not torch.equal(weights[name], weights[present[0]]) for name in present[1:]):
            raise RecipeError(
                f"the weights `{present[0]}` and `{present[1]}` differ, and `{CONFIG}` says that "
                "they are one",
                where=str(folder.path),
                fix="Write `tie_word_embeddings: false` there, if both were trained",
            )
    optional = _optional(inner, weights)
    return fill(inner, weights, where=folder.path, source=f"`{CONFIG}`", optional=optional)


def check_shapes(
    folder: PretrainedFolder, spec: PretrainedModel, headers: Sequence[Path] = ()
) -> None:
    """Refuse a folder whose weights aren't those that its settings ask for, before any are drawn.

    Args:
        folder: the folder.
        spec: what a model file keeps of the network.
        headers: files that begin as those of the weights, where these aren't in the folder yet.

    Raises:
        RecipeError: weights are missing or have other shapes.
        ModelFileError: the library can't build the network from the settings.
    """
    with torch.device("meta"):
        inner = built(spec)
    if headers:
        shapes = read_shapes(headers)
    else:
        shapes = read_weights(folder.weight_files(), shapes_only=True)
    shapes = _renamed(folder, inner, shapes)
    check_fit(
        inner.state_dict(),
        shapes,
        where=folder.path,
        source=f"`{CONFIG}`",
        optional=_optional(inner, shapes),
    )


def _renamed(
    folder: PretrainedFolder, inner: nn.Module, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return weights by their names in the network, with today's names of norms and heads."""
    start = f"{inner.base_model_prefix}."
    if folder.architecture == "seq2seq":
        return dict(weights)
    if folder.architecture == "encoder":
        return {_norm_name(name.removeprefix(start)): item for name, item in weights.items()}
    renamed = {_HEAD if name == _OLD_HEAD else name: item for name, item in weights.items()}
    if any(name.startswith(start) for name in renamed):
        return renamed
    # Some folders have the network without its head, and name the weights so.
    return {name if name == _HEAD else start + name: item for name, item in renamed.items()}


def _norm_name(name: str) -> str:
    stem, _, last = name.rpartition(".")
    if not stem.endswith("LayerNorm"):
        return name
    return f"{stem}.{_OLD_NORMS.get(last, last)}"


def _optional(inner: nn.Module, weights: Mapping[str, Tensor]) -> set[str]:
    """Return the weights that a folder may leave out: another's, by two names, and fixed tables."""
    optional = {name for name, item in inner.named_parameters() if not item.requires_grad}
    for names in _names(inner):
        if any(name in weights for name in names):
            optional.update(names)
    return optional


def _names(inner: nn.Module) -> list[list[str]]:
    """Return the names of each parameter; most have one."""
    names: dict[int, list[str]] = {}
    for name, item in inner.named_parameters(remove_duplicate=False):
        names.setdefault(id(item), []).append(name)
    return list(names.values())
