"""What is wanted of each sample, by the kind of task: classes, sets of labels, numbers, texts, ….

Whatever is fitted (labels, letters, the vocabulary) is fitted to the training split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.data.audit import Finding
from modelwright.data.dataset import Inputs
from modelwright.data.documents import WHOLE
from modelwright.data.encoding import Encoded
from modelwright.data.label_sets import label_set_targets
from modelwright.data.ragged import Joined, Ragged
from modelwright.errors import DataError
from modelwright.tasks import Target
from modelwright.tasks.boxes import BoxedImage, LabelledBox, box_arrays, framing, visible
from modelwright.transforms import ImageInput
from modelwright.transforms.text import BEGIN, END, TextInput
from modelwright.transforms.tokenizing import Tokenizer

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
    held: Sequence[str], splits: Mapping[str, Rows], known: tuple[str, ...] | None = None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the labels in order, and each row's class number, −1 where the row isn't used."""
    labels = known or tuple(
        sorted({held[row] for rows in splits.values() for row in rows.tolist()})
    )
    numbers = {label: number for number, label in enumerate(labels)}
    targets = np.full(len(held), -1, dtype=np.int64)
    for rows in splits.values():
        targets[rows] = [numbers[held[row]] for row in rows.tolist()]
    return labels, targets


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
    room = input.longest + 1 - len(begins)
    cut = np.array([row for row, item in enumerate(ids) if len(item) > room], np.int64)
    ends = [np.array(begins, np.int64), np.array([END], np.int64)]
    whole = [np.concatenate([ends[0], item[:room], ends[1]]) for item in ids]
    text = Ragged.of("target", whole, "int64", length_name="")
    given = replace(text, lengths=text.lengths - 1)
    asked = replace(given, name="next", starts=text.starts + 1)
    source = replace(source, name="source", length_name="source_length")
    return Joined((source, given)), asked, cut


# -- what follows ----------------------------------------------------------------------------


def next_targets(
    tokens: Ragged, held: Sequence[str], input: TextInput
) -> tuple[Ragged, Joined, Windows]:
    """Return stretches of texts, what follows each of their tokens, and which rows have which.

    A text begins with the id that begins one, and where it is whole it ends with that which ends
    one. A stretch has `input.longest` tokens, the last of a text what is left.
    """
    parts = []
    for at, (start, length) in enumerate(zip(tokens.starts, tokens.lengths, strict=True)):
        own = tokens.values[start : start + length]
        end = [END] if held[at] == WHOLE else []
        parts.append(np.concatenate([[BEGIN], own, end]).astype(np.int64))
    values = np.concatenate([*parts, np.empty(0, np.int64)])
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    begins = np.cumsum(sizes) - sizes
    counts = np.maximum(-(-(sizes - 1) // input.longest), 1)
    first = np.cumsum(counts) - counts
    inside = np.arange(int(counts.sum())) - np.repeat(first, counts)
    starts = np.repeat(begins, counts) + inside * input.longest
    left = np.repeat(begins + sizes - 1, counts) - starts
    lengths = np.minimum(left, input.longest)
    given = Ragged("tokens", values, starts, lengths, length_name="")
    asked = replace(given, name="next", starts=starts + 1)
    widths = _bytes_of(input)[values]
    sized = Ragged("bytes", widths, starts + 1, lengths, length_name="")
    return given, Joined((asked, sized)), Windows(first, counts, np.repeat(_texts(held), counts))


def _texts(held: Sequence[str]) -> Rows:
    """Return a number for each row, the same for the passages of one text, of which one ends it."""
    ends = np.array([label == WHOLE for label in held], dtype=np.int64)
    return np.cumsum(ends) - ends


def _bytes_of(input: TextInput) -> NDArray[np.int16]:
    """Return how many bytes of a text each token stands for; of what is unknown one."""
    tokenizer = input.tokenizer
    assert isinstance(tokenizer, Tokenizer)  # No network that comes with another one writes on.
    sizes = np.ones(tokenizer.size, dtype=np.int16)
    sizes[[0, BEGIN, END]] = 0
    for number in range(END + 1, tokenizer.size):
        token = tokenizer.token(number)
        # `bpe` writes each byte as one letter; the others write their text.
        sizes[number] = len(token) if tokenizer.kind == "bpe" else len(token.encode())
    return sizes


# -- boxes -----------------------------------------------------------------------------------


def box_labels(held: Sequence[str], train: Rows) -> tuple[str, ...]:
    """Return the labels of the training boxes, in order.

    Raises:
        DataError: there is no box.
    """
    found = {box.label for row in train.tolist() for box in read_boxes(held[row]).boxes}
    if not found:
        raise DataError("no training image has a box, so there is nothing to learn")
    return tuple(sorted(found))


def write_boxes(image: BoxedImage) -> str:
    """Return an image's boxes as the store keeps them."""
    rows = [[box.label, box.x1, box.y1, box.x2, box.y2] for box in image.boxes]
    return json.dumps([image.width, image.height, rows])


def read_boxes(held: str) -> BoxedImage:
    """Read what `write_boxes` returned."""
    width, height, rows = json.loads(held)
    return BoxedImage(width, height, tuple(LabelledBox(*row) for row in rows))


def are_boxes(targets: object) -> bool:
    """Say whether targets are what `box_targets` made, or some rows of it."""
    return isinstance(targets, Joined) and targets.parts[0].name == "boxes"


def box_targets(
    held: Sequence[str], input: ImageInput, labels: Sequence[str], rows: Rows
) -> tuple[Joined, int, int]:
    """Return boxes `[M, 4]` in the network's input and their class numbers, padded with −1.

    Args:
        held: each row's boxes.
        input: how the images are resized.
        labels: the classes.
        rows: those that are used; the others have no box.

    Returns:
        The targets; how many boxes have a label that doesn't occur in training; and how many lie
        where resizing cuts an image. Both are left out.
    """
    places: list[NDArray[np.float32]] = [np.empty((0, 4), np.float32)] * len(held)
    classes: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(held)
    unknown = hidden = 0
    for row in rows.tolist():
        image = read_boxes(held[row])
        known = tuple(box for box in image.boxes if box.label in labels)
        unknown += len(image.boxes) - len(known)
        boxes, numbers = box_arrays(replace(image, boxes=known), labels)
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
    return targets, unknown, hidden


# -- any of them -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of each row, and what the network is given for it."""

    labels: tuple[str, ...]
    targets: Any
    inputs: Inputs
    windows: Windows | None = None
    findings: tuple[Finding, ...] = ()


def ask_of(
    target: Target,
    encoded: Encoded,
    held: Sequence[str],
    splits: Mapping[str, Rows],
    *,
    names: tuple[str, ...] = (),
    known: tuple[str, ...] | None = None,
) -> Asked:
    """Return what is wanted of each row; what is fitted is fitted to the training split.

    Args:
        target: the kind of target.
        encoded: the inputs of every row.
        held: what was read as each row's label.
        splits: the rows that are used.
        names: of numbers, what they are called.
        known: the labels, letters or names of a model that exists; then nothing is fitted.
    """
    train, inputs, input = splits.get("train", _NO_ROWS), encoded.inputs, encoded.input
    used = np.sort(np.concatenate(list(splits.values())))
    match target:
        case "label":
            return Asked(*class_targets(held, splits, known), inputs)
        case "labels":
            return Asked(*label_set_targets(held, splits, known), inputs)
        case "numbers":
            return Asked(names, number_targets(held, used, len(names)), inputs)
        case "letters":
            letters = letters_of(held, train) if known is None else known
            spelled, unknown = letter_targets(held, letters)
            found = Finding(
                kind="unknown_letters",
                severity="warning",
                rows=(),
                message=f"{unknown:,} letters occur in no training text; each counts as an error",
            )
            return Asked(letters, spelled, inputs, findings=(found,) if unknown else ())
        case "text":
            assert isinstance(inputs, Ragged)
            assert isinstance(input, TextInput)
            given, asked, cut = text_targets(inputs, held, input)
            return Asked((), asked, given, findings=tuple(_cut_targets(cut, splits)))
        case "next":
            assert isinstance(inputs, Ragged)
            assert isinstance(input, TextInput)
            stretches, follow, windows = next_targets(inputs, held, input)
            return Asked((), follow, stretches, windows)
        case "boxes":
            assert isinstance(input, ImageInput)
            labels = box_labels(held, train) if known is None else known
            boxes, unknown, hidden = box_targets(held, input, labels, used)
            findings = []
            if unknown:
                findings.append(
                    Finding(
                        kind="unknown_boxes",
                        severity="warning",
                        rows=(),
                        message=f"{unknown:,} boxes have labels that no training image has; they "
                        "can't be found, and the figures leave them out",
                    )
                )
            if hidden:
                findings.append(
                    Finding(
                        kind="hidden_boxes",
                        severity="warning",
                        rows=(),
                        message=f"{hidden:,} boxes lie where `transforms.resize: {input.resize}` "
                        "cuts images, and are left out",
                        fix="`letterbox` keeps all of an image",
                    )
                )
            return Asked(labels, boxes, inputs, findings=tuple(findings))


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
                "than `text.longest` allows, and their ends are cut off",
                fix="Raise `text.longest`",
            )
