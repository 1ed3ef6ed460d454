"""The network that training starts from: built anew from a seed, or taken from a model file."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import torch

from modelwright import models
from modelwright.arrays import Ints
from modelwright.data import Prepared, Split
from modelwright.data.batches import Batches
from modelwright.files import canonical_json
from modelwright.initialization.model_file import start_from_file
from modelwright.initialization.origins import define_network
from modelwright.initialization.pretrained import (
    with_adapters,
)
from modelwright.initialization.word_vectors import start_words
from modelwright.kinds import OutputKind
from modelwright.models.audio_frontend import set_audio_augment
from modelwright.models.candidate import Candidate
from modelwright.models.ctc import ConvCtc, RnnCtc
from modelwright.models.logmel import LogMel, fit_normalization
from modelwright.recipe.model import InitModel
from modelwright.recipe.networks import SpeednetModel
from modelwright.run import Run, RunRequest
from modelwright.tasks import task_of
from modelwright.tasks.inference import Inference, generation_config
from modelwright.tasks.speech_recognition import CharacterLM, texts_of
from modelwright.training.objectives.ctc import steps_needed
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
    definition = define_network(request, prepared, context)
    section = definition.section
    torch.manual_seed(context.seed)
    network = models.build_network(
        section,
        input=prepared.input,
        num_outputs=prepared.num_outputs,
        mean=definition.mean,
        std=definition.std,
        audio=request.recipe.audio,
        numbers=definition.numbers,
    )
    lineage = start_words(network, request, prepared, context)
    if definition.fill is not None:
        lineage = (definition.fill(network),)
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
            numbers=definition.numbers is not None,
        ),
        output_kind=task_of(request.recipe).output_kind,
        inference=_inference(request, prepared),
        assets=prepared.input.assets()
        if isinstance(prepared.input, TextInput | NgramInput)
        else _language_model(request, prepared),
        lineage=lineage,
    )
    return (
        started
        if definition.adapters is None
        else with_adapters(started, definition.adapters, context)
    )


def _fit_bands(network: torch.nn.Module, train: Split, positions: Ints) -> None:
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
