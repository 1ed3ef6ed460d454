"""The audit: what is likely wrong with the data, before anything is trained on it."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.data.adapters import TargetAdapter
from modelwright.data.findings import (
    LEAK,
    AuditReport,
    Finding,
    Severity,
    counted,
    origins_of,
    shown_first,
)
from modelwright.data.inputs import INPUTS
from modelwright.data.labels import count_labels, shown_unknown
from modelwright.data.listing import UNLABELLED_SPLIT, Rows
from modelwright.data.store import Store
from modelwright.kinds import InputKind
from modelwright.recipe.data import LeakRule

LEAK_FIX = (
    "Take them out of one of the two. `data: {leaks: drop_from_train}` leaves them out of the "
    "training split; with `data: {leaks: allow}` the run goes on, and its figures are too good"
)
_LARGEST_GROUP = 0.05
_FEW, _MANY_CLASSES = 5, 20
"""Classes with fewer samples than these are said, where they are so many and most of all."""
_SHOWN = 3
"""How many samples a message names."""


def audit(
    store: Store,
    splits: Mapping[str, Rows],
    target: TargetAdapter,
    *,
    leaks: LeakRule,
    places: Sequence[str] = (),
) -> AuditReport:
    """Audit a store with its splits, in linear time.

    Identical samples in two splits are errors where `leaks` is `refuse`, else warnings. `places`
    says of rows of tables where each stands; of files it is empty.
    """
    labels, origins, input = store.strings("label"), store.strings("origin"), INPUTS[store.kind]
    side = np.full(len(store), -1, dtype=np.int64)
    for number, rows in enumerate(splits.values()):
        side[rows] = number
    names = list(splits)
    used = np.flatnonzero(side >= 0)
    findings: list[Finding] = []
    findings += _broken(store, origins, places)
    if target.is_of_sample:
        findings += _labels(store, labels, target)
    if target.has_labels:
        findings += _unlearnable(splits, labels, store.kind, target)
    findings += input.mixtures(store, used)
    # Only labels contradict one another: a text may well have two translations.
    comparable = labels if target.is_of_sample else [""] * len(store)
    same = identical(store, used)
    findings += _duplicates(
        same,
        side,
        names,
        comparable,
        origins,
        leaks=leaks,
        kind=store.kind,
    )
    pairs = near_identical(store, used, same)
    findings += _near(pairs, side, names, comparable, origins)
    return AuditReport(tuple(findings), _near_test(pairs, same, side, names))


def _named(rows: Sequence[int], origins: Sequence[str]) -> str:
    return shown_first([origins[row] for row in rows], _SHOWN)


def _broken(store: Store, origins: Sequence[str], places: Sequence[str]) -> Iterator[Finding]:
    broken = store.errors()
    if not broken:
        return
    rows = list(broken)
    first = rows[0]
    shown = places or origins
    # The file that a row names is said too.
    named = f"{origins[first]}: " if shown[first] != origins[first] else ""
    yield Finding(
        kind="broken",
        severity="warning",
        rows=origins_of(rows, shown),
        message=f"{counted(len(rows), 'row' if places else 'file')} can't be used and "
        f"{'is' if len(rows) == 1 else 'are'} left out: "
        f"{_named(rows, shown)} ({shown[first]}: {named}{broken[first]})",
        fix="Mend them, or take them out of the table"
        if places
        else "Replace them, or take them out of the data",
    )


def _labels(store: Store, labels: Sequence[str], target: TargetAdapter) -> Iterator[Finding]:
    """Yield what is suspicious about the labels of all rows that have one."""
    broken, splits = store.errors(), store.strings("split")
    usable = Counter(
        label
        for row, item in enumerate(labels)
        if row not in broken and splits[row] != UNLABELLED_SPLIT
        for label in target.labels_of(item)
    )
    yield from _typos(usable)
    yield from _single_samples(usable, store.kind)
    yield from _few_samples(usable, store.kind)
    if usable and max(usable.values()) >= 20 * min(usable.values()) and len(usable) <= 1000:
        large, small = usable.most_common(1)[0], min(usable.items(), key=lambda item: item[1])
        yield Finding(
            kind="imbalance",
            severity="note",
            rows=(large[0], small[0]),
            message=f"`{large[0]}` has {large[1]:,} samples and `{small[0]}` {small[1]:,}",
            fix=f"Look at recall by class{target.imbalance_fix}",
        )


def _typos(usable: Counter[str]) -> Iterator[Finding]:
    """Yield groups of labels that likely mean the same and are written differently."""
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
                message=f"labels differ in case, spaces or the encoding of accents only: {shown}",
                fix="Write them alike, unless they mean different things",
            )


def _single_samples(usable: Counter[str], kind: InputKind) -> Iterator[Finding]:
    """Yield the labels that one sample alone has."""
    single = sorted(label for label, count in usable.items() if count == 1)
    if not single:
        return
    shown = shown_first([f"`{label}`" for label in single], _SHOWN)
    yield Finding(
        kind="single_sample",
        severity="warning",
        rows=tuple(single),
        message=f"{counted(len(single), 'class')} with one sample only: {shown}",
        fix=f"Such a class is learned from one {kind.noun} and never tested; add some, or drop it",
    )


def _few_samples(usable: Counter[str], kind: InputKind) -> Iterator[Finding]:
    """Yield that most of many classes have a handful of samples."""
    few = sorted(label for label, count in usable.items() if 1 < count < _FEW)
    if len(few) < _MANY_CLASSES or 2 * len(few) < len(usable):
        return
    shown = shown_first([f"`{label}` ({usable[label]})" for label in few], _SHOWN)
    yield Finding(
        kind="few_samples",
        severity="warning",
        rows=tuple(few),
        message=f"{len(few):,} of {counted(len(usable), 'class')} have fewer than {_FEW} "
        f"{kind.plural}, which are shared by training, validation and test: {shown}",
        fix="Such classes are hardly learned, and most of them are never tested; add "
        f"{kind.plural}, or put classes together",
    )


def _unlearnable(
    splits: Mapping[str, Rows], labels: Sequence[str], kind: InputKind, target: TargetAdapter
) -> Iterator[Finding]:
    """Yield the classes that are tested and can't be learned, since training has none of them."""
    counts = count_labels(target.labels_of, labels, splits)
    lost, shown = shown_unknown(counts, counts["train"])
    if not lost:
        return
    thing = kind.noun if target.is_of_sample else "box"
    yield Finding(
        kind="untrained_class",
        severity="warning",
        rows=tuple(lost),
        message=f"{len(lost):,} {'class has' if len(lost) == 1 else 'classes have'} no {thing} in "
        f"the training split, and can't be learned: {shown}; "
        + target.unknown_labels.format(kind.noun),
        fix="Give the training split some of each, or take the class out",
    )


def near_identical(store: Store, used: Rows, same: Sequence[Sequence[int]]) -> Rows:
    """Return pairs of rows `[M, 2]` whose samples are nearly alike.

    Of identical samples one stands for all: a thousand copies would make half a million pairs.
    """
    copies = np.array([row for group in same for row in group[1:]], dtype=np.int64)
    alone = np.setdiff1d(used, copies)
    return alone[INPUTS[store.kind].near_duplicate_pairs(store, alone)]


def similarity_groups(store: Store, used: Rows) -> NDArray[np.int64]:
    """Return the number of the group of each row of the store `[N]`; a draw keeps groups together.

    A group is of identical samples, or of images that are nearly alike, one after the other. Where
    that makes a group of more than a twentieth of all samples, its images are only alike as the
    data's images are, and the identical ones alone stay together.
    """
    same = identical(store, used)
    groups = np.arange(len(store))
    for group in same:
        groups[group] = group[0]
    leaders = list(range(len(store)))

    def leader(row: int) -> int:
        while leaders[row] != row:
            leaders[row] = leaders[leaders[row]]  # Halves the way for the next one.
            row = leaders[row]
        return row

    for a, b in near_identical(store, used, same).tolist():
        first, second = sorted((leader(a), leader(b)))
        leaders[second] = first
    merged = np.array([leader(row) for row in groups.tolist()], dtype=np.int64)
    sizes = np.bincount(merged[used], minlength=len(store))
    is_large = sizes[merged] > max(_LARGEST_GROUP * len(used), 1)
    return np.where(is_large, groups, merged)


def identical(store: Store, used: Rows) -> list[list[int]]:
    """Return groups of rows that are the same bytes, pixels, samples, or text but for case."""
    groups: dict[int, list[int]] = {}
    leader: dict[int, int] = {}
    pixels, contents = store.fixed("content_digest"), store.fixed("bytes_digest")
    for column in (contents, pixels):
        for first, *others in _repeated(column, used):
            for row in others:
                a, b = leader.get(first, first), leader.get(row, row)
                if a == b:
                    continue
                a, b = min(a, b), max(a, b)
                merged = groups.pop(b, [b])
                groups.setdefault(a, [a]).extend(merged)
                for item in merged:
                    leader[item] = a
    return [sorted(group) for _, group in sorted(groups.items())]


def _repeated(column: NDArray[np.uint8], used: Rows) -> list[list[int]]:
    """Return the rows of each value `[N, 16]` that several rows have, in order.

    By one sort: a dictionary of a million digests takes a quarter of a gigabyte.
    """
    halves = column[used].view(np.uint64)
    order = np.lexsort((halves[:, 1], halves[:, 0]))  # Stable: equal ones stay in order.
    halves = halves[order]
    is_new = np.append(True, (halves[1:] != halves[:-1]).any(axis=1))
    starts = np.flatnonzero(is_new)
    counts = np.diff(starts, append=len(order))
    return sorted(
        used[order[start : start + count]].tolist()
        for start, count in zip(starts[counts > 1], counts[counts > 1], strict=True)
    )


def _duplicates(
    same: list[list[int]],
    side: Rows,
    names: list[str],
    labels: Sequence[str],
    origins: Sequence[str],
    *,
    leaks: LeakRule,
    kind: InputKind,
) -> Iterator[Finding]:
    across: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    within: list[tuple[int, int]] = []
    contradicting: list[tuple[int, int]] = []
    for group in same:
        sides = {int(side[row]) for row in group}
        if len(sides) == 1:
            within += [(row, group[0]) for row in group[1:]]
        for low in sides:
            for high in sides:
                if low < high:
                    other = next(row for row in group if side[row] == low)
                    across[names[low], names[high]] += [
                        (row, other) for row in group if side[row] == high
                    ]
        odd = [row for row in group if labels[row] != labels[group[0]]]
        contradicting += [(row, group[0]) for row in odd]
    for (low_name, high_name), pairs in sorted(across.items()):
        rows = [row for row, _ in pairs]
        yield Finding(
            kind=LEAK,
            severity="error" if leaks == "refuse" else "warning",
            **_both(pairs, origins),
            message=f"{counted(len(rows), kind.noun)} of the {high_name} split also "
            f"{'stands' if len(rows) == 1 else 'stand'} in the {low_name} split: "
            f"{_named(rows, origins)}",
            fix=LEAK_FIX,
        )
    if contradicting:
        yield Finding(
            kind="contradiction",
            severity="warning",
            **_both(contradicting, origins),
            message=f"{counted(len(contradicting), kind.noun)} identical to another one under a "
            f"different label: {_pairs(contradicting, origins)}",
            fix="One of the labels is wrong, or the classes overlap",
        )
    if within:
        yield Finding(
            kind="duplicate",
            severity="warning",
            **_both(within, origins),
            message=f"{counted(len(within), kind.noun)} within a split "
            f"{'repeats' if len(within) == 1 else 'repeat'} another: "
            f"{_named([row for row, _ in within], origins)}",
            fix="They count several times; take the copies out",
        )


def _both(pairs: Sequence[tuple[int, int]], origins: Sequence[str]) -> dict[str, Any]:
    """Return both samples of each pair, as a finding has them."""
    return {
        "rows": origins_of([row for row, _ in pairs], origins),
        "others": origins_of([other for _, other in pairs], origins),
    }


def _pairs(pairs: Sequence[tuple[int, int]], origins: Sequence[str]) -> str:
    return shown_first([f"{origins[a]} ~ {origins[b]}" for a, b in pairs], _SHOWN)


def _near(
    pairs: Rows, side: Rows, names: list[str], labels: Sequence[str], origins: Sequence[str]
) -> Iterator[Finding]:
    sides = side[pairs] if len(pairs) else np.empty((0, 2), dtype=np.int64)
    apart = sides[:, 0] != sides[:, 1]
    # With a test split, leaks into validation don't affect the measurement.
    is_tested = "test" in names and bool((sides[apart] == names.index("test")).any())
    beside = ". The figure without them stands beside the headline" if is_tested else ""
    differ = np.array([labels[a] != labels[b] for a, b in pairs.tolist()], dtype=np.bool_)
    of_kinds: tuple[tuple[NDArray[np.bool_], str, Severity, str, str], ...] = (
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
        (
            differ,
            "near_contradiction",
            "warning",
            "nearly alike, under different labels",
            "Look at them: one of the labels may be wrong",
        ),
    )
    for chosen, kind, severity, text, fix in of_kinds:
        selected = [(a, b) for a, b in pairs[chosen].tolist()]
        if selected:
            yield Finding(
                kind=kind,
                severity=severity,
                **_both(selected, origins),
                message=f"{counted(len(selected), 'pair')} of images {text}: "
                f"{_pairs(selected, origins)}",
                fix=fix,
            )


def _near_test(pairs: Rows, same: list[list[int]], side: Rows, names: list[str]) -> Rows:
    if "test" not in names:
        return np.empty(0, dtype=np.int64)
    test = names.index("test")
    copies = {group[0]: group for group in same}
    affected: set[int] = set()
    for group in same:
        if {int(side[row]) for row in group} != {test}:
            affected |= {row for row in group if side[row] == test}
    for pair in pairs.tolist():
        for row, other in (pair, pair[::-1]):
            if any(side[item] != test for item in copies.get(other, (other,))):
                affected |= {item for item in copies.get(row, (row,)) if side[item] == test}
    return np.array(sorted(affected), dtype=np.int64)
