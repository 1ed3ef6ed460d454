"""Starting from a pretrained network of transformers, and training adapters beside a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from torch import nn

from modelwright.errors import MissingExtraError, ModelwrightError, RecipeError
from modelwright.initialization.fetching import began_with, snapshot_of
from modelwright.initialization.published import lineage_step, published_files
from modelwright.models.candidate import Candidate
from modelwright.models.lora import adapt
from modelwright.models.pretrained import Encoder, PretrainedModel
from modelwright.models.pretrained_folders import (
    TOKENIZER,
    Architecture,
    PretrainedFolder,
    check_shapes,
    open_folder,
    take_weights,
)
from modelwright.models.pretrained_generators import PretrainedGenerator
from modelwright.recipe.model import AdaptersSpec, MinilmModel, TransformersModel
from modelwright.run import Run, RunRequest
from modelwright.transforms.hf_tokenizer import HFTokenizer, TokenIdMap, read_foreign
from modelwright.transforms.text import TextInput, TextKind

_INPUTS: dict[Architecture, TextKind] = {
    "encoder": "text",
    "seq2seq": "source",
    "causal_lm": "prompt",
}


AnyPretrained = TransformersModel | MinilmModel


def has_weights(spec: AnyPretrained) -> bool:
    """Say whether the weights are here: those of a hub aren't, while a run is only checked."""
    return not _is_from_hub(spec) or snapshot_of(spec).is_whole


def _is_from_hub(spec: AnyPretrained) -> TypeGuard[TransformersModel]:
    return isinstance(spec, TransformersModel) and spec.hub is not None


def _key(spec: AnyPretrained) -> str:
    return "model.hub" if _is_from_hub(spec) else "model.path"


def pretrained_folder(spec: AnyPretrained, request: RunRequest) -> PretrainedFolder:
    """Return the folder that a recipe names, or that holds the published weights that it names.

    Raises:
        RecipeError: it isn't there, or can't be used.
        MissingExtraError: the package of published weights isn't installed.
    """
    try:
        if isinstance(spec, MinilmModel):
            files = published_files(spec.name)
            return open_folder(files.folder, files.content)
        return open_folder(_found(spec, request))
    except (MissingExtraError, RecipeError) as error:
        error.at(request.recipe.place_of(_key(spec)))
        raise


def _found(spec: TransformersModel, request: RunRequest) -> Path:
    if spec.path is None:
        return snapshot_of(spec).folder
    try:
        return request.find(spec.path)
    except RecipeError as error:
        error.fix = (
            "Give the folder of a network that lies on this machine, or write `hub: ORG/NAME` in "
            "place of `path`"
        )
        raise


def pretrained_section(
    spec: AnyPretrained, folder: PretrainedFolder, token_ids: TokenIdMap | None
) -> PretrainedModel:
    """Return what a model file keeps of the network."""
    is_encoder = folder.architecture == "encoder"
    return PretrainedModel(
        name="transformers",
        model_type=folder.model_type,
        config=folder.config,
        pooling=spec.pooling if is_encoder else None,
        dropout=spec.dropout if is_encoder else None,
        token_ids=None if token_ids is None else token_ids.to_json(),
    )


def pretrained_input(spec: AnyPretrained, request: RunRequest) -> TextInput:
    """Return how the network takes texts: with its own tokenizer, as long as it can read.

    Raises:
        RecipeError: the network isn't for the task, the tokenizer can't be used, or longer texts
            are asked for.
    """
    folder = pretrained_folder(spec, request)
    _check_task(spec, folder, request)
    text, where = request.recipe.text, request.recipe.place_of("text.max_length")
    section = pretrained_section(spec, folder, None)
    max_length = section.max_length
    if not isinstance(spec, MinilmModel):  # Of these every byte is known.
        check_shapes(
            folder,
            section,
            ()
            if has_weights(spec) or not _is_from_hub(spec)
            else snapshot_of(spec).weight_headers(),
        )
    if "max_length" in text.model_fields_set and text.max_length > max_length:
        raise RecipeError(
            f"the network of {folder.path.name} reads {max_length:,} tokens at most, and "
            f"`text.max_length` is {text.max_length:,}",
            where=where,
            fix="Leave `max_length` out, or write less",
        )
    tokenizer = _tokenizer(folder)
    kind = _INPUTS[folder.architecture]
    input = TextInput(tokenizer, min(text.max_length, max_length), kind, section.places)
    if input.room < 1:
        raise RecipeError(
            f"`text.max_length` is {input.max_length}, and the tokenizer puts as many tokens "
            "around each text",
            where=where,
            fix="Write more",
        )
    return input


def _tokenizer(folder: PretrainedFolder) -> HFTokenizer:
    """Return a folder's tokenizer; for a network that generates text, with our token ids."""
    data = folder.tokenizer_bytes()
    try:
        plain = read_foreign(data, None)
        if folder.architecture == "encoder":
            return plain
        unknown = plain.unknown if plain.has_unknown else None
        if folder.architecture == "causal_lm" and unknown in folder.special_ids.values():
            unknown = None  # Another token stands for it, and is never meant by it.
        size = folder.config["vocab_size"]
        token_ids = {**folder.special_ids, "unknown": unknown, "size": size}
        return read_foreign(data, TokenIdMap.from_json(token_ids))
    except ModelwrightError as error:
        raise RecipeError(
            error.what, where=str(folder.path / TOKENIZER), why=error.why, fix=error.fix
        ) from error


def _check_task(spec: AnyPretrained, folder: PretrainedFolder, request: RunRequest) -> None:
    task, name, output = request.recipe.task, folder.path.name, request.recipe.output_kind
    needed = str(output) if output.is_generative else "encoder"
    if folder.architecture != needed:
        raise RecipeError(
            f"the network of {name} (`{folder.model_type}`) is of the kind `{folder.architecture}`,"
            f" and `task: {task}` needs one of the kind `{needed}`",
            where=request.recipe.place_of(_key(spec)),
            fix="Take an encoder such as BERT for labels and numbers, a seq2seq network such as T5 "
            "for texts from texts, and a causal LM such as GPT-2 or Llama for language modeling",
        )


def start_from(
    network: nn.Module, spec: AnyPretrained, folder: PretrainedFolder, context: Run
) -> dict[str, Any]:
    """Put a folder's weights into its network; return the step of lineage."""
    assert isinstance(network, Encoder | PretrainedGenerator)
    unused = take_weights(network, folder)
    source: dict[str, Any]
    if isinstance(spec, MinilmModel):
        source, shown = lineage_step(spec.name), f"the published weights `{spec.name}`"
    elif _is_from_hub(spec):
        found = snapshot_of(spec)
        source, shown = began_with(found, context), f"{found.repo}, commit {found.commit[:7]}"
    else:
        source, shown = {"folder": folder.path.name}, folder.path.name
    context.say(
        f"The network starts from {shown} ({folder.model_type})"
        + (f"; {len(unused)} of its weights aren't used, such as {unused[0]}" if unused else "")
    )
    step = {"step": "pretrained", **source, "model_type": folder.model_type}
    return step if isinstance(spec, MinilmModel) else {**step, "weights": folder.digest()}


def with_adapters(candidate: Candidate, spec: AdaptersSpec, context: Run) -> Candidate:
    """Return a candidate of which adapters learn, and a last layer for labels or numbers.

    Raises:
        RecipeError: a pattern matches no layer.
    """
    adapted = adapt(
        candidate.network,
        rank=spec.rank,
        alpha=spec.alpha,
        match=spec.match,
        head=not candidate.output_kind.is_generative,
    )
    context.say(
        f"{adapted.trained:,} of {adapted.parameters:,} parameters learn "
        f"({adapted.trained / adapted.parameters:.1%}): adapters of rank {spec.rank} beside "
        f"{len(adapted.layers)} layers, and what is new"
    )
    step = {
        "step": "adapters",
        "rank": spec.rank,
        "alpha": spec.alpha,
        "layers": len(adapted.layers),
        "trained": adapted.trained,
    }
    return replace(candidate, lineage=(*candidate.lineage, step))
