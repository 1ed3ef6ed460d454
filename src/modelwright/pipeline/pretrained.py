"""Starting from a network that was trained elsewhere, and training adapters beside a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from modelwright.errors import ModelwrightError, RecipeError
from modelwright.models.candidate import Candidate
from modelwright.models.lora import adapt
from modelwright.models.pretrained import (
    TOKENIZER,
    Encoder,
    PretrainedFolder,
    PretrainedModel,
    open_folder,
    take_weights,
)
from modelwright.pipeline.asking import Asked
from modelwright.recipe.model import AdaptersSpec, TransformersModel
from modelwright.run import Run
from modelwright.transforms.foreign import Special, read_foreign
from modelwright.transforms.text import TextInput

_WRITING = ("tokens", "texts")
"""What networks that write answer with: their last layer isn't new, whatever the texts are."""


def pretrained_folder(spec: TransformersModel, asked: Asked) -> PretrainedFolder:
    """Return the folder that a recipe names.

    Raises:
        RecipeError: it isn't there, or can't be used.
    """
    try:
        return open_folder(_found(spec, asked))
    except RecipeError as error:
        error.at(asked.recipe.place_of("model.path"))
        raise


def _found(spec: TransformersModel, asked: Asked) -> Path:
    try:
        return asked.find(spec.path)
    except RecipeError as error:
        error.fix = (
            "Give the folder of a network that lies on this machine: names on a hub aren't fetched"
        )
        raise


def pretrained_section(spec: TransformersModel, folder: PretrainedFolder) -> PretrainedModel:
    """Return what a model file keeps of the network."""
    return PretrainedModel(
        name="transformers",
        model_type=folder.model_type,
        config=folder.config,
        pooling=spec.pooling,
        dropout=spec.dropout,
    )


def pretrained_input(spec: TransformersModel, asked: Asked) -> TextInput:
    """Return how the network takes texts: with its own tokenizer, as long as it can read.

    Raises:
        RecipeError: the tokenizer can't be used, or longer texts are asked for.
    """
    folder = pretrained_folder(spec, asked)
    section = pretrained_section(spec, folder)
    text, where = asked.recipe.text, asked.recipe.place_of("text.longest")
    if "longest" in text.model_fields_set and text.longest > section.longest:
        raise RecipeError(
            f"the network of {folder.path.name} reads {section.longest:,} tokens at most, and "
            f"`text.longest` is {text.longest:,}",
            where=where,
            fix="Leave `longest` out, or write less",
        )
    try:
        tokenizer = read_foreign(folder.tokenizer_bytes(), Special())
    except ModelwrightError as error:
        raise RecipeError(
            error.what, where=str(folder.path / TOKENIZER), why=error.why, fix=error.fix
        ) from error
    found = TextInput(tokenizer, min(text.longest, section.longest))
    if found.room < 1:
        raise RecipeError(
            f"`text.longest` is {found.longest}, and the tokenizer puts as many tokens around each "
            "text",
            where=where,
            fix="Write more",
        )
    return found


def start_from(network: nn.Module, folder: PretrainedFolder, context: Run) -> dict[str, Any]:
    """Put a folder's weights into its network; return the step of lineage."""
    assert isinstance(network, Encoder)
    unused = take_weights(network, folder)
    context.say(
        f"The network starts from {folder.path.name} ({folder.model_type})"
        + (f"; {len(unused)} of its weights aren't used, such as {unused[0]}" if unused else "")
    )
    return {
        "step": "pretrained",
        "folder": folder.path.name,
        "model_type": folder.model_type,
        "weights": folder.digest(),
    }


def with_adapters(candidate: Candidate, spec: AdaptersSpec, context: Run) -> Candidate:
    """Return a candidate of which adapters learn, and a last layer for labels or numbers.

    Raises:
        RecipeError: a pattern matches no layer.
    """
    found = adapt(
        candidate.network,
        rank=spec.rank,
        alpha=spec.alpha,
        match=spec.match,
        head=candidate.output_kind not in _WRITING,
    )
    context.say(
        f"{found.trained:,} of {found.parameters:,} parameters learn "
        f"({found.trained / found.parameters:.1%}): adapters of rank {spec.rank} beside "
        f"{len(found.layers)} layers, and what is new"
    )
    step = {
        "step": "adapters",
        "rank": spec.rank,
        "alpha": spec.alpha,
        "layers": len(found.layers),
        "trained": found.trained,
    }
    return replace(candidate, lineage=(*candidate.lineage, step))
