"""What is wanted of each sample, by the kind of task: classes, sets of labels, numbers, texts, ….

Whatever is fitted (labels, letters, the vocabulary) is fitted to the training split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.data.audit import Finding
from modelwright.data.dataset import Inputs
from modelwright.data.documents import WHOLE
from modelwright.data.encoding import Encoded
from modelwright.data.labels import Labels, fit_labels, read_boxes
from modelwright.data.multi_label import read_labels
from modelwright.data.ragged import Joined, Ragged
from modelwright.tasks import Target
from modelwright.tasks.boxes import box_arrays, framing, visible
from modelwright.transforms import ImageInput
from modelwright.transforms.hf_tokenizer import HFTokenizer
from modelwright.transforms.text import BEGIN, END, TextInput

Rows = NDArray[np.int64]
LEAST_VISIBLE = 0.25
"""A box of which the network's input shows a smaller share isn't asked for."""


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
            or [np.empty(0, np.int64)]
        )


# -- classes and numbers ---------------------------------------------------------------------


def class_targets(
    held: Sequence[str], splits: Mapping[str, Rows], labels: Labels
) -> NDArray[np.int64]:
    """Return each row's class number in its split, −1 where the row isn't used."""
    targets = np.full(len(held), -1, dtype=np.int64)
    for name, rows in splits.items():
        numbers = {label: number for number, label in enumerate(labels.in_split(name))}
        targets[rows] = [numbers[held[row]] for row in rows.tolist()]
    return targets


def label_set_targets(
    held: Sequence[str], splits: Mapping[str, Rows], labels: Labels
) -> NDArray[np.bool_]:
    """Return which labels each row has `[N, K + U]`, by their numbers in its split.

    U is the most labels that a split has beyond the K known ones.
    """
    most = max(map(len, labels.unknown.values()))
    targets = np.zeros((len(held), len(labels.known) + most), dtype=np.bool_)
    for name, rows in splits.items():
        numbers = {label: number for number, label in enumerate(labels.in_split(name))}
        for row in rows.tolist():
            targets[row, [numbers[label] for label in read_labels(held[row])]] = True
    return targets


def number_targets(held: Sequence[str], usable: Rows, count: int) -> NDArray[np.float64]:
    """Return each row's numbers `[N, D]`, as they are: errors are measured against these."""
    targets = np.zeros((len(held), count), dtype=np.float64)
    for row in usable.tolist():
        targets[row] = json.loads(held[row])
    return targets


# -- letters ---------------------------------------------------------------------------------


def spoken(text: str) -> str:
    """Return a text as it is learnt by ear: without case, and with one blank between words."""
    return " ".join(text.casefold().split())


def letters_of(held: Sequence[str], train: Rows) -> tuple[str, ...]:
    """Return the letters that the training texts are written in."""
    return tuple(sorted({letter for row in train.tolist() for letter in spoken(held[row])}))


def letter_targets(held: Sequence[str], letters: Sequence[str]) -> tuple[Ragged, int]:
    """Return each row's letters as 1…K−1, with their `count`; and how many aren't known.

    What isn't known is K, which no network answers: it counts as an error.
    """
    numbers = {letter: number for number, letter in enumerate(letters, start=1)}
    rows, unknown = [], 0
    for text in held:
        found = [numbers.get(letter, len(letters) + 1) for letter in spoken(text)]
        unknown += found.count(len(letters) + 1)
        rows.append(np.array(found, dtype=np.int64))
    return Ragged.of("letters", rows, "int64", length_name="count"), unknown


# -- texts -----------------------------------------------------------------------------------


def text_targets(
    source: Ragged, held: Sequence[str], input: TextInput
) -> tuple[Joined, Ragged, Rows]:
    """Return what a network that writes is given and asked, and the rows whose ends are cut off.

    It is given the source and, in training, the wanted text behind the id that begins one; asked is
    each next token, at last the id that ends one.
    """
    ids = input.tokenizer.encode(list(held))
    # What a tokenizer from elsewhere puts before a text, its network writes too.
    begins = [BEGIN, *input.tokenizer.before]
    room = input.max_length + 1 - len(begins)
    cut = np.array([row for row, item in enumerate(ids) if len(item) > room], np.int64)
    ends = [np.array(begins, np.int64), np.array([END], np.int64)]
    whole = [np.concatenate([ends[0], item[:room], ends[1]]) for item in ids]
    text = Ragged.of("target", whole, "int64", length_name="")
    given = replace(text, lengths=text.lengths - 1)
    targets = replace(given, name="next", starts=text.starts + 1)
    source = replace(source, name="source", length_name="source_length")
    return Joined((source, given)), targets, cut


# -- what follows ----------------------------------------------------------------------------


def next_targets(
    tokens: Ragged, held: Sequence[str], input: TextInput
) -> tuple[Ragged, Joined, Windows]:
    """Return stretches of texts, what follows each of their tokens, and which rows have which.

    A text begins with the id that begins one, and where it is whole it ends with that which ends
    one. A stretch has `input.max_length` tokens, the last of a text what is left.
    """
    parts = []
    for at, (start, length) in enumerate(zip(tokens.starts, tokens.lengths, strict=True)):
        own = tokens.values[start : start + length]
        end = [END] if held[at] == WHOLE else []
        parts.append(np.concatenate([[BEGIN], own, end]).astype(np.int64))
    values = np.concatenate([*parts, np.empty(0, np.int64)])
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    begins = np.cumsum(sizes) - sizes
    counts = np.maximum(-(-(sizes - 1) // input.max_length), 1)
    first = np.cumsum(counts) - counts
    inside = np.arange(int(counts.sum())) - np.repeat(first, counts)
    starts = np.repeat(begins, counts) + inside * input.max_length
    left = np.repeat(begins + sizes - 1, counts) - starts
    lengths = np.minimum(left, input.max_length)
    given = Ragged("tokens", values, starts, lengths, length_name="")
    targets = replace(given, name="next", starts=starts + 1)
    widths = _bytes_of(input)[values]
    if isinstance(input.tokenizer, HFTokenizer) and input.tokenizer.spells == "after a blank":
        firsts = (begins + 1)[tokens.lengths > 0]
        widths[firsts] = np.maximum(widths[firsts] - 1, 0)
    sized = Ragged("bytes", widths, starts + 1, lengths, length_name="")
    return given, Joined((targets, sized)), Windows(first, counts, np.repeat(_texts(held), counts))


def _texts(held: Sequence[str]) -> Rows:
    """Return a number for each row, the same for the passages of one text, of which one ends it."""
    ends = np.array([label == WHOLE for label in held], dtype=np.int64)
    return np.cumsum(ends) - ends


def _bytes_of(input: TextInput) -> NDArray[np.int16]:
    """Return how many bytes of a text each token stands for; of what is unknown one."""
    tokenizer = input.tokenizer
    if isinstance(tokenizer, HFTokenizer):
        return tokenizer.widths()
    sizes = np.ones(tokenizer.size, dtype=np.int16)
    sizes[[0, BEGIN, END]] = 0
    for number in range(END + 1, tokenizer.size):
        token = tokenizer.token(number)
        # `bpe` writes each byte as one letter; the others write their text.
        sizes[number] = len(token) if tokenizer.kind == "bpe" else len(token.encode())
    return sizes


# -- boxes -----------------------------------------------------------------------------------


def are_boxes(targets: object) -> bool:
    """Say whether targets are what `box_targets` made, or some rows of it."""
    return isinstance(targets, Joined) and targets.parts[0].name == "boxes"


def box_targets(
    held: Sequence[str], input: ImageInput, splits: Mapping[str, Rows], labels: Labels
) -> tuple[Joined, int]:
    """Return boxes `[M, 4]` in the network's input and their numbers, padded with −1.

    Args:
        held: each row's boxes.
        input: how the images are resized.
        splits: the rows that are used; the others have no box.
        labels: the labels, whose numbers go by the split.

    Returns:
        The targets; and how many boxes lie where resizing cuts an image, which are left out.
    """
    places: list[NDArray[np.float32]] = [np.empty((0, 4), np.float32)] * len(held)
    classes: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(held)
    hidden = 0
    for name, rows in splits.items():
        names = labels.in_split(name)
        for row in rows.tolist():
            image = read_boxes(held[row])
            boxes, numbers = box_arrays(image, names)
            frame = framing(input, width=image.width, height=image.height)
            cut, stays = visible(
                frame.to_input(boxes), width=input.width, height=input.height, least=LEAST_VISIBLE
            )
            places[row], classes[row] = cut[stays], numbers[stays]
            hidden += int((~stays).sum())
    targets = Joined(
        (
            Ragged.of("boxes", places, "float32", length_name="", multiple=1),
            Ragged.of("labels", classes, "int64", length_name="", multiple=1, pad=-1),
        )
    )
    return targets, hidden


# -- any of them -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Targets:
    """What is wanted of each row, and what the network is given for it."""

    labels: tuple[str, ...]
    targets: Any
    inputs: Inputs
    windows: Windows | None = None
    findings: tuple[Finding, ...] = ()
    unknown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By split, the labels that it has beyond those."""


def build_targets(
    target: Target,
    encoded: Encoded,
    held: Sequence[str],
    splits: Mapping[str, Rows],
    *,
    names: tuple[str, ...] = (),
    known: tuple[str, ...] | None = None,
    where: str = "data",
) -> Targets:
    """Return what is wanted of each row; what is fitted is fitted to the training split.

    Args:
        target: the kind of target.
        encoded: the inputs of every row.
        held: what was read as each row's label.
        splits: the rows that are used.
        names: of numbers, what they are called.
        known: the labels, letters or names of a model that exists; then nothing is fitted.
        where: where the data is, for messages.

    Raises:
        DataError: there is no box to learn, or a split has none of the labels.
    """
    train, inputs, input = splits.get("train", _NO_ROWS), encoded.inputs, encoded.input
    used = np.sort(np.concatenate(list(splits.values())))
    match target:
        case "label" | "labels" | "boxes":
            labels = fit_labels(target, held, splits, known, where=where)
            return _asked_by_label(target, encoded, held, splits, labels)
        case "numbers":
            return Targets(names, number_targets(held, used, len(names)), inputs)
        case "letters":
            letters = letters_of(held, train) if known is None else known
            spelled, unknown = letter_targets(held, letters)
            found = Finding(
                kind="unknown_letters",
                severity="warning",
                rows=(),
                message=f"{unknown:,} letters occur in no training text; each counts as an error",
            )
            return Targets(letters, spelled, inputs, findings=(found,) if unknown else ())
        case "text":
            assert isinstance(inputs, Ragged)
            assert isinstance(input, TextInput)
            given, targets, cut = text_targets(inputs, held, input)
            return Targets((), targets, given, findings=tuple(_cut_targets(cut, splits)))
        case "next":
            assert isinstance(inputs, Ragged)
            assert isinstance(input, TextInput)
            stretches, follow, windows = next_targets(inputs, held, input)
            return Targets((), follow, stretches, windows)


def _asked_by_label(
    target: Target,
    encoded: Encoded,
    held: Sequence[str],
    splits: Mapping[str, Rows],
    labels: Labels,
) -> Targets:
    input = encoded.input
    targets: Any
    findings: tuple[Finding, ...] = ()
    if target == "boxes":
        assert isinstance(input, ImageInput)
        targets, hidden = box_targets(held, input, splits, labels)
        if hidden:
            found = Finding(
                kind="hidden_boxes",
                severity="warning",
                rows=(),
                message=f"{hidden:,} boxes lie where `transforms.resize: {input.resize}` "
                "cuts images, and are left out",
                fix="`letterbox` keeps all of an image",
            )
            findings = (found,)
    else:
        make = class_targets if target == "label" else label_set_targets
        targets = make(held, splits, labels)
    return Targets(labels.known, targets, encoded.inputs, findings=findings, unknown=labels.unknown)


_NO_ROWS: Rows = np.empty(0, dtype=np.int64)


def _cut_targets(cut: Rows, splits: Mapping[str, Rows]) -> Iterator[Finding]:
    for name, rows in splits.items():
        count = len(np.intersect1d(cut, rows))
        if count:
            yield Finding(
                kind="cut_target",
                severity="warning",
                rows=(),
                message=f"{count:,} of {len(rows):,} texts wanted of the {name} split are longer "
                "than `text.max_length` allows, and their ends are cut off",
                fix="Raise `text.max_length`",
            )
