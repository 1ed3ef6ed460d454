"""The source `documents`: text without labels, for language modeling."""

from __future__ import annotations

from pathlib import Path

from modelwright.data.encodings import decode_text
from modelwright.data.labelled_lines import read_maybe_packed, split_paths
from modelwright.data.listing import Listing, files_below
from modelwright.data.sealed import stored
from modelwright.errors import DataError
from modelwright.files import digest, find_path
from modelwright.kinds import InputKind
from modelwright.recipe.data import DocumentsData

PASSAGE = 4096
"""A longer file is cut into passages of so many characters, so that it can be split."""
WHOLE, PART = "whole", "part"
"""The labels of documents: whether its end is the end of a text."""
SUFFIXES = (".txt", ".md", ".txt.gz", ".md.gz")


def list_documents(spec: DocumentsData, *, base: Path) -> Listing:
    """Return the texts of a file, or of the files of a folder.

    Raises:
        DataError: a file can't be read, there is no text, or the only file can't be decoded.
    """
    passages: list[tuple[str, str, str, str]] = []
    faults: dict[int, str] = {}
    marks = ["documents 2", spec.encoding or ""]
    for split, root in split_paths(spec, base).items():
        for path in _files(root):
            data = read_maybe_packed(path)
            shown = path.name if path == root else path.relative_to(root).as_posix()
            marks.append(f"{split} {shown} {digest(data)}")
            try:
                text = decode_text(data, where=str(path), encoding=spec.encoding)
            except DataError as error:
                if path == root:
                    raise
                faults[len(passages)] = error.what
                text = shown  # Left out, and listed by its name.
            for start in range(0, len(text), PASSAGE):
                label = WHOLE if start + PASSAGE >= len(text) else PART
                is_cut = len(text) > PASSAGE
                origin = f"{shown}, character {start + 1:,}" if is_cut else shown
                passages.append((text[start : start + PASSAGE], label, split, origin))
    if not passages:
        raise DataError(
            "there is no text here",
            where=str(find_path(spec.path, base)),
            fix=f"Give a text file, or a folder with files that end in {', '.join(SUFFIXES)}",
        )
    texts, labels, splits, origins = zip(*passages, strict=True)
    return Listing(
        title=f"documents {Path(spec.path).name}",
        key=digest("\n".join(marks).encode()),
        labels=labels,
        splits=splits,
        origins=origins,
        # Their order, so that `by: time` tests on what comes last.
        metadata={spec.split.column: [f"{number:012d}" for number in range(len(texts))]}
        if spec.split.column is not None
        else {},
        read=lambda row: texts[row].encode(),
        kind=InputKind.TEXT,
        faults=faults,
    )


def _files(root: Path) -> list[Path]:
    if not root.is_dir():
        return [root]
    paths = (root / file for file in files_below(root) if file.lower().endswith(SUFFIXES))
    return sorted(path for path in paths if stored(path).is_file())
