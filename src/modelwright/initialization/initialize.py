"""The network that training starts from: built anew from a seed, or taken from a model file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from modelwright import models
from modelwright.data import Prepared, Split
from modelwright.data.batches import Batches
from modelwright.files import canonical_json
from modelwright.initialization.model_file import start_from_file
from modelwright.initialization.pixels import pixel_statistics
from modelwright.initialization.pretrained import (
    pretrained_folder,
    pretrained_section,
    start_from,
    with_adapters,
)
from modelwright.initialization.published_networks import start_from_published
from modelwright.initialization.timm import load_timm, open_timm
from modelwright.initialization.word_vectors import start_words
from modelwright.kinds import OutputKind
from modelwright.models.audio_frontend import set_audio_augment
from modelwright.models.building import Architecture
from modelwright.models.candidate import Candidate
from modelwright.models.ctc import ConvCtc, RnnCtc
from modelwright.models.efficientnet import MEAN, STD
from modelwright.models.logmel import LogMel, fit_normalization
from modelwright.recipe.model import (
    AdaptersSpec,
    AudioCnnModel,
    BowModel,
    CnnModel,
    ConvCtcModel,
    DecoderModel,
    DetectorModel,
    InitModel,
    LinearModel,
    MinilmModel,
    ModelSpec,
    Seq2SeqModel,
    SpeednetModel,
    TimmModel,
    TransformersModel,
)
from modelwright.recipe.schema import tag_of
from modelwright.run import Run, RunRequest
from modelwright.tasks import task_of
from modelwright.tasks.inference import Inference, generation_config
from modelwright.tasks.speech_recognition import CharacterLM, texts_of
from modelwright.training.objectives.ctc import steps_needed
from modelwright.transforms import ImageInput
from modelwright.transforms.hf_tokenizer import HFTokenizer
from modelwright.transforms.ngrams import NgramInput
from modelwright.transforms.text import TextInput

FITTED_SAMPLES = 5000
"""From how many training images a first convolution is whitened (Jordan 2024 takes as many)."""
FITTED_RECORDINGS = 1000
"""From how many training recordings the bands of a spectrogram are normalised."""
CONTINUATION = 200
"""The new tokens of a continued text, where the recipe doesn't say."""


def initialize_model(request: RunRequest, prepared: Prepared, context: Run) -> Candidate:
    """Return the network that training starts from, the same for the same seed and data."""
    spec = request.recipe.model
    if isinstance(spec, InitModel):
        old = start_from_file(spec, request, prepared, context)
        set_audio_augment(old.network, request.recipe.augment)
        assets = (
            _language_model(request, prepared)
            if prepared.output_kind == OutputKind.CTC
            else old.assets
        )
        return replace(old, inference=_inference(request, prepared), assets=assets)
    blank = _blank(spec, request, prepared, context)
    section = blank.section
    scale = None if isinstance(spec, LinearModel) else _scale(prepared)
    torch.manual_seed(context.seed)
    network = models.build_network(
        section,
        input=prepared.input,
        num_outputs=prepared.num_outputs,
        mean=blank.mean,
        std=blank.std,
        audio=request.recipe.audio,
        numbers=scale,
    )
    lineage = start_words(network, request, prepared, context)
    if blank.fill is not None:
        lineage = (blank.fill(network),)
    train = prepared.dataset().train
    some = np.arange(min(len(train), FITTED_SAMPLES))
    if isinstance(section, SpeednetModel) and section.whiten:
        models.whiten(network, train.gather(some))
    set_audio_augment(network, request.recipe.augment)
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
            audio=request.recipe.audio,
            numbers=scale is not None,
        ),
        output_kind=task_of(request.recipe).output_kind,
        inference=_inference(request, prepared),
        assets=prepared.input.assets()
        if isinstance(prepared.input, TextInput | NgramInput)
        else _language_model(request, prepared),
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
    if isinstance(spec, LinearModel):
        spec = spec.network or spec
    if isinstance(spec, TransformersModel | MinilmModel):
        folder = pretrained_folder(spec, request)
        assert isinstance(prepared.input, TextInput)
        tokenizer = prepared.input.tokenizer
        assert isinstance(tokenizer, HFTokenizer)
        section = pretrained_section(spec, folder, tokenizer.token_ids)
        fill = partial(start_from, spec=spec, folder=folder, context=context)
        return _Blank(section, mean, std, spec.adapters, fill)
    if isinstance(spec, TimmModel):
        network, weights = open_timm(spec, request)
        if weights is None:
            return _Blank(network, mean, std)
        source = "the weights' folder says" if weights.is_declared else "is usual with this network"
        own = pixel_statistics(
            weights.mean, weights.std, source, request=request, prepared=prepared, context=context
        )
        fill = partial(
            load_timm, section=network, weights=weights, prepared=prepared, context=context
        )
        return _Blank(network, *own, spec.adapters, fill)
    if isinstance(spec, LinearModel):  # Of its images the features are scaled, not the pixels.
        return _Blank(spec.of(prepared.input_kind), [0.0] * len(mean), [1.0] * len(std))
    if spec == "auto":
        found = default_model(prepared)
        chosen = found.model_dump(mode="json")
        context.decisions.decide("model", lambda: {"model": chosen, "why": "auto"})
        return _Blank(found, mean, std)
    assert not isinstance(spec, InitModel)
    if spec.published:
        source = "the published weights were trained"
        own = pixel_statistics(
            MEAN, STD, source, request=request, prepared=prepared, context=context
        )
        fill = partial(start_from_published, name=spec.published, context=context)
        return _Blank(spec, *own, fill=fill)
    return _Blank(spec, mean, std)


def _scale(prepared: Prepared) -> tuple[list[float], list[float]] | None:
    """Return the mean and the deviation of each number in training; of classes nothing."""
    if prepared.output_kind != OutputKind.REGRESSION:
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
            fit_normalization(module, (_two(source.at(0, part).inputs) for part in parts))


def _inference(request: RunRequest, prepared: Prepared) -> Inference:
    """Return what the recipe says of answers beyond the weights.

    The decision threshold follows once the packed file has been asked.
    """
    spec = request.recipe.generate
    config = generation_config(prepared.output_kind)
    if config is None:
        return Inference(request.recipe.inference.tta)
    assert isinstance(prepared.input, TextInput)
    known = {item.name for item in fields(config)}
    settings = {name: value for name, value in spec if name in known}
    if spec.max_new_tokens == "auto":
        is_from_text = prepared.output_kind == OutputKind.SEQ2SEQ
        settings["max_new_tokens"] = prepared.input.max_length if is_from_text else CONTINUATION
    return Inference(request.recipe.inference.tta, generate=config(**settings))


def _language_model(request: RunRequest, prepared: Prepared) -> dict[str, bytes]:
    """Return the character model of the training transcripts, where the recipe asks for one."""
    spec = request.recipe.inference.language_model
    if spec is None:
        return {}
    train = prepared.dataset().train
    targets = train.targets[np.arange(len(train))]
    texts = texts_of(targets["characters"], targets["count"], prepared.labels)
    found = CharacterLM.fit(texts, prepared.labels, order=spec.order, weight=spec.weight)
    return {"language_model.json": canonical_json(found.to_json())}


def _say_unheard(network: torch.nn.Module, train: Split, context: Run) -> None:
    """Say how many training texts have more characters than their recordings have steps."""
    if not isinstance(network, ConvCtc | RnnCtc):
        return
    lengths = train.lengths()
    assert lengths is not None
    targets = train.targets[np.arange(len(train))]
    keys = ("characters", "count")
    needed = steps_needed(*(torch.from_numpy(targets[key].copy()) for key in keys))
    unheard = int((needed > network.subsampling.steps(torch.from_numpy(lengths))).sum())
    if unheard:
        context.say(
            f"Data: {unheard:,} of {len(train):,} training texts have more characters than their "
            "recordings have steps, and can't be learnt; a smaller `model.stride` makes more steps"
        )


def _two(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    samples, length = inputs
    return samples, length


DEFAULT_MODELS: tuple[type[Architecture], ...] = (
    CnnModel,
    BowModel,  # What a small corpus can't teach a recurrent network, counting words still can.
    AudioCnnModel,
    Seq2SeqModel,
    DecoderModel,
    ConvCtcModel,
    DetectorModel,
)
"""What `model: auto` takes: the first that is for the kinds of input and output."""


def default_model(prepared: Prepared) -> Architecture:
    """Return the family that `model: auto` takes, by the kind and the number of samples."""
    family = next(
        spec
        for spec in DEFAULT_MODELS
        if prepared.input_kind in spec.inputs and prepared.output_kind in spec.outputs
    )
    if family is DetectorModel:
        return DetectorModel(name="detector", widths=_widths(prepared.image))
    return family.model_validate({"name": tag_of(family)[1]})


def _widths(image: ImageInput) -> tuple[int, ...]:
    """Return a detector's widths, without the stages that an image is too small for."""
    own, side = DetectorModel(name="detector").widths, min(image.height, image.width)
    fitting = tuple(width for level, width in enumerate(own) if side >= 4 << level)
    return fitting if len(fitting) > 1 else own
