"""What differs between kinds of data: an adapter for each kind of input and of target.

The rest of the room is the same for all of them and never asks which one it has. The tables are
`inputs.INPUTS` and `targets.TARGETS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from modelwright.data.cells import joined_text
from modelwright.data.dataset import Inputs, Split
from modelwright.data.findings import Finding
from modelwright.data.store import Facts, Store, StoredSplit
from modelwright.kinds import InputKind
from modelwright.recipe import Recipe
from modelwright.recipe.data import TableData
from modelwright.run import Observe
from modelwright.transforms.inputs import Input
from modelwright.transforms.text import TextKind

Rows = NDArray[np.int64]
NO_ROWS: Rows = np.empty(0, dtype=np.int64)
I = TypeVar("I", bound=Input)  # noqa: E741 (the one kind of input that an adapter is for)


# -- inputs ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Encoded:
    """The inputs of every row of a store."""

    input: Input
    inputs: Inputs
    cut: Rows = field(default_factory=lambda: NO_ROWS)
    """The rows of which the end was cut off."""


class ChannelStatistics(NamedTuple):
    """The mean and the deviation of each channel `[C]` of images; empty of other inputs."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class InputAdapter(Generic[I]):
    """One kind of input, from the files of a source to what a network is given."""

    kind: InputKind
    suffixes: frozenset[str]
    """How the names of its files end."""
    formats: str
    """What these files are, for messages."""
    facts: Facts
    """What the store keeps of each sample."""
    fit: Callable[[StoredSplit, Recipe], I]
    """Returns how samples are taken, fitted to the training split."""
    encode: Callable[[Store, I, Observe], Encoded]
    """Returns every row's inputs, decoded or tokenized where that is new."""
    resume: Callable[[I, Recipe], tuple[I, str]] = lambda input, recipe: (input, "")
    """Returns how samples are taken where training starts from a model file, and what to say."""
    length_setting: str = ""
    """The setting by which long samples are cut."""
    fit_statistics: Callable[[Split, Recipe], ChannelStatistics] = lambda train, recipe: (
        ChannelStatistics()
    )
    """Returns what normalises the inputs, fitted to the training split."""
    mixtures: Callable[[Store, Rows], Iterator[Finding]] = lambda store, used: iter(())
    """Yields what the audit says of samples that differ in form."""
    near_duplicate_pairs: Callable[[Store, Rows], NDArray[np.int64]] = lambda store, rows: np.empty(
        (0, 2), dtype=np.int64
    )
    """Returns pairs `[M, 2]` of places in some rows whose samples are nearly alike."""


# -- targets ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TargetCells:
    """The cells of a table that say what is wanted of each row."""

    columns: Sequence[Sequence[Any]]
    names: Sequence[str]
    """What the columns are called."""
    count: int
    """Rows."""
    separator: str | None
    """What stands between labels in a text; `None` where the cells can be lists."""
    place: Callable[[int], str]
    """Returns where a row stands, for messages."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Which rows of the inputs a sample of the store gives, where it gives several."""

    starts: Rows
    counts: Rows
    texts: Rows
    """The text that each row of the inputs belongs to: several samples may be passages of one."""

    def of(self, rows: Rows) -> Rows:
        """Return the inputs' rows of some samples, in order."""
        return np.concatenate(
            [
                np.arange(start, start + count)
                for start, count in zip(self.starts[rows], self.counts[rows], strict=True)
            ]
            or [NO_ROWS]
        )

    def samples(self, rows: Rows) -> Rows:
        """Return the sample of each of these rows of the inputs."""
        return np.repeat(rows, self.counts[rows])


@dataclass(frozen=True, slots=True)
class Targets:
    """What is wanted of each row, and what the network is given for it."""

    labels: tuple[str, ...]
    """The labels, letters or names of numbers that the outputs stand for."""
    values: Any
    """One row a row of `inputs`."""
    inputs: Inputs
    windows: Windows | None = None
    findings: tuple[Finding, ...] = ()
    unknown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By split, the labels that it has beyond those of the training split."""


@dataclass(frozen=True, slots=True)
class TargetRequest:
    """What targets are built from."""

    encoded: Encoded
    held: Sequence[str]
    """What was read as each row's label."""
    splits: Mapping[str, Rows]
    """The rows that are used."""
    names: tuple[str, ...] = ()
    """Of numbers, what they are called."""
    known: tuple[str, ...] | None = None
    """The labels, letters or names of a model that exists; then nothing is fitted."""
    where: str = "data"
    """Where the data is, for messages."""

    @property
    def train(self) -> Sequence[str]:
        """What was read as the label of each row of the training split."""
        return [self.held[row] for row in self.splits["train"].tolist()]


def read_texts(cells: TargetCells) -> tuple[list[str], tuple[str, ...]]:
    """Return the cells of the only column as texts, and nothing to say of them."""
    return [joined_text(cell) for cell in cells.columns[0]], ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetAdapter:
    """One kind of target, from what a source says of a sample to what an objective is given."""

    build: Callable[[TargetRequest], Targets]
    """Returns every row's target; what is fitted is fitted to the training split."""
    num_outputs: Callable[[tuple[str, ...], Input], int] = lambda labels, input: len(labels)
    """Returns how many numbers a network gives for each answer."""
    describe: Callable[[tuple[str, ...], Split, int], dict[str, Any]]
    """Returns what a model file says of the targets, from labels, training split, and outputs."""
    columns: Callable[[TableData], tuple[str, ...]] = lambda spec: (spec.label,)
    """Returns the columns of a table that hold the target."""
    setting: str = "label"
    """The setting that names these columns."""
    read: Callable[[TargetCells], tuple[Sequence[str], tuple[str, ...]]] = read_texts
    """Returns what the store keeps of each row of a table, and what to say of the cells."""
    missing: str = ""
    """What is said of a row of a table without a target."""
    labels_of: Callable[[str], tuple[str, ...]] = lambda held: (held,)
    """Returns the labels in what was read of a sample."""
    rename: Callable[[str, Mapping[str, str]], str] = lambda held, names: names.get(held, held)
    has_labels: bool = False
    """Whether the network learns the labels that occur in training."""
    is_of_sample: bool = False
    """Whether labels are of the whole sample, so that equal samples have equal ones."""
    imbalance_fix: str = ""
    """What helps where one label is much rarer than another, beside looking."""
    unknown_labels: str = ""
    """What becomes of labels that training has none of; it takes what a sample is."""
    strata: Callable[[Sequence[str], Rows], tuple[Sequence[str], str]] = lambda held, usable: (
        [""] * len(held),
        "",
    )
    """Returns by what a split keeps the rows' shares, and what to say of it."""
    require_variety: Callable[[set[str], str, str], None] = lambda held, title, noun: None
    """Refuses a training split whose samples all want the same answer."""
    of_split: Callable[[Any, int], Any] = lambda values, num_labels: values
    """Returns the targets of one split, from its number of labels."""
    text_kind: TextKind = "text"
    """What a network of texts does with its input."""
