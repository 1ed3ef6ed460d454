"""The section `train`: objective, optimizer, schedule, averaging, selection, place in time."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelwright.kinds import ANY_OUTPUT, OutputKind
from modelwright.recipe.spec import AUDIO, IMAGES, TEXTS, Duration, For, FromList, Rare, Spec

Rate = Annotated[float, Field(gt=0, le=1e3)]
Decay = Annotated[float, Field(ge=0, le=10)]
Unit = Annotated[float, Field(ge=0, lt=1)]


class CrossEntropyLoss(Spec):
    """Cross-entropy over classes."""

    outputs = (OutputKind.SINGLE_LABEL, OutputKind.CAUSAL_LM, OutputKind.SEQ2SEQ)
    name: Literal["cross-entropy"]
    label_smoothing: Unit = 0.0
    """The share of each target spread over all classes (Szegedy et al. 2016)."""
    class_weights: Annotated[
        Literal["none", "balanced"], For(outputs=(OutputKind.SINGLE_LABEL,))
    ] = "none"
    """`balanced` weighs each class by the inverse of its count in the training split."""


class BinaryCrossEntropyLoss(Spec):
    """Cross-entropy of each label by itself: it is there, or it isn't."""

    outputs = (OutputKind.MULTI_LABEL,)
    name: Literal["binary-cross-entropy"]


class MseLoss(Spec):
    """Mean squared error."""

    outputs = (OutputKind.REGRESSION,)
    name: Literal["mse"]


class HuberLoss(Spec):
    """Squared near zero, linear beyond δ (Huber 1964)."""

    outputs = (OutputKind.REGRESSION,)
    name: Literal["huber"]
    delta: Annotated[float, Field(gt=0)] = 1.0
    """Where it turns linear."""


class CtcLoss(Spec):
    """Characters without an alignment in time (Graves et al. 2006)."""

    outputs = (OutputKind.CTC,)
    name: Literal["ctc"]


class DetectionLoss(Spec):
    """Focal loss of the scores and generalised IoU of the boxes, assigned by how well they fit."""

    outputs = (OutputKind.BOXES,)
    name: Literal["detection"]


LossSpec = Annotated[
    CrossEntropyLoss | BinaryCrossEntropyLoss | MseLoss | HuberLoss | CtcLoss | DetectionLoss,
    Field(discriminator="name"),
]


class GdOptimizer(Spec):
    """Full-batch gradient descent: one step an epoch, over the whole training split."""

    name: Literal["gd"]
    lr: Rate = 0.1
    """The learning rate."""


class SgdOptimizer(Spec):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"]
    lr: Rate = 0.05
    """The peak learning rate."""
    momentum: Unit = 0.9
    """The share of the last step that is kept."""
    nesterov: Annotated[bool, Rare()] = True
    """Look ahead along the momentum (Sutskever et al. 2013)."""


class AdamwOptimizer(Spec):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"]
    lr: Rate = 0.001
    """The peak learning rate."""
    betas: Annotated[tuple[Unit, Unit], FromList, Rare()] = (0.9, 0.999)
    """The decay of the two averages."""
    eps: Annotated[float, Field(gt=0), Rare()] = 1e-8
    """Keeps the division finite."""


class MuonOptimizer(Spec):
    """Orthogonalised momentum for matrices and filters (Jordan et al. 2024); SGD or AdamW beside.

    Embeddings, recurrent weights and the last layer belong to the rest.
    """

    name: Literal["muon"]
    lr: Rate = 0.24
    """The peak learning rate of matrices and filters."""
    momentum: Unit = 0.6
    """The momentum of matrices and filters."""
    steps: Annotated[int, Field(ge=1, le=20), Rare()] = 3
    """Newton–Schulz steps."""
    rest: Annotated[SgdOptimizer | AdamwOptimizer, Field(discriminator="name")] = SgdOptimizer(
        name="sgd", lr=0.05, momentum=0.85
    )
    """The optimizer of all else: biases, norms and the last layer."""


OptimizerSpec = Annotated[
    GdOptimizer | SgdOptimizer | AdamwOptimizer | MuonOptimizer, Field(discriminator="name")
]


class ConstantSchedule(Spec):
    """The same rate throughout, after the warm-up."""

    name: Literal["constant"]
    warmup: Unit = 0.0
    """The share of training over which the rate rises from 0."""


class StepSchedule(Spec):
    """The rate falls by a factor at given points."""

    name: Literal["step"]
    at: Annotated[tuple[Unit, ...], FromList] = (0.5, 0.75)
    """The points, as shares of training."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The factor at each point."""
    warmup: Unit = 0.0
    """The share of training over which the rate rises from 0."""

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        if not self.at and self.factor != type(self).model_fields["factor"].default:
            raise ValueError("`factor` has no effect: `at` names no point")
        return self


class CosineSchedule(Spec):
    """Half a cosine down to the final share (Loshchilov and Hutter 2017)."""

    name: Literal["cosine"]
    final: Unit = 0.0
    """The last rate, as a share of the peak."""
    warmup: Unit = 0.05
    """The share of training over which the rate rises from 0."""


class OneCycleSchedule(Spec):
    """Linear up from `start` to the peak, then linear down to `final` (Smith and Topin 2019)."""

    name: Literal["one-cycle"]
    start: Unit = 0.2
    """The first rate, as a share of the peak."""
    peak: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Where the peak stands, as a share of training."""
    final: Unit = 0.05
    """The last rate, as a share of the peak."""


class TrapezoidSchedule(Spec):
    """Up, flat, and down (`warmup-stable-decay`, Hu et al. 2024)."""

    name: Literal["trapezoid"]
    warmup: Unit = 0.05
    """The share of training over which the rate rises from 0."""
    cooldown: Unit = 0.3
    """The share of training over which the rate falls to `final`."""
    final: Unit = 0.0
    """The last rate, as a share of the peak."""

    @model_validator(mode="after")
    def _check_room(self) -> Self:
        if self.warmup + self.cooldown > 1:
            raise ValueError("`warmup` and `cooldown` together are more than the whole training")
        if self.cooldown == 0 and self.final != type(self).model_fields["final"].default:
            raise ValueError("`final` has no effect: with `cooldown: 0` the rate doesn't fall")
        return self


ScheduleSpec = Annotated[
    ConstantSchedule | StepSchedule | CosineSchedule | OneCycleSchedule | TrapezoidSchedule,
    Field(discriminator="name"),
]


class GroupSpec(Spec):
    """Other rates for the parameters whose names match; the first group that matches holds."""

    match: str
    """A pattern such as `*.bias` or `head.*`."""
    lr: Annotated[float, Field(ge=0)] = 1.0
    """A factor on the learning rate; 0 freezes: no gradient is computed, and the statistics of
    norms stand still too."""
    weight_decay: Decay | None = None
    """In place of `train.weight_decay`."""
    l1: Decay | None = None
    """In place of `train.l1`."""
    l2: Decay | None = None
    """In place of `train.l2`."""
    until: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Train these only during this first share of training, then hold them still."""


class UnfreezeSpec(Spec):
    """Train what is new of a pretrained network first, then all of it at a smaller rate.

    New is the last layer; of a detector, all but its backbone.
    """

    at: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The share of training after which the whole network learns. Until then its pretrained layers
    stand still, and the statistics of their norms too."""
    lr: Annotated[float, Field(gt=0, le=1)] = 0.1
    """A factor on the learning rate of all layers from then on."""


class EmaAverage(Spec):
    """An exponential moving average of the weights; what is evaluated and shipped."""

    name: Literal["ema"]
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """The share kept at each step; lower at the start."""


class LookaheadAverage(Spec):
    """Slow weights that the fast ones are pulled to (Zhang et al. 2019)."""

    name: Literal["look-ahead"]
    every: Annotated[int, Field(ge=1)] = 5
    """Steps between pulls."""
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """The share of the slow weights kept per step, at the end of training."""
    power: Annotated[float, Field(ge=0, le=10), Rare()] = 3.0
    """How the share grows over training: (progress) to this power."""


class ResolutionStep(Spec):
    """A first part of training at a smaller image size."""

    until: Annotated[float, Field(gt=0, le=1)]
    """The share of training that is over when this size ends."""
    size: Annotated[int, Field(ge=4, le=1024)]
    """The side of the images in pixels, smaller than the full size."""


AverageSpec = Annotated[EmaAverage | LookaheadAverage, Field(discriminator="name")]


DEFAULT_EPOCHS = 10.0


class TrainSpec(Spec):
    """How the network learns."""

    epochs: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Passes over the training split (a fraction is fine). Not written, they are 10, or under a
    `budget` as many as it allows; written beside a budget, they are the most that is run."""
    budget: Duration | None = None
    """The wall-clock time of training, such as `10m`: the schedule ends by then."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """Samples a step, over all processes; never more than the training split holds."""
    max_tokens_per_batch: Annotated[
        Annotated[int, Field(ge=16, le=100_000_000)] | None, For(inputs=(*TEXTS, *AUDIO))
    ] = None
    """Batches of like lengths, each of at most about this many tokens (or
    audio samples), padding included; `batch_size` is then the most samples."""
    gradient_accumulation: Annotated[int, Field(ge=1, le=10_000), Rare()] = 1
    """Parts that a batch is computed in, one after the other, to save memory."""
    loss: LossSpec | Literal["auto"] = "auto"
    """What is minimised; `auto` is the task's own."""
    optimizer: OptimizerSpec = SgdOptimizer(name="sgd")
    """The rule that turns gradients into steps."""
    schedule: ScheduleSpec = CosineSchedule(name="cosine")
    """The learning rate over time."""
    weight_decay: Decay = 0.0005
    """Decoupled decay: each step shrinks the weights by rate × this; biases and norms are left
    out."""
    l1: Annotated[Decay, Rare()] = 0.0
    """The factor of the absolute weights in the loss's gradient."""
    l2: Annotated[Decay, Rare()] = 0.0
    """The factor of half the squared weights in the loss's gradient."""
    groups: Annotated[tuple[GroupSpec, ...], FromList, Rare()] = ()
    """Other rates for some parameters."""
    layer_decay: Annotated[float, Field(gt=0, le=1), Rare()] = 1.0
    """A factor on the learning rate for each layer down from the last one (Clark et al. 2020,
    `ELECTRA`): below 1, what stands nearer to the input changes less. All layers of a detector
    behind its backbone count as the last one."""
    unfreeze: Annotated[
        UnfreezeSpec | None,
        For(outputs=tuple(kind for kind in OutputKind if not kind.is_generative)),
        Rare(),
    ] = None
    """Train the last layer alone at first, then the whole network at a smaller rate."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """The largest length of the whole gradient; longer ones are scaled down."""
    average: AverageSpec | None = None
    """Averaging of the weights."""
    resolution: Annotated[
        tuple[ResolutionStep, ...],
        FromList,
        For(inputs=IMAGES, outputs=ANY_OUTPUT - {OutputKind.BOXES}),
        Rare(),
    ] = ()
    """Train the first part at a smaller size: faster. For networks that take any size."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` takes the faster of the two, measured once, where the processor has bf16 and training
    takes long enough."""
    compile: Annotated[Literal["auto", "on", "off"], Rare()] = "auto"
    """`torch.compile`; `auto` when the forecast says that it pays back: in long trainings on a GPU,
    or of a `decoder` on a processor."""
    select: Literal["best", "last"] = "best"
    """Which epoch is shipped: the best on validation, or the last."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many epochs without a better one on validation."""
    checkpoint_every: Annotated[Duration, Rare()] = "60s"
    """How often the state is saved."""

    @model_validator(mode="before")
    @classmethod
    def _end_somewhere(cls, value: object) -> object:
        if isinstance(value, dict) and "epochs" not in value and value.get("budget") is None:
            return {**value, "epochs": DEFAULT_EPOCHS}
        return value

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        ends = [step.until for step in self.resolution]
        if any(later <= sooner for sooner, later in itertools.pairwise(ends)):
            raise ValueError("`resolution`: each step's `until` must be above the one before")
        return self
