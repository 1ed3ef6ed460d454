"""The source `parallel_text`: two files whose lines belong together, as parallel corpora come."""

from __future__ import annotations

from pathlib import Path

from modelwright.data.labelled_lines import BOM, read_maybe_packed
from modelwright.data.listing import Listing
from modelwright.errors import DataError
from modelwright.files import digest, find_path
from modelwright.kinds import InputKind
from modelwright.recipe.data import ParallelTextData


def list_parallel_text(spec: ParallelTextData, *, base: Path) -> Listing:
    """Return the pairs of lines; the target line is the label.

    Raises:
        DataError: a file can't be read, or two have different numbers of lines.
    """
    parts = {"train" if spec.val or spec.test else "": (spec.path, spec.target)}
    if spec.val is not None:
        parts["validation"] = spec.val
    if spec.test is not None:
        parts["test"] = spec.test
    rows: list[tuple[bytes, str, str, str]] = []
    faults: dict[int, str] = {}
    marks = ["pairs 1"]
    for split, names in parts.items():
        paths = [find_path(name, base) for name in names]
        sides = []
        for path in paths:
            data = read_maybe_packed(path)
            marks.append(f"{split} {digest(data)}")
            lines = data.removeprefix(BOM).removesuffix(b"\n").split(b"\n")
            sides.append([line.rstrip(b"\r") for line in lines])
        if len(sides[0]) != len(sides[1]):
            raise DataError(
                f"{paths[0].name} has {len(sides[0]):,} lines and {paths[1].name} "
                f"{len(sides[1]):,}, so they don't belong together line by line",
                where=str(paths[1]),
                fix="Look for a line that is missing or cut in two in one of them",
            )
        for number, (text, target) in enumerate(zip(*sides, strict=True), start=1):
            try:
                label = target.decode()
            except UnicodeDecodeError as error:
                label = ""
                faults[len(rows)] = f"its target isn't UTF-8 (byte {error.start})"
            if not label.strip():
                faults.setdefault(len(rows), "its target is empty")
            rows.append((text, label, split, f"{paths[0].name}:{number}"))
    texts, labels, splits, origins = zip(*rows, strict=True)
    return Listing(
        title=f"pairs {Path(spec.path).name} and {Path(spec.target).name}",
        key=digest("\n".join(marks).encode()),
        labels=labels,
        splits=splits,
        origins=origins,
        read=texts.__getitem__,
        kind=InputKind.TEXT,
        faults=faults,
    )
