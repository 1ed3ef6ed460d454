"""The audit: what is likely wrong with the data, before anything is trained on it."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modelwright.data.hashing import THUMBNAIL
from modelwright.data.labels import BECOMES, LABELLED, count_labels, labels_of, shown_unknown
from modelwright.data.listing import Kind
from modelwright.data.near_duplicates import (
    LEAST_LIKENESS,
    LEAST_LIKENESS_TINY,
    near_duplicate_pairs,
)
from modelwright.data.store import Store
from modelwright.tasks import Target

Rows = NDArray[np.int64]
Severity = Literal["error", "warning", "note"]
_SHOWN = 3
"""How many samples a message names."""
_LISTED = 200
"""How many rows a finding lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is likely wrong."""

    kind: str
    severity: Severity
    rows: tuple[str, ...]
    """The samples concerned, by origin; the first ones where there are very many."""
    message: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as `check --json` prints it."""
        return {**asdict(self), "rows": list(self.rows)}


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All that was found."""

    findings: tuple[Finding, ...]
    near_test_rows: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Rows of the test split that closely resemble one of another split."""

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """Identical samples in two splits, of which one is measured."""
        return tuple(item for item in self.findings if item.kind == LEAK)


LEAK = "leak"


def audit(
    store: Store, splits: Mapping[str, Rows], *, allow_leaks: bool, target: Target = "label"
) -> AuditReport:
    """Audit a store with its splits, in linear time.

    Args:
        store: the samples.
        splits: the rows of each split.
        allow_leaks: report identical samples across splits as warnings.
        target: what is wanted; only of labels something is said.
    """
    held, origins = store.strings("label"), store.strings("origin")
    has_labels = target in ("label", "labels")
    side = np.full(len(store), -1, dtype=np.int64)
    for number, rows in enumerate(splits.values()):
        side[rows] = number
    names = list(splits)
    used = np.flatnonzero(side >= 0)
    findings: list[Finding] = []
    findings += _broken(store, origins)
    if has_labels:
        labels = [labels_of(item, target) for item in held]
        findings += _labels(store, labels, weighs=target == "label")
    if target in LABELLED:
        findings += _unlearnable(splits, held, store.kind, target)
    findings += _MIXTURES[store.kind](store, used)
    same = _identical(store, used)
    findings += _duplicates(
        same,
        side,
        names,
        # Only labels contradict one another: a text may well have two translations.
        held if has_labels else [""] * len(store),
        origins,
        allow_leaks=allow_leaks,
        kind=store.kind,
    )
    if store.kind != "image":
        nothing = np.empty((0, 2), dtype=np.int64)
        return AuditReport(tuple(findings), _near_test(nothing, same, side, names))
    # Of identical images one stands for all: a thousand copies would make half a million pairs.
    copies = np.array([row for group in same for row in group[1:]], dtype=np.int64)
    alone = np.setdiff1d(used, copies)
    sides = np.minimum(store.numbers("width"), store.numbers("height"))[alone]
    pairs = alone[
        near_duplicate_pairs(
            store.numbers("phash")[alone],
            store.fixed("thumbnail")[alone],
            least=np.where(sides < THUMBNAIL, LEAST_LIKENESS_TINY, LEAST_LIKENESS).astype("f4"),
        )
    ]
    findings += _near(pairs, side, names, origins)
    return AuditReport(tuple(findings), _near_test(pairs, same, side, names))


def as_errors(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings with leaks as what they are for a run: errors."""
    return tuple(
        replace(item, severity="error") if item.kind == LEAK else item for item in findings
    )


def _named(rows: Sequence[int], origins: Sequence[str]) -> str:
    shown = ", ".join(origins[row] for row in rows[:_SHOWN])
    return shown + (f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else "")


def listed(rows: Sequence[int], origins: Sequence[str]) -> tuple[str, ...]:
    """Return the samples that a finding lists, by their origins."""
    return tuple(origins[row] for row in rows[:_LISTED])


def _broken(store: Store, origins: Sequence[str]) -> Iterator[Finding]:
    broken = store.errors()
    if not broken:
        return
    rows = list(broken)
    first = rows[0]
    yield Finding(
        kind="broken",
        severity="warning",
        rows=listed(rows, origins),
        message=f"{_count(len(rows), 'file')} can't be used and {_is(len(rows))} left out: "
        f"{_named(rows, origins)} ({origins[first]}: {broken[first]})",
        fix="Replace them, or take them out of the data",
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _labels(store: Store, labels: Sequence[tuple[str, ...]], *, weighs: bool) -> Iterator[Finding]:
    """Yield what is odd about the labels of all rows; `weighs`: whether a loss can weigh them."""
    broken = store.errors()
    usable = Counter(
        label for row, names in enumerate(labels) if row not in broken for label in names
    )
    alike: dict[str, list[str]] = defaultdict(list)
    for label in usable:
        folded = unicodedata.normalize("NFKC", label).casefold()
        alike[" ".join(folded.split())].append(label)
    for group in alike.values():
        if len(group) > 1:
            shown = ", ".join(f"`{label}` ({usable[label]:,})" for label in sorted(group))
            yield Finding(
                kind="label_typo",
                severity="warning",
                rows=tuple(sorted(group)),
                message=f"labels differ in case, blanks or spelling of accents only: {shown}",
                fix="Write them alike, unless they mean different things",
            )
    single = sorted(label for label, count in usable.items() if count == 1)
    if single:
        shown = ", ".join(f"`{label}`" for label in single[:_SHOWN])
        more = f" and {len(single) - _SHOWN:,} more" if len(single) > _SHOWN else ""
        yield Finding(
            kind="single_sample",
            severity="warning",
            rows=tuple(single[:_LISTED]),
            message=f"{_count(len(single), 'class')} with one sample only: {shown}{more}".replace(
                "classs", "classes"
            ),
            fix=f"Such a class is learned from one {store.kind} and never tested; add some, or "
            "drop it",
        )
    if usable and max(usable.values()) >= 20 * min(usable.values()) and len(usable) <= 1000:
        large, small = usable.most_common(1)[0], min(usable.items(), key=lambda item: item[1])
        yield Finding(
            kind="imbalance",
            severity="note",
            rows=(large[0], small[0]),
            message=f"`{large[0]}` has {large[1]:,} samples and `{small[0]}` {small[1]:,}",
            fix="Look at recall by class"
            + (", and try `loss: {name: cross-entropy, class_weights: balanced}`" * weighs),
        )


def _unlearnable(
    splits: Mapping[str, Rows], held: Sequence[str], kind: Kind, target: Target
) -> Iterator[Finding]:
    """Yield the classes that are tested and can't be learned, since training has none of them."""
    counts = count_labels(target, held, splits)
    lost, shown = shown_unknown(counts, counts["train"])
    if not lost:
        return
    thing = "box" if target == "boxes" else kind
    yield Finding(
        kind="untrained_class",
        severity="warning",
        rows=tuple(lost[:_LISTED]),
        message=f"{len(lost):,} {'class has' if len(lost) == 1 else 'classes have'} no {thing} in "
        f"the training split, and can't be learned: {shown}; {BECOMES[target].format(kind)}",
        fix="Give the training split some of each, or take the class out",
    )


def _sizes(store: Store, used: Rows) -> Iterator[Finding]:
    widths, heights = store.numbers("width")[used], store.numbers("height")[used]
    sizes = Counter(zip(widths.tolist(), heights.tolist(), strict=True))
    if len(sizes) > 1:
        (wide, high), count = sizes.most_common(1)[0]
        yield Finding(
            kind="mixed_sizes",
            severity="note",
            rows=(),
            message=f"{len(sizes):,} sizes of image, from {widths.min()}×{heights.min()} to "
            f"{widths.max()}×{heights.max()}; {count:,} have {wide}×{high}",
            fix="All are resized to one size: see `transforms.size` and `transforms.resize`",
        )
    held = store.strings("mode")
    modes = Counter(held[row] for row in used.tolist())
    if len(modes) > 1:
        shown = ", ".join(f"{mode} ({count:,})" for mode, count in modes.most_common(6))
        yield Finding(
            kind="mixed_modes",
            severity="note",
            rows=(),
            message=f"several colour modes: {shown}",
            fix="All become RGB, or grey where every image is: see `transforms.color_mode`",
        )


def _no_mixture(store: Store, used: Rows) -> Iterator[Finding]:
    yield from ()


def _mixed_recordings(store: Store, used: Rows) -> Iterator[Finding]:
    rates = Counter(store.numbers("sampling_rate")[used].tolist())
    if len(rates) > 1:
        shown = ", ".join(f"{rate:,} Hz ({count:,})" for rate, count in rates.most_common(6))
        yield Finding(
            kind="mixed_rates",
            severity="note",
            rows=(),
            message=f"several sampling rates: {shown}",
            fix="All are resampled to one: see `audio.sampling_rate`",
        )
    channels = store.numbers("channels")[used]
    several = int((channels > 1).sum())
    if several:
        yield Finding(
            kind="channels",
            severity="note",
            rows=(),
            message=f"{_count(several, 'sound')} of {len(used):,} with several channels",
            fix="Their mean is taken; if the channels hold different things, split them first",
        )


_MIXTURES: dict[Kind, Callable[[Store, Rows], Iterator[Finding]]] = {
    "image": _sizes,
    "text": _no_mixture,
    "audio": _mixed_recordings,
}


def _identical(store: Store, used: Rows) -> list[list[int]]:
    """Return groups of rows that are the same bytes, pixels, samples, or text but for case."""
    groups: dict[int, list[int]] = {}
    leader: dict[int, int] = {}
    pixels, contents = store.fixed("content_digest"), store.fixed("bytes_digest")
    for column in (contents, pixels):
        first: dict[bytes, int] = {}
        for row in used.tolist():
            key = column[row].tobytes()
            other = first.setdefault(key, row)
            if other != row:
                a, b = leader.get(other, other), leader.get(row, row)
                if a == b:
                    continue
                a, b = min(a, b), max(a, b)
                merged = groups.pop(b, [b])
                groups.setdefault(a, [a]).extend(merged)
                for item in merged:
                    leader[item] = a
    return [sorted(group) for _, group in sorted(groups.items())]


def _duplicates(
    same: list[list[int]],
    side: Rows,
    names: list[str],
    labels: Sequence[str],
    origins: Sequence[str],
    *,
    allow_leaks: bool,
    kind: Kind,
) -> Iterator[Finding]:
    across: dict[tuple[str, str], list[int]] = defaultdict(list)
    within: list[int] = []
    contradicting: list[int] = []
    for group in same:
        sides = {int(side[row]) for row in group}
        if len(sides) == 1:
            within += group[1:]
        for low in sides:
            for high in sides:
                if low < high:
                    across[names[low], names[high]] += [row for row in group if side[row] == high]
        if len({labels[row] for row in group}) > 1:
            contradicting += group
    for (low_name, high_name), rows in sorted(across.items()):
        yield Finding(
            kind=LEAK,
            severity="warning" if allow_leaks else "error",
            rows=listed(rows, origins),
            message=f"{_count(len(rows), kind)} of the {high_name} split also "
            f"{'stands' if len(rows) == 1 else 'stand'} in the {low_name} split: "
            f"{_named(rows, origins)}",
            fix="Take them out of one of the two. With `data: {allow_leaks: true}` the run goes "
            "on, and its figures are too good",
        )
    if contradicting:
        yield Finding(
            kind="contradiction",
            severity="warning",
            rows=listed(contradicting, origins),
            message=f"{_count(len(contradicting), f'identical {kind}')} under different labels: "
            f"{_named(contradicting, origins)}",
            fix="One of the labels is wrong, or the classes overlap",
        )
    if within:
        yield Finding(
            kind="duplicate",
            severity="warning",
            rows=listed(within, origins),
            message=f"{_count(len(within), kind)} within a split "
            f"{'repeats' if len(within) == 1 else 'repeat'} another: "
            f"{_named(within, origins)}",
            fix="They count several times; take the copies out",
        )


def _near(pairs: Rows, side: Rows, names: list[str], origins: Sequence[str]) -> Iterator[Finding]:
    sides = side[pairs] if len(pairs) else np.empty((0, 2), dtype=np.int64)
    apart = sides[:, 0] != sides[:, 1]
    # Those of validation aren't measured on, where there is a test split.
    is_tested = "test" in names and bool((sides[apart] == names.index("test")).any())
    beside = ". The figure without them stands beside the headline" if is_tested else ""
    for chosen, kind, severity, text, fix in (
        (
            apart,
            "near_leak",
            "warning",
            "across the splits, nearly alike",
            "Look at them: views of one scene or frames of one film belong on one side "
            "(`data.split.by: group`)" + beside,
        ),
        (
            ~apart,
            "near_duplicate",
            "note",
            "within a split, nearly alike",
            "Harmless if they are different photographs; copies count several times",
        ),
    ):
        found = pairs[chosen]
        if not len(found):
            continue
        shown = [f"{origins[a]} ~ {origins[b]}" for a, b in found[:_LISTED].tolist()]
        first = ", ".join(shown[:_SHOWN])
        yield Finding(
            kind=kind,
            severity="warning" if severity == "warning" else "note",
            rows=tuple(shown),
            message=f"{_count(len(found), 'pair')} of images {text}: {first}"
            + (", …" if len(found) > _SHOWN else ""),
            fix=fix,
        )


def _near_test(pairs: Rows, same: list[list[int]], side: Rows, names: list[str]) -> Rows:
    if "test" not in names:
        return np.empty(0, dtype=np.int64)
    test = names.index("test")
    copies = {group[0]: group for group in same}
    found: set[int] = set()
    for group in same:
        if {int(side[row]) for row in group} != {test}:
            found |= {row for row in group if side[row] == test}
    for pair in pairs.tolist():
        for row, other in (pair, pair[::-1]):
            if any(side[item] != test for item in copies.get(other, (other,))):
                found |= {item for item in copies.get(row, (row,)) if side[item] == test}
    return np.array(sorted(found), dtype=np.int64)
