"""The network that training starts from: built anew from a seed, or taken from a model file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from modelwright import models
from modelwright.data import Prepared, Split
from modelwright.data.batches import Batches
from modelwright.errors import ModelFileError, RecipeError
from modelwright.files import canonical_json
from modelwright.kinds import InputKind
from modelwright.models.building import Architecture
from modelwright.models.candidate import Candidate
from modelwright.models.ctc import ConvCtc, RnnCtc
from modelwright.models.logmel import LogMel, fit_normalisation
from modelwright.models.network import matches
from modelwright.pipeline.pretrained import (
    pretrained_folder,
    pretrained_section,
    start_from,
    with_adapters,
)
from modelwright.pipeline.request import RunRequest
from modelwright.pipeline.timm_networks import figures, start_from_timm, timm_start
from modelwright.pipeline.words import start_words
from modelwright.recipe.model import (
    AdaptersSpec,
    AudioCnnModel,
    BowModel,
    CnnModel,
    ConvCtcModel,
    DecoderModel,
    DetectorModel,
    InitModel,
    ModelSpec,
    Seq2SeqModel,
    SpeednetModel,
    TimmModel,
    TransformersModel,
)
from modelwright.run import Run
from modelwright.tasks import task_of
from modelwright.tasks.speech_recognition import Spelling, texts_of
from modelwright.training.objectives.ctc import steps_needed
from modelwright.transforms import ImageInput
from modelwright.transforms.hf_tokenizer import HFTokenizer
from modelwright.transforms.text import TextInput

FITTED_SAMPLES = 5000
"""From how many training images a first convolution is whitened (Jordan 2024 takes as many)."""
FITTED_RECORDINGS = 1000
"""From how many training recordings the bands of a spectrogram are normalised."""


def initialize_model(request: RunRequest, prepared: Prepared, context: Run) -> Candidate:
    """Return the network that training starts from, the same for the same seed and data."""
    spec = request.recipe.model
    if isinstance(spec, InitModel):
        old = _from_file(spec, request, prepared, context)
        assets = _spelling(request, prepared) if prepared.kind == "letters" else old.assets
        return replace(old, views=request.recipe.evaluate.views, assets=assets)
    blank = _blank(spec, request, prepared, context)
    section = blank.section
    n_mels = request.recipe.audio.n_mels
    torch.manual_seed(context.seed)
    network = models.build_network(
        section,
        input=prepared.input,
        num_outputs=prepared.num_outputs,
        mean=blank.mean,
        std=blank.std,
        n_mels=n_mels,
        numbers=_scale(prepared),
    )
    lineage = start_words(network, request, prepared, context)
    if blank.fill is not None:
        lineage = (blank.fill(network),)
    train = prepared.dataset().train
    some = np.arange(min(len(train), FITTED_SAMPLES))
    if isinstance(section, SpeednetModel) and section.whiten:
        models.whiten(network, train.gather(some))
    _fit_bands(network, train, some[:FITTED_RECORDINGS])
    _say_unheard(network, train, context)
    started = Candidate(
        network=network,
        task=request.recipe.task,
        input=prepared.input,
        labels=prepared.labels,
        architecture=models.architecture(
            section,
            input=prepared.input,
            num_outputs=prepared.num_outputs,
            n_mels=n_mels,
            numbers=prepared.kind == "numbers",
        ),
        output_kind=task_of(request.recipe).output_kind,
        views=request.recipe.evaluate.views,
        assets=prepared.input.assets()
        if isinstance(prepared.input, TextInput)
        else _spelling(request, prepared),
        lineage=lineage,
    )
    return started if blank.adapters is None else with_adapters(started, blank.adapters, context)


@dataclass(frozen=True, slots=True)
class _Blank:
    """A network before it is built."""

    section: Architecture
    mean: Sequence[float]
    std: Sequence[float]
    adapters: AdaptersSpec | None = None
    fill: Callable[[torch.nn.Module], dict[str, Any]] | None = None
    """Puts weights from elsewhere into it, and returns the step of lineage."""


def _blank(
    spec: ModelSpec | Literal["auto"], request: RunRequest, prepared: Prepared, context: Run
) -> _Blank:
    """Return what a recipe's section `model` asks to be built."""
    mean, std = prepared.mean, prepared.std
    if isinstance(spec, TransformersModel):
        folder = pretrained_folder(spec, request)
        assert isinstance(prepared.input, TextInput)
        tokenizer = prepared.input.tokenizer
        assert isinstance(tokenizer, HFTokenizer)
        section = pretrained_section(spec, folder, tokenizer.token_ids)
        fill = partial(start_from, folder=folder, context=context)
        return _Blank(section, mean, std, spec.adapters, fill)
    if isinstance(spec, TimmModel):
        network, weights = timm_start(spec, request)
        if weights is None:
            return _Blank(network, mean, std)
        own = figures(weights, request, prepared, context)
        fill = partial(
            start_from_timm, section=network, weights=weights, prepared=prepared, context=context
        )
        return _Blank(network, *own, spec.adapters, fill)
    if spec == "auto":
        found = default_model(prepared)
        chosen = found.model_dump(mode="json")
        context.decisions.decide("model", lambda: {"model": chosen, "why": "auto"})
        return _Blank(found, mean, std)
    assert not isinstance(spec, InitModel)
    return _Blank(spec, mean, std)


def _scale(prepared: Prepared) -> tuple[list[float], list[float]] | None:
    """Return the mean and the deviation of each number in training; of classes nothing."""
    if prepared.kind != "numbers":
        return None
    targets = prepared.dataset().train.targets.astype(np.float64)
    deviation = targets.std(axis=0)
    return targets.mean(axis=0).tolist(), np.where(deviation > 0, deviation, 1.0).tolist()


def _fit_bands(network: torch.nn.Module, train: Split, positions: NDArray[np.int64]) -> None:
    """Normalise the bands of a spectrogram by the training split, where a network has one."""
    source = Batches(train)
    for module in network.modules():
        if isinstance(module, LogMel):
            parts = np.array_split(positions, -(-len(positions) // 64))
            fit_normalisation(module, (_two(source.at(0, part).inputs) for part in parts))


def _spelling(request: RunRequest, prepared: Prepared) -> dict[str, bytes]:
    """Return how the training texts are spelled, where that is to have its say."""
    spec = request.recipe.evaluate.language_model
    if spec is None:
        return {}
    train = prepared.dataset().train
    targets = train.targets[np.arange(len(train))]
    texts = texts_of(targets["letters"], targets["count"], prepared.labels)
    found = Spelling.fit(texts, prepared.labels, order=spec.order, weight=spec.weight)
    return {"spelling.json": canonical_json(found.to_json())}


def _say_unheard(network: torch.nn.Module, train: Split, context: Run) -> None:
    """Say how many training texts have more letters than their recordings have steps."""
    if not isinstance(network, ConvCtc | RnnCtc):
        return
    lengths = train.lengths()
    assert lengths is not None
    targets = train.targets[np.arange(len(train))]
    needed = steps_needed(*(torch.from_numpy(targets[key].copy()) for key in ("letters", "count")))
    unheard = int((needed > network.frontend.steps(torch.from_numpy(lengths))).sum())
    if unheard:
        context.say(
            f"Data: {unheard:,} of {len(train):,} training texts have more letters than their "
            "recordings have steps, and can't be learnt; a smaller `model.stride` makes more steps"
        )


def _two(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    samples, length = inputs
    return samples, length


def default_model(prepared: Prepared) -> Architecture:
    """Return the family that `model: auto` takes, by the kind and the number of samples."""
    match prepared.kind:
        case "text":
            return Seq2SeqModel(name="seq2seq")
        case "next":
            return DecoderModel(name="decoder")
        case "letters":
            return ConvCtcModel(name="conv-ctc")
        case "boxes":
            return DetectorModel(name="detector", widths=_widths(prepared.image))
    match prepared.store.kind:
        case InputKind.IMAGE:
            return CnnModel(name="cnn")
        case InputKind.TEXT:
            # What a small corpus can't teach a recurrent network, counting words still can.
            return BowModel(name="bow")
        case InputKind.AUDIO:
            return AudioCnnModel(name="audio-cnn")


def _widths(image: ImageInput) -> tuple[int, ...]:
    """Return a detector's widths, without the stages that an image is too small for."""
    own, side = DetectorModel(name="detector").widths, min(image.height, image.width)
    fitting = tuple(width for level, width in enumerate(own) if side >= 4 << level)
    return fitting if len(fitting) > 1 else own


def _from_file(spec: InitModel, request: RunRequest, prepared: Prepared, context: Run) -> Candidate:
    """Return the network of a model file; its last layer starts anew where the labels differ."""
    from modelwright.modelfile import torch_runtime

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
    if old.output_kind == "values" and old.labels != prepared.labels:
        raise RecipeError(
            f"{path.name} predicts {', '.join(old.labels)}, and this data asks for "
            f"{', '.join(prepared.labels)}",
            where=request.recipe.place_of("model.init"),
            fix="Start from a model file of the same numbers",
        )
    if old.labels != prepared.labels:
        torch.manual_seed(request.recipe.seed)
        models.replace_output(network, prepared.num_outputs)
    _freeze(network, spec)
    step = {"step": "init", "file": path.name, "model": torch_runtime.digest(path)}
    started = replace(
        old,
        network=network,
        input=prepared.input,
        labels=prepared.labels,
        architecture={**architecture, "num_outputs": prepared.num_outputs},
        lineage=(*old.lineage, step),
    )
    if spec.adapters is None:
        return started
    torch.manual_seed(context.seed)
    return with_adapters(started, spec.adapters, context)


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
