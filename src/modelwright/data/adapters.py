"""What differs between kinds of data: an adapter for each kind of input and of target.

The rest of the package is the same for all of them and never branches on the kind. The tables are
`inputs.INPUTS` and `targets.TARGETS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from modelwright.arrays import Ints
from modelwright.data.cells import joined_text
from modelwright.data.dataset import Inputs, Split
from modelwright.data.findings import Finding
from modelwright.data.listing import Rows
from modelwright.data.store import Facts, Store, StoredSplit
from modelwright.files import JsonObject
from modelwright.kinds import InputKind
from modelwright.recipe import Recipe
from modelwright.recipe.data import TableData
from modelwright.run import Observe
from modelwright.transforms.inputs import Input
from modelwright.transforms.text import TextKind

NO_ROWS: Rows = np.empty(0, dtype=np.int64)
I = TypeVar("I", bound=Input)  # noqa: E741 (the one kind of input that an adapter is for)


# -- inputs ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Encoded:
    """The inputs of every row of a store."""

    input: Input
    inputs: Inputs
    cut: Rows = field(default_factory=lambda: NO_ROWS)
    """The rows that were truncated."""
    findings: tuple[Finding, ...] = ()
    """What is likely wrong with the inputs once they are decoded."""


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
    """The names of these file formats, for messages."""
    facts: Facts
    """What the store keeps of each sample."""
    fit: Callable[[StoredSplit, Recipe], I]
    """Returns how samples are preprocessed, fitted to the training split."""
    encode: Callable[[Store, I, Observe], Encoded]
    """Returns every row's inputs, decoded or tokenized unless they are in the cache."""
    resume: Callable[[I, Recipe], tuple[I, str]] = lambda input, recipe: (input, "")
    """Returns how samples are preprocessed where training starts from a model file, and a note."""
    length_setting: str = ""
    """The setting that limits a sample's length."""
    fit_statistics: Callable[[Split, Recipe], ChannelStatistics] = lambda train, recipe: (
        ChannelStatistics()
    )
    """Returns what normalises the inputs, fitted to the training split."""
    mixtures: Callable[[Store, Rows], Iterator[Finding]] = lambda store, used: iter(())
    """Yields findings of the audit about samples of different form."""
    near_duplicate_pairs: Callable[[Store, Rows], Ints] = lambda store, rows: np.empty(
        (0, 2), dtype=np.int64
    )
    """Returns pairs `[M, 2]` of places in some rows whose samples are nearly alike."""


# -- targets ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TargetCells:
    """The cells of a table that hold the target of each row."""

    columns: Sequence[Sequence[Any]]
    names: Sequence[str]
    """What the columns are called."""
    count: int
    """Rows."""
    separator: str | None
    """What stands between labels in a text; `None` where the cells can be lists."""
    place: Callable[[int], str]
    """Returns where a row stands, for messages."""
    is_comma_decimal: bool = False
    """Whether the comma is the decimal sign of numbers, where a column leaves it open."""


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
    """The target of each row, and the network's inputs for it."""

    labels: tuple[str, ...]
    """The labels, characters or names of numbers that the outputs stand for."""
    values: Any
    """One row for each row of `inputs`."""
    inputs: Inputs
    windows: Windows | None = None
    findings: tuple[Finding, ...] = ()
    unknown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By split, the labels that occur in it and not in the training split."""


@dataclass(frozen=True, slots=True)
class TargetRequest:
    """What targets are built from."""

    encoded: Encoded
    stored: Sequence[str]
    """Each row's target as the store keeps it: a label, a text, or JSON."""
    splits: Mapping[str, Rows]
    """The rows that are used."""
    names: tuple[str, ...] = ()
    """Of numbers, what they are called."""
    known: tuple[str, ...] | None = None
    """The labels, characters or names of an existing model; then nothing is fitted."""
    where: str = "data"
    """Where the data is, for messages."""

    @property
    def train(self) -> Sequence[str]:
        """The targets of the training split, as the store keeps them."""
        return [self.stored[row] for row in self.splits["train"].tolist()]


def read_texts(cells: TargetCells) -> tuple[list[str], tuple[str, ...]]:
    """Return the cells of the only column as texts, without notes."""
    return [joined_text(cell) for cell in cells.columns[0]], ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetAdapter:
    """One kind of target: from the cells of a source to the targets that a loss is given."""

    build: Callable[[TargetRequest], Targets]
    """Returns every row's target; what is fitted is fitted to the training split."""
    num_outputs: Callable[[tuple[str, ...], Input], int] = lambda labels, input: len(labels)
    """Returns how many numbers a network gives for each answer."""
    describe: Callable[[tuple[str, ...], Split, int], JsonObject]
    """Returns the model file's record of the targets, from labels, training split, and outputs."""
    columns: Callable[[TableData], tuple[str, ...]] = lambda spec: (spec.label,)
    """Returns the columns of a table that hold the target."""
    setting: str = "label"
    """The setting that names these columns."""
    read: Callable[[TargetCells], tuple[Sequence[str], tuple[str, ...]]] = read_texts
    """Returns what the store keeps of each row of a table, and notes for the user."""
    missing: str = ""
    """Why a row of a table without a target can't be used, for messages."""
    labels_of: Callable[[str], tuple[str, ...]] = lambda stored: (stored,)
    """Returns the labels in a stored target."""
    rename: Callable[[str, Mapping[str, str]], str] = lambda stored, names: names.get(
        stored, stored
    )
    has_labels: bool = False
    """Whether the network learns the labels that occur in training."""
    is_of_sample: bool = False
    """Whether labels belong to the whole sample, so that identical samples must have equal ones."""
    imbalance_fix: str = ""
    """Advice where one label is much rarer than another."""
    unknown_labels: str = ""
    """How labels that don't occur in training count; `{}` stands for the noun of a sample."""
    strata: Callable[[Sequence[str], Rows], tuple[Sequence[str], str]] = lambda stored, usable: (
        [""] * len(stored),
        "",
    )
    """Returns the stratum of each row for splitting, and a note for the user."""
    without_variety: Callable[[str, str], tuple[str, str]] | None = None
    """Returns the error and its fix where all training samples have the same target, from this
    target and the noun of a sample; `None` allows it."""
    of_split: Callable[[Any, int], Any] = lambda values, num_labels: values
    """Returns the targets of one split, from its number of labels."""
    text_kind: TextKind = "text"
    """How a text network uses its input."""
