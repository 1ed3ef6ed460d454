"""Where a network comes from: what each section `model` asks to be built, and what fills it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from modelwright.data import Prepared
from modelwright.data.batches import Batches
from modelwright.errors import MissingExtraError, RecipeError
from modelwright.initialization.model_file import model_file_input
from modelwright.initialization.pixels import pixel_statistics
from modelwright.initialization.pretrained import (
    AnyPretrained,
    has_weights,
    pretrained_folder,
    pretrained_input,
    pretrained_section,
    start_from,
)
from modelwright.initialization.published import published_files
from modelwright.initialization.published_networks import start_from_published
from modelwright.initialization.timm import load_timm, open_timm
from modelwright.kinds import OutputKind
from modelwright.models.bow import fit_buckets
from modelwright.models.building import Architecture
from modelwright.models.efficientnet import MEAN, STD
from modelwright.recipe.model import (
    AdaptersSpec,
    InitModel,
    LinearModel,
    MinilmModel,
    ModelSpec,
    TimmModel,
    TransformersModel,
)
from modelwright.recipe.networks import (
    AudioCnnModel,
    BowModel,
    CnnModel,
    ConvCtcModel,
    DecoderModel,
    DetectorModel,
    Seq2SeqModel,
)
from modelwright.recipe.schema import tag_of
from modelwright.run import Run, RunRequest
from modelwright.transforms import ImageInput
from modelwright.transforms.hf_tokenizer import HFTokenizer
from modelwright.transforms.inputs import Input
from modelwright.transforms.text import TextInput


@dataclass(frozen=True, slots=True)
class NetworkDefinition:
    """A network before it is built."""

    section: Architecture
    mean: Sequence[float]
    std: Sequence[float]
    numbers: tuple[list[float], list[float]] | None = None
    """The mean and the deviation of each number that it predicts; of labels nothing."""
    adapters: AdaptersSpec | None = None
    fill: Callable[[torch.nn.Module], dict[str, Any]] | None = None
    """Puts weights from elsewhere into it, and returns the step of lineage."""


class _Origin(NamedTuple):
    """What is asked of a section `model`: before the data is prepared, and after it."""

    settle: Callable[[Any, RunRequest], Input | None]
    """Returns how its network takes samples, if that is settled; refuses what can't be used."""
    define: Callable[[Any, RunRequest, Prepared, Run], NetworkDefinition]


def settled_input(request: RunRequest) -> Input | None:
    """Return how the network that training starts from takes its samples, if that is settled."""
    spec = request.recipe.model
    return None if spec == "auto" else _origin(spec).settle(spec, request)


def define_network(request: RunRequest, prepared: Prepared, context: Run) -> NetworkDefinition:
    """Return what a recipe's section `model` asks to be built; `init` builds nothing."""
    spec = request.recipe.model
    if spec == "auto":
        network = default_model(prepared)
        chosen = network.model_dump(mode="json")
        context.decisions.decide("model", lambda: {"model": chosen, "why": "auto"})
        return _origin(network).define(network, request, prepared, context)
    return _origin(spec).define(spec, request, prepared, context)


def _origin(spec: Any) -> _Origin:
    return _ORIGINS.get(type(spec), _Origin(_settle_published, _own))


def _settle_published(spec: ModelSpec, request: RunRequest) -> None:
    """Refuse published weights that aren't there, or aren't those published."""
    if not spec.published:
        return
    try:
        published_files(spec.published)
    except (MissingExtraError, RecipeError) as error:
        error.at(request.recipe.place_of("model"))
        raise


def _own(spec: Any, request: RunRequest, prepared: Prepared, context: Run) -> NetworkDefinition:
    """Return a network of ours, new or with published weights."""
    own: tuple[Sequence[float], Sequence[float]] = prepared.mean, prepared.std
    fill = None
    if spec.published:
        source = "the published weights were trained"
        own = pixel_statistics(
            MEAN, STD, source, request=request, prepared=prepared, context=context
        )
        fill = partial(start_from_published, name=spec.published, context=context)
    return NetworkDefinition(spec, *own, _scale(prepared), fill=fill)


def _bow(
    spec: BowModel, request: RunRequest, prepared: Prepared, context: Run
) -> NetworkDefinition:
    """Return a bag of n-grams with as many hashed vectors as the training texts need."""
    if spec.buckets == "auto":
        train = prepared.dataset().train
        source, parts = Batches(train), np.array_split(np.arange(len(train)), -(-len(train) // 256))

        def fitted() -> dict[str, Any]:
            texts = (source.at(0, part).inputs for part in parts)
            why = f"the runs of up to {spec.ngrams} words in training"
            return {"buckets": fit_buckets(texts, spec.ngrams), "why": why}

        buckets = context.decisions.decide("buckets", fitted)["buckets"]
        spec = spec.model_copy(update={"buckets": buckets})
    return _own(spec, request, prepared, context)


def _pretrained(
    spec: AnyPretrained, request: RunRequest, prepared: Prepared, context: Run
) -> NetworkDefinition:
    folder = pretrained_folder(spec, request)
    assert isinstance(prepared.input, TextInput)
    tokenizer = prepared.input.tokenizer
    assert isinstance(tokenizer, HFTokenizer)
    section = pretrained_section(spec, folder, tokenizer.token_ids)
    fill = partial(start_from, spec=spec, folder=folder, context=context)
    return NetworkDefinition(
        section,
        prepared.mean,
        prepared.std,
        _scale(prepared),
        spec.adapters,
        fill if has_weights(spec) else None,
    )


def _settle_timm(spec: TimmModel, request: RunRequest) -> None:
    open_timm(spec, request)


def _timm(
    spec: TimmModel, request: RunRequest, prepared: Prepared, context: Run
) -> NetworkDefinition:
    network, weights = open_timm(spec, request)
    if weights is None:
        return NetworkDefinition(network, prepared.mean, prepared.std, _scale(prepared))
    source = "the weights' folder says" if weights.is_declared else "is usual with this network"
    mean, std = pixel_statistics(
        weights.mean, weights.std, source, request=request, prepared=prepared, context=context
    )
    fill = partial(
        load_timm, spec=spec, section=network, weights=weights, prepared=prepared, context=context
    )
    return NetworkDefinition(network, mean, std, _scale(prepared), spec.adapters, fill)


def _settle_linear(spec: LinearModel, request: RunRequest) -> Input | None:
    return None if spec.network is None else _origin(spec.network).settle(spec.network, request)


def _linear(
    spec: LinearModel, request: RunRequest, prepared: Prepared, context: Run
) -> NetworkDefinition:
    """Return features and a last layer, which is fitted: numbers aren't scaled for it."""
    if spec.network is not None:
        definition = _origin(spec.network).define(spec.network, request, prepared, context)
        return replace(definition, numbers=None)
    # Of images the features are scaled, not the pixels.
    mean, std = [0.0] * len(prepared.mean), [1.0] * len(prepared.std)
    return NetworkDefinition(spec.of(prepared.input_kind), mean, std)


def _no_definition(spec: InitModel, *_: object) -> NetworkDefinition:
    raise AssertionError("the network of a model file is there already")


_ORIGINS: dict[type, _Origin] = {
    TransformersModel: _Origin(pretrained_input, _pretrained),
    MinilmModel: _Origin(pretrained_input, _pretrained),
    TimmModel: _Origin(_settle_timm, _timm),
    BowModel: _Origin(_settle_published, _bow),
    LinearModel: _Origin(_settle_linear, _linear),
    InitModel: _Origin(model_file_input, _no_definition),
}
"""The sections `model` whose network, or whose weights, aren't made here alone."""


def _scale(prepared: Prepared) -> tuple[list[float], list[float]] | None:
    """Return the mean and the deviation of each number in training; of classes nothing."""
    if prepared.output_kind != OutputKind.REGRESSION:
        return None
    targets = prepared.dataset().train.targets.astype(np.float64)
    deviation = targets.std(axis=0)
    return targets.mean(axis=0).tolist(), np.where(deviation > 0, deviation, 1.0).tolist()


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
