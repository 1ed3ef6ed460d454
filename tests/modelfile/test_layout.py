"""Every byte outside the members, from names, sizes and checksums alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from modelwright.errors import ModelFileError
from modelwright.modelfile import container, layout


def test_members_beyond_4_gib(tmp_path: Path) -> None:
    """The records of a large file, in one with holes: no disk is filled."""
    entries = [layout.Entry("a", 5 << 30, 1), layout.Entry("b", 0, 0), layout.Entry("c", 3, 2)]
    plan = layout.lay_out(entries, b"comment")
    path = tmp_path / "huge.zip"
    with path.open("wb") as stream:
        for at, gap in plan.gaps:
            stream.seek(at)
            stream.write(gap)
    assert path.stat().st_size == plan.total > 5 << 30
    with zipfile.ZipFile(path) as archive:
        assert [(item.filename, item.file_size) for item in archive.infolist()] == [
            (entry.name, entry.size) for entry in entries
        ]
        assert archive.comment == b"comment"
        assert archive.read("b") == b""
    with path.open("rb") as stream:
        end, comment = container._find_end(stream, plan.total)
        records = container._read_directory(stream, end, plan.total)
    assert comment == b"comment"
    assert [(record.name, record.size) for record in records] == [
        (entry.name, entry.size) for entry in entries
    ]
    assert all(start % layout.ALIGNMENT == 0 for start in plan.starts)


MANIFEST, SIGNATURE = "sha256:" + "0a" * 32, "sha256:" + "b1" * 32


@pytest.mark.parametrize("signature", [None, SIGNATURE])
def test_the_comment_round_trips(signature: str | None) -> None:
    comment = layout.write_comment(MANIFEST, signature)
    assert comment.startswith(b"modelwright model file, format %d\n" % layout.FORMAT)
    assert layout.read_comment(comment) == (MANIFEST, signature)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda comment: b"", "not a model file"),
        (lambda comment: comment[:-1], "has been changed"),
        (lambda comment: comment + b"x", "has been changed"),
        (lambda comment: comment.replace(b"0a", b"0A"), "has been changed"),
        (lambda comment: comment.replace(b"format ", b"format 0"), "not a model file"),
    ],
)
def test_comments_that_are_none(change, why) -> None:
    with pytest.raises(ModelFileError, match=why):
        layout.read_comment(change(layout.write_comment(MANIFEST, None)))
