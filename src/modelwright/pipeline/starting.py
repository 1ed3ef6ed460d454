"""The network that training starts from: built anew from a seed, or taken from a model file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from modelwright import models
from modelwright.data import Prepared
from modelwright.errors import ModelFileError, RecipeError
from modelwright.models.candidate import Candidate
from modelwright.pipeline.asking import Asked
from modelwright.recipe.model import InitModel, SpeednetModel
from modelwright.run import Run
from modelwright.training.optimizers import matches

WHITENING_IMAGES = 5000
"""From how many training images a first convolution is whitened (Jordan 2024 takes as many)."""


def first_candidate(asked: Asked, prepared: Prepared, context: Run) -> Candidate:
    """Return the network that training starts from, the same for the same seed and data."""
    spec = asked.recipe.model
    if isinstance(spec, InitModel):
        return replace(_from_file(spec, asked, prepared), views=asked.recipe.evaluate.views)
    torch.manual_seed(context.seed)
    architecture = models.architecture(spec, input=prepared.input, num_outputs=len(prepared.labels))
    network = models.build(
        spec,
        channels=prepared.input.channels,
        height=prepared.input.height,
        width=prepared.input.width,
        num_outputs=len(prepared.labels),
        mean=prepared.mean,
        std=prepared.std,
    )
    if isinstance(spec, SpeednetModel) and spec.whiten:
        train = prepared.dataset().train
        some = np.arange(min(len(train), WHITENING_IMAGES))
        models.whiten(network, train.gather(some))
    return Candidate(
        network=network,
        task=asked.recipe.task,
        input=prepared.input,
        labels=prepared.labels,
        architecture=architecture,
        views=asked.recipe.evaluate.views,
    )


def _from_file(spec: InitModel, asked: Asked, prepared: Prepared) -> Candidate:
    """Return the network of a model file; its last layer starts anew where the labels differ."""
    from modelwright.modelfile import torch_runtime

    path = asked.find(spec.init)
    old = torch_runtime.rebuild(path)
    architecture = models.resized(old.architecture, prepared.input)
    network = old.network
    if architecture != old.architecture:
        assert isinstance(network, models.ImageNetwork)  # Only these are rebuilt.
        try:
            network = models.rebuild(
                architecture, network.state_dict(), steps=network.steps.to_json()
            )
        except ModelFileError as error:
            raise RecipeError(
                f"the network of {path.name} takes images of one size alone, and "
                f"{prepared.input.height}×{prepared.input.width} isn't it",
                where=asked.recipe.place_of("transforms.size"),
                why=error.what,
                fix="Leave `transforms.size` out",
            ) from error
    if old.labels != prepared.labels:
        torch.manual_seed(asked.recipe.seed)
        models.replace_output(network, len(prepared.labels))
    _freeze(network, spec)
    step = {"step": "init", "file": path.name, "model": torch_runtime.digest(path)}
    return replace(
        old,
        network=network,
        input=prepared.input,
        labels=prepared.labels,
        architecture={**architecture, "num_outputs": len(prepared.labels)},
        lineage=(*old.lineage, step),
    )


def _freeze(network: torch.nn.Module, spec: InitModel) -> None:
    names = [name for name, _ in network.named_parameters()]
    for pattern in spec.freeze:
        if not any(matches(name, pattern) for name in names):
            shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            raise RecipeError(
                f"`{pattern}` matches no parameter of the model file",
                where="model.freeze",
                why=f"Its parameters are {shown}",
            )
    for name, parameter in network.named_parameters():
        if any(matches(name, pattern) for pattern in spec.freeze):
            parameter.requires_grad = False
