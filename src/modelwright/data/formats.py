"""Formats that aren't read, by their name, with the way to one that is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from modelwright.errors import DataError


@dataclass(frozen=True, slots=True)
class ForeignFormat:
    """A format that isn't read."""

    noun: str
    """`a ZIP archive`."""
    fix: str
    """What to do with it; `{}` stands for the file's name without its ending."""


_ARCHIVE = "Unpack it, and give the folder that comes of it"
_SPREADSHEET = "Save the sheet as CSV (UTF-8), and give that"
_SOUND = "Convert it: ffmpeg -i {0}{1} {0}.wav"
_PICTURE = "Convert the images to JPEG or PNG, and give those"
_WRITING = "Save its text as a .txt file, or its rows as CSV"
_ARRAY = "Write it as CSV, Parquet, or an .npz archive with `images` and `labels`"
_UNKNOWN = "in an uncommon format"
_KINDS: tuple[tuple[str, str, str], ...] = (
    (".zip", "a ZIP archive", _ARCHIVE),
    (".rar", "a RAR archive", _ARCHIVE),
    (".7z", "a 7-Zip archive", _ARCHIVE),
    (".tar .tgz .bz2 .xz .zst", "an archive", _ARCHIVE),
    (".xlsx .xls .xlsm", "an Excel spreadsheet", _SPREADSHEET),
    (".ods .numbers", "a spreadsheet", _SPREADSHEET),
    (".m4a .aac .mp4 .m4b", "an MPEG-4 recording", _SOUND),
    (".wma .amr .aiff .aif .au .opus .webm", f"a recording {_UNKNOWN}", _SOUND),
    (".heic .heif .avif", "an HEIF image", _PICTURE),
    (".dcm .nii .svs", "a medical image", _PICTURE),
    (".cr2 .nef .arw .dng .psd .svg", f"an image {_UNKNOWN}", _PICTURE),
    (".pdf", "a PDF document", _WRITING),
    (".doc .docx .odt .rtf", "a word processor's document", _WRITING),
    (".html .htm .xml", "a document of markup", _WRITING),
    (
        ".tmx .xliff .xlf",
        "a translation memory",
        "Write its pairs as two text files of as many lines, such as `pairs.en` and `pairs.de`",
    ),
    (".mbox .eml .pst", "a mailbox", "Write a table (CSV) with a row a message"),
    (".sqlite .db .sql", "a database", "Export its table as CSV, and give that"),
    (".arrow .feather .avro .orc", f"a table {_UNKNOWN}", "Write it as Parquet or CSV"),
    (".h5 .hdf5 .mat .npy .tfrecord .tfrecords", "a file of arrays", _ARRAY),
    ("idx-ubyte", "an IDX file, as MNIST comes", _ARRAY),
    (".pkl .pickle .pt .pth .joblib", "a pickle (reading it could run programs)", _ARRAY),
)
FOREIGN = {
    suffix: ForeignFormat(noun, fix)
    for suffixes, noun, fix in _KINDS
    for suffix in suffixes.split()
}
"""By suffix."""
_NAMES = (
    (re.compile(r".*\.tar\.\w+", re.IGNORECASE), ".tar"),
    (re.compile(r".*[-.]idx\d-ubyte(\.gz)?"), "idx-ubyte"),
    (re.compile(r"data_batch_\d+|test_batch|batches\.meta"), ".pickle"),
)
"""Whole names that tell more than their ending."""
_BEGINNINGS = (
    (b"PK\x03\x04", ".zip"),
    (b"Rar!", ".rar"),
    (b"7z\xbc\xaf", ".7z"),
    (b"%PDF", ".pdf"),
    (b"\xd0\xcf\x11\xe0", ".xls"),
    (b"SQLite format 3", ".sqlite"),
)


def foreign_file(path: Path) -> DataError | None:
    """Return what to say of a file in a format that isn't read; `None` of others.

    Its name decides, or its beginning: a spreadsheet may be called `.csv`.
    """
    suffix = _kind_of(path)
    if suffix not in FOREIGN or suffix == ".xml":
        try:
            with path.open("rb") as stream:
                beginning = stream.read(16)
        except OSError:
            return None
        suffix = next((of for start, of in _BEGINNINGS if beginning.startswith(start)), "")
    if suffix not in FOREIGN:
        return None
    foreign = FOREIGN[suffix]
    return DataError(
        f"this is {foreign.noun}: such files aren't read",
        where=str(path),
        fix=foreign.fix.format(path.stem, path.suffix),
    )


def _kind_of(path: PurePath) -> str:
    """Return a file's suffix, or what its whole name says."""
    return next((of for name, of in _NAMES if name.fullmatch(path.name)), path.suffix.lower())


def foreign_among(files: Iterable[str]) -> str:
    """Return what files in formats that aren't read there are, and what to do; empty of none."""
    counts = Counter(_kind_of(PurePosixPath(file)) for file in files)
    known = [(suffix, count) for suffix, count in counts.most_common() if suffix in FOREIGN]
    if not known:
        return ""
    suffix, count = known[0]
    foreign = FOREIGN[suffix]
    files_are = "file is" if count == 1 else "files are"
    return f"{count:,} `{suffix}` {files_are} {foreign.noun}: {foreign.fix.format('NAME', suffix)}"
