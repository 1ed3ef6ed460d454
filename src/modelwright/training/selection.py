"""Choosing an epoch by validation: the history of scores, the best weights, early stopping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from modelwright.files import Json, JsonObject


def on_cpu(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy of weights on the processor."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}


@dataclass(slots=True)
class Selection:
    """The history of a training's epochs, and the weights of the best one.

    The best has the best score; where scores tie, the lowest `ties_by`; where that ties too, it is
    the earliest.
    """

    score: str
    higher_is_better: bool
    patience: int | None
    ties_by: str | None = None
    """A score that is better when lower, which decides among equals."""
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_index: int | None = None

    def consider(self, record: dict[str, float], weights: Mapping[str, Tensor]) -> None:
        """Add an epoch's record; keep its weights where it is the best so far.

        Args:
            record: `epoch`, `step`, `train_loss`, and the validation scores as `val_…`.
            weights: the weights that these scores belong to.
        """
        self.history.append(record)
        best = None if self.best_index is None else self._rank(self.history[self.best_index])
        if best is None or self._rank(record) > best:
            self.best_index = len(self.history) - 1
            self.best = on_cpu(weights)

    def _rank(self, record: Mapping[str, float]) -> tuple[float, float]:
        value = record[f"val_{self.score}"]
        # Where no validation sample has a label that is learnt, there is no log loss.
        tie = 0.0 if self.ties_by is None else -record.get(f"val_{self.ties_by}", 0.0)
        return (value if self.higher_is_better else -value, tie)

    @property
    def has_stalled(self) -> bool:
        """Whether `patience` epochs went by without a better one."""
        if self.patience is None or self.best_index is None:
            return False
        return len(self.history) - 1 - self.best_index >= self.patience

    def facts(self) -> JsonObject:
        """Return all but the weights as plain JSON values."""
        return {"history": self.history, "best_index": self.best_index}

    def load(self, facts: Mapping[str, Json], best: dict[str, Tensor]) -> None:
        """Take back what `facts` returned, and the best weights."""
        self.history = list(facts["history"])
        self.best_index = facts["best_index"]
        self.best = on_cpu(best)
