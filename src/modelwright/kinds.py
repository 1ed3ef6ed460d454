"""What can be predicted from what: the kinds of input, the kinds of output, and the tasks.

A task is a name for a kind of input and a kind of output. Everything that depends on the kind of
prediction (sources, networks, losses, metrics, decoding) is declared for these kinds, and asks them
instead of keeping a list of its own. This module imports nothing heavy, because predicting needs
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class InputKind(StrEnum):
    """What one sample is."""

    IMAGE = "image"
    TEXT = "text"
    AUDIO = "audio"

    @property
    def plural(self) -> str:
        """The word for several samples, for messages."""
        return "recordings" if self is InputKind.AUDIO else f"{self}s"

    @property
    def noun(self) -> str:
        """The word for one sample, for messages."""
        return "recording" if self is InputKind.AUDIO else str(self)


class OutputKind(StrEnum):
    """What is predicted of one sample."""

    noun: str
    """The words for what is predicted, for messages."""
    has_classes: bool
    """Whether the outputs stand for labels that occur in the training data."""
    is_generative: bool
    """Whether the model generates text, token by token."""

    def __new__(
        cls, value: str, noun: str = "", has_classes: bool = False, is_generative: bool = False
    ) -> Self:
        """Return a member with its traits."""
        member = str.__new__(cls, value)
        member._value_, member.noun = value, noun
        member.has_classes, member.is_generative = has_classes, is_generative
        return member

    SINGLE_LABEL = "single_label", "one label", True
    """One of K exclusive labels."""
    MULTI_LABEL = "multi_label", "several labels", True
    """Any number of K labels, each by itself."""
    REGRESSION = "regression", "numbers"
    """One number or several."""
    CTC = "ctc", "transcripts"
    """A text that is aligned with the input, character by character (Graves et al. 2006)."""
    SEQ2SEQ = "seq2seq", "texts from texts", False, True
    """A text that is generated from another text."""
    CAUSAL_LM = "causal_lm", "the next tokens", False, True
    """The continuation of a text."""
    BOXES = "boxes", "boxes", True
    """Any number of boxes, each with a label."""


ANY_INPUT = frozenset(InputKind)
ANY_OUTPUT = frozenset(OutputKind)
CLASSIFICATION = (OutputKind.SINGLE_LABEL, OutputKind.MULTI_LABEL)
VECTOR_OUTPUTS = (*CLASSIFICATION, OutputKind.REGRESSION)
"""The kinds whose networks give one vector a sample."""


@dataclass(frozen=True, slots=True)
class TaskKinds:
    """The kinds that a task's name stands for; where there are several, the recipe decides."""

    inputs: tuple[InputKind, ...]
    outputs: tuple[OutputKind, ...]


TASK_KINDS: dict[str, TaskKinds] = {
    "image-classification": TaskKinds((InputKind.IMAGE,), CLASSIFICATION),
    "text-classification": TaskKinds((InputKind.TEXT,), CLASSIFICATION),
    "audio-classification": TaskKinds((InputKind.AUDIO,), CLASSIFICATION),
    "regression": TaskKinds(tuple(InputKind), (OutputKind.REGRESSION,)),
    "language-modeling": TaskKinds((InputKind.TEXT,), (OutputKind.CAUSAL_LM,)),
    "translation": TaskKinds((InputKind.TEXT,), (OutputKind.SEQ2SEQ,)),
    "summarization": TaskKinds((InputKind.TEXT,), (OutputKind.SEQ2SEQ,)),
    "speech-recognition": TaskKinds((InputKind.AUDIO,), (OutputKind.CTC,)),
    "object-detection": TaskKinds((InputKind.IMAGE,), (OutputKind.BOXES,)),
}
"""The tasks by name; what comes first holds where the recipe says nothing."""
