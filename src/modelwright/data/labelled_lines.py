"""The source `labelled_lines`: a label, a blank and a text a line, as TREC and SST come."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from pathlib import Path

from modelwright.data.encodings import to_utf8
from modelwright.data.listing import Listing
from modelwright.data.sealed import is_unsealing, read_bytes, refuse_sealed, stored
from modelwright.errors import DataError
from modelwright.files import digest, find_path
from modelwright.kinds import InputKind
from modelwright.recipe.data import DocumentsData, LabelledLinesData

MOST_BYTES = 1 << 31
"""A longer file is refused, unpacked or packed."""


_GAP = re.compile(rb"[ \t]")
"""What stands between a label and its text."""


def list_labelled_lines(spec: LabelledLinesData, *, base: Path) -> Listing:
    """Return the lines of one to three files.

    Raises:
        DataError: a file can't be read, or holds no line of a label and a text.
    """
    rows: list[tuple[bytes, str, str, str]] = []
    marks = ["lines 3", spec.encoding or ""]
    for split, path in split_paths(spec, base).items():
        data = read_maybe_packed(path)
        marks.append(f"{split} {digest(data)}")
        lines = to_utf8(data, where=str(path), encoding=spec.encoding).split(b"\n")
        for number, line in enumerate(lines, start=1):
            line = line.rstrip(b"\r")
            if not line.strip():
                continue
            # The label of `spam\tfree money now` ends at the tab, that of `LOC:city Where …` at the
            # blank.
            label, *rest = _GAP.split(line, maxsplit=1)
            text = rest[0] if rest else b""
            name = label.decode("utf-8", "backslashreplace")
            rows.append((text, name, split, f"{path.name}:{number}"))
    if not rows:
        raise DataError("there are no lines in this file", where=str(find_path(spec.path, base)))
    texts, labels, splits, origins = zip(*rows, strict=True)
    return Listing(
        title=f"lines {Path(spec.path).name}",
        key=digest("\n".join(marks).encode()),
        labels=labels,
        splits=splits,
        origins=origins,
        read=texts.__getitem__,
        kind=InputKind.TEXT,
    )


def split_paths(spec: LabelledLinesData | DocumentsData, base: Path) -> dict[str, Path]:
    """Return the path of each split; where one holds all samples, its split is empty."""
    train = "" if spec.val is None and spec.test is None else "train"
    names = {train: spec.path, "validation": spec.val, "test": spec.test}
    return {split: find_path(name, base) for split, name in names.items() if name is not None}


def read_maybe_packed(path: Path) -> bytes:
    """Return the bytes of a file, unpacked where it is gzipped.

    Raises:
        DataError: it is no plain file, is damaged, or is far too long.
    """
    if not stored(path).is_file():
        raise DataError("this isn't a plain file", where=str(path))
    try:
        with io.BytesIO(read_bytes(path)) if is_unsealing() else path.open("rb") as stream:
            if stream.read(2) != b"\x1f\x8b":
                stream.seek(0)
                data = stream.read(MOST_BYTES + 1)
            else:
                stream.seek(0)
                with gzip.GzipFile(fileobj=stream) as unpacked:
                    data = unpacked.read(MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError("this gzip file is damaged", where=str(path), why=str(error)) from error
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror or error})", where=str(path)) from error
    if not is_unsealing():
        refuse_sealed(data, path)
    if len(data) > MOST_BYTES:
        raise DataError(f"this file holds more than {MOST_BYTES:,} bytes", where=str(path))
    return data
