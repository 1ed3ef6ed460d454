"""What can be predicted from what: the kinds of input, the kinds of output, and the tasks.

A task is a name for a kind of input and a kind of output. Everything that depends on the kind of
prediction (sources, networks, losses, metrics, decoding) is declared for these kinds, and asks them
instead of keeping a list of its own. This module imports nothing heavy, because predicting needs
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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

    SINGLE_LABEL = "single_label"
    """One of K exclusive labels."""
    MULTI_LABEL = "multi_label"
    """Any number of K labels, each by itself."""
    REGRESSION = "regression"
    """One number or several."""
    CTC = "ctc"
    """A text that is aligned with the input, character by character (Graves et al. 2006)."""
    SEQ2SEQ = "seq2seq"
    """A text that is generated from another text."""
    CAUSAL_LM = "causal_lm"
    """The continuation of a text."""
    BOXES = "boxes"
    """Any number of boxes, each with a label."""

    @property
    def noun(self) -> str:
        """The words for what is predicted, for messages."""
        return _NOUNS[self]

    @property
    def has_classes(self) -> bool:
        """Whether the outputs stand for labels that occur in the training data."""
        return self in (OutputKind.SINGLE_LABEL, OutputKind.MULTI_LABEL, OutputKind.BOXES)

    @property
    def is_generative(self) -> bool:
        """Whether the model generates text, token by token."""
        return self in (OutputKind.SEQ2SEQ, OutputKind.CAUSAL_LM)


_NOUNS = {
    OutputKind.SINGLE_LABEL: "one label",
    OutputKind.MULTI_LABEL: "several labels",
    OutputKind.REGRESSION: "numbers",
    OutputKind.CTC: "transcripts",
    OutputKind.SEQ2SEQ: "texts from texts",
    OutputKind.CAUSAL_LM: "the next tokens",
    OutputKind.BOXES: "boxes",
}

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
