"""Learning from the answers of other networks, beside the targets or without any.

Teachers give raw outputs, as the student does. Of several the probabilities are averaged (Hinton et
al. 2015, section 5). Losses are Kullback-Leibler divergences, which have the gradient of the
published cross-entropies, and are 0 where student and teacher agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.data.batches import Batch, target_parts, target_tensor
from modelwright.kinds import OutputKind
from modelwright.models.building import output_layer
from modelwright.training.objectives import Objective
from modelwright.training.objectives.sequence import PADDING
from modelwright.training.precision import at_least_fp32, precision_of

NON_TARGET = 8.0
"""How much the classes beside the target count (Zhao et al. 2022, β of section 4.1)."""
ALIKE = 3000.0
"""How much the likeness of samples counts (Tung and Mori 2019, γ of section 4.1)."""
TEMPERATURE = 2.0
"""Of probabilities, where a network of the same shape is to answer as it did before."""

Softened = Callable[[Any, Sequence[Any], Batch, float], Tensor]
"""From outputs, those of each teacher, their batch and a temperature to losses `[N]`."""


@dataclass(frozen=True, slots=True)
class Distillation:
    """The loss of the targets and that of the teachers' answers, each with its share."""

    targets: Objective
    teach: Callable[[Batch], Sequence[Any]]
    """Returns the outputs of each teacher for a batch."""
    softened: Softened | None
    """The loss of the teachers' answers; `None` takes that of the targets, with the answers as
    targets: for numbers."""
    temperature: float
    weight: float
    """How much of the loss is the teachers'."""
    labelled: int
    """So many samples have targets; of those behind them the teachers' answers are all the loss."""
    alike: Callable[[], Tensor] | None = None
    """Returns the loss of the features of the last pass `[N]`."""

    def __call__(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and weight of each sample `[N]`, those of the targets' objective."""
        with precision_of(outputs).context():  # As quick as the network itself.
            answers = self.teach(batch)
        filled, known = self._filled(batch)
        losses, weights = self.targets(outputs, filled)
        if self.softened is None:
            mean = torch.stack([at_least_fp32(answer) for answer in answers]).mean(0)
            taught, _ = self.targets(outputs, replace(batch, targets=mean))
        else:
            taught = self.softened(outputs, answers, batch, self.temperature)
        if self.alike is not None:
            taught = taught + ALIKE * self.alike()
        both = (1.0 - self.weight) * losses + self.weight * taught
        if known is None:
            return both, weights
        return torch.where(known, both, taught), torch.where(known, weights, 1.0)

    def _filled(self, batch: Batch) -> tuple[Batch, Tensor | None]:
        """Return a batch whose targets are all of some class, and which of them mean something."""
        positions = batch.positions
        if positions is None or not (positions >= self.labelled).any():
            return batch, None
        targets = target_tensor(batch)
        known = torch.as_tensor(positions < self.labelled, device=targets.device)
        return replace(batch, targets=targets.clamp(min=0) if targets.ndim == 1 else targets), known


def log_probabilities(answers: Sequence[Tensor], temperature: float) -> Tensor:
    """Return the logarithms of the teachers' mean probabilities, softened; of logits `[…, K]`."""
    each = [F.log_softmax(at_least_fp32(logits) / temperature, -1) for logits in answers]
    if len(each) == 1:
        return each[0]
    return torch.logsumexp(torch.stack(each), 0) - math.log(len(each))


def divergence(outputs: Tensor, answers: Sequence[Tensor], temperature: float) -> Tensor:
    """Return the divergence from the teachers' probabilities, of logits `[…, K]`: `[…]`.

    It is multiplied by T², so that its gradient keeps its size (Hinton et al. 2015, section 2).
    """
    own = F.log_softmax(at_least_fp32(outputs) / temperature, -1)
    expected = log_probabilities(answers, temperature).exp()
    return F.kl_div(own, expected, reduction="none").sum(-1) * temperature**2


def soft_labels(
    outputs: Tensor, answers: Sequence[Tensor], batch: Batch, temperature: float
) -> Tensor:
    """Return the divergence of each sample's probabilities, of logits `[N, K]`."""
    return divergence(outputs, answers, temperature)


def decoupled(
    outputs: Tensor, answers: Sequence[Tensor], batch: Batch, temperature: float
) -> Tensor:
    """Return the divergences of the target class and of the others, weighed apart.

    Zhao et al. 2022, `Decoupled Knowledge Distillation`, equation 7. The target of a mixed sample
    is its largest share, that of a sample without a label the teachers' likeliest class.
    """
    own = F.log_softmax(at_least_fp32(outputs) / temperature, -1)
    expected = log_probabilities(answers, temperature)
    targets = target_tensor(batch)
    if targets.is_floating_point():
        targets = targets.argmax(1)
    targets = torch.where(targets < 0, expected.argmax(1), targets)
    is_target = F.one_hot(targets, own.shape[1]).bool()

    def parts(values: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of the target and of all others together, and of each other."""
        others = values.masked_fill(is_target, -math.inf).logsumexp(1, keepdim=True)
        target = values.gather(1, targets[:, None])
        return torch.cat([target, others], 1), (values - others).masked_fill(is_target, 0.0)

    (own_two, own_others), (two, others) = parts(own), parts(expected)
    of_target = (two.exp() * (two - own_two)).sum(1)
    shares = others.exp().masked_fill(is_target, 0.0)
    of_others = (shares * (others - own_others)).sum(1)
    return (of_target + NON_TARGET * of_others) * temperature**2


def each_label(
    outputs: Tensor, answers: Sequence[Tensor], batch: Batch, temperature: float
) -> Tensor:
    """Return the mean divergence of each label by itself, of logits `[N, K]`."""
    each = [torch.sigmoid(at_least_fp32(logits) / temperature) for logits in answers]
    expected = torch.stack(each).mean(0)
    own = at_least_fp32(outputs) / temperature
    cross = F.binary_cross_entropy_with_logits(own, expected, reduction="none")
    entropy: Tensor = torch.special.entr(expected) + torch.special.entr(1 - expected)
    return (cross - entropy).mean(1) * temperature**2


def each_token(
    outputs: Tensor, answers: Sequence[Tensor], batch: Batch, temperature: float
) -> Tensor:
    """Return the mean divergence of a sample's tokens, of logits `[N, S, V]` (Kim and Rush 2016).

    Padding doesn't count.
    """
    counts = target_parts(batch)[0] != PADDING
    losses = divergence(outputs, answers, temperature) * counts
    return losses.sum(1) / counts.sum(1).clamp_min(1)


def each_frame(
    outputs: tuple[Tensor, Tensor],
    answers: Sequence[tuple[Tensor, Tensor]],
    batch: Batch,
    temperature: float,
) -> Tensor:
    """Return the mean divergence of a recording's frames, of logits `[N, S, K]` and steps `[N]`."""
    logits, steps = outputs
    counts = torch.arange(logits.shape[1], device=logits.device) < steps[:, None]
    losses = divergence(logits, [answer[0] for answer in answers], temperature) * counts
    return losses.sum(1) / counts.sum(1).clamp_min(1)


SOFTENED: dict[OutputKind, Softened | None] = {
    OutputKind.SINGLE_LABEL: soft_labels,
    OutputKind.MULTI_LABEL: each_label,
    OutputKind.REGRESSION: None,
    OutputKind.SEQ2SEQ: each_token,
    OutputKind.CAUSAL_LM: each_token,
    OutputKind.CTC: each_frame,
}
"""The loss of the teachers' answers by the kind of output; boxes have none."""


def distance(outputs: Any, expected: Any, output_kind: OutputKind) -> Tensor:
    """Return how far each sample's outputs are from those expected `[N]`.

    Of one label, the divergence of probabilities at `TEMPERATURE`; of others, the squared error as
    a share of what is expected.
    """
    if isinstance(outputs, tuple):
        pairs = zip(outputs, expected, strict=True)
        parts = [distance(a, b, output_kind) for a, b in pairs if a.is_floating_point()]
        return torch.stack(parts).sum(0)
    if output_kind == OutputKind.SINGLE_LABEL:
        return divergence(outputs, [expected], TEMPERATURE)
    wanted: Tensor = expected.float()
    errors: Tensor = (outputs.float() - wanted).square().flatten(1).mean(1)
    return errors / wanted.square().mean().clamp_min(1e-12)


def likeness(features: Tensor, taught: Sequence[Tensor]) -> Tensor:
    """Return how differently samples of a batch are alike, row by row `[N]`.

    Their mean is Tung and Mori 2019, `Similarity-Preserving Knowledge Distillation`, equation 4.
    Features are `[N, D]`, of any widths; nothing is learnt to compare them.
    """

    def alike(values: Tensor) -> Tensor:
        values = at_least_fp32(values)
        return F.normalize(values @ values.T, dim=1)

    expected = torch.stack([alike(values) for values in taught]).mean(0)
    return (alike(features) - expected).square().mean(1)


class HeadInput:
    """Keeps what a network's last layer was given in its last pass: its features `[N, D]`."""

    def __init__(self, network: nn.Module) -> None:
        held: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            held[:] = inputs[:1]

        # A function, so that copies of the network, by which steps are timed, fill the same list.
        output_layer(network)[1].register_forward_pre_hook(keep)
        self._held = held

    def __call__(self) -> Tensor:
        """Return the features of the last pass."""
        (features,) = self._held
        return features
