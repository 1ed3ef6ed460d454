"""Starting from the network of an existing model file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from modelwright.errors import ModelFileError, RecipeError
from modelwright.kinds import OutputKind
from modelwright.modelfile import declared
from modelwright.recipe.model import InitModel
from modelwright.run import Run, RunRequest
from modelwright.transforms import ImageInput

if TYPE_CHECKING:
    from modelwright.data import Prepared
    from modelwright.models.candidate import Candidate
    from modelwright.transforms.inputs import Input


def model_file_input(model: InitModel, request: RunRequest) -> Input:
    """Return how a model file takes its samples.

    Raises:
        RecipeError: it was made for other kinds of input or output than the recipe asks for.
    """
    path, recipe = request.find(model.init), request.recipe
    file = declared(path)
    input: Input = file.input
    if (file.input_kind, file.output_kind) != (recipe.input_kind, recipe.output_kind):
        raise RecipeError(
            f"{path.name} predicts {file.output_kind.noun} from {file.input_kind.plural} "
            f"(`task: {file.task}`), and the recipe asks for {recipe.output_kind.noun} from "
            f"{recipe.input_kind.plural} (`task: {recipe.task}`)",
            where=recipe.place_of("model.init"),
            fix="Start from a model file of the same task, or look at `task`",
        )
    return input


def start_from_file(
    spec: InitModel, request: RunRequest, prepared: Prepared, context: Run
) -> Candidate:
    """Return the network of a model file; its last layer starts anew where the labels differ."""
    import torch

    from modelwright import models
    from modelwright.initialization.pretrained import with_adapters
    from modelwright.modelfile import torch_runtime
    from modelwright.models.modifications import with_new_head
    from modelwright.models.network import matching

    path = request.find(spec.init)
    old = torch_runtime.rebuild(path)
    network, architecture = old.network, old.architecture
    if isinstance(prepared.input, ImageInput):
        architecture = models.resized(old.architecture, prepared.input)
    if architecture != old.architecture:
        assert isinstance(network, models.ImageNetwork)  # Only these are rebuilt.
        try:
            network = models.rebuild(
                architecture, network.state_dict(), steps=network.steps.to_json()
            )
        except ModelFileError as error:
            raise RecipeError(
                f"the network of {path.name} takes images of one size alone, and "
                f"{prepared.image.height}×{prepared.image.width} isn't it",
                where=request.recipe.place_of("transforms.size"),
                why=error.what,
                fix="Leave `transforms.size` out",
            ) from error
    # Each number means something of its own. That the task is the same, `start_input` has seen to.
    if old.output_kind == OutputKind.REGRESSION and old.labels != prepared.labels:
        raise RecipeError(
            f"{path.name} predicts {', '.join(old.labels)}, and this data asks for "
            f"{', '.join(prepared.labels)}",
            where=request.recipe.place_of("model.init"),
            fix="Start from a model file of the same numbers",
        )
    if old.labels != prepared.labels:
        torch.manual_seed(request.recipe.seed)
        models.replace_output(network, prepared.num_outputs)
        architecture = with_new_head(architecture)
    parameters = dict(network.named_parameters())
    for name in matching(list(parameters), spec.freeze, kind="parameter", where="model.freeze"):
        parameters[name].requires_grad = False
    step = {"step": "init", "file": path.name, "model": torch_runtime.digest(path)}
    started = replace(
        old,
        network=network,
        input=prepared.input,
        labels=prepared.labels,
        architecture={**architecture, "num_outputs": prepared.num_outputs},
        lineage=(*old.lineage, step),
        codecs={},  # Training moves what was zero.
    )
    if spec.adapters is None:
        return started
    torch.manual_seed(context.seed)
    return with_adapters(started, spec.adapters, context)
