"""Opening and writing: canonical bytes, from a path, from bytes or from a stream, or refused."""

from __future__ import annotations

import io
import mmap
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelwright import modelfile
from modelwright.errors import ModelFileError
from modelwright.modelfile import container, layout
from modelwright.modelfile.manifest import CHUNK
from tests.modelfile.making import FROZEN, forge, members_of, signed

RAW = FROZEN.read_bytes()


def refused(path: Path) -> ModelFileError:
    """Return the error of reading a file, which must be one that helps."""
    with pytest.raises(ModelFileError) as caught:
        modelfile.read(path)
    assert str(path) in str(caught.value)
    assert caught.value.what
    return caught.value


def test_a_forger_who_changes_nothing_gets_the_file(tmp_path: Path) -> None:
    """The tool of the attack tests is sound."""
    assert forge(tmp_path / "m.mw", FROZEN).read_bytes() == RAW


def test_ordinary_zip_tools_read_it() -> None:
    with zipfile.ZipFile(FROZEN) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[-1] == "manifest.json"
        assert all(item.compress_type == zipfile.ZIP_STORED for item in archive.infolist())
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        members = {name: archive.read(name) for name in archive.namelist()[:-1]}
    assert members == members_of(FROZEN)


def test_members_are_aligned_and_where_the_layout_says() -> None:
    with container.open_container(FROZEN) as opened:
        entries = [member.entry for member in opened.manifest.members]
        plan = layout.lay_out(entries, b"")
        for entry, start in zip(entries, plan.starts, strict=True):
            assert start % layout.ALIGNMENT == 0
            assert RAW[start : start + entry.size] == opened.read(entry.name)


def outside_the_members() -> set[int]:
    with container.open_container(FROZEN) as opened:
        entries = [member.entry for member in opened.manifest.members]
        plan = layout.lay_out(entries, b"")
    inside = (
        range(start, start + entry.size) for start, entry in zip(plan.starts, entries, strict=True)
    )
    return set(range(len(RAW))) - {at for part in inside for at in part}


def flip_each(places: list[int], path: Path) -> None:
    path.write_bytes(RAW)
    with path.open("r+b", buffering=0) as stream:
        for at in places:
            stream.seek(at)
            stream.write(bytes([RAW[at] ^ 1 << at % 8]))
            refused(path)
            stream.seek(at)
            stream.write(RAW[at : at + 1])
    assert path.read_bytes() == RAW


def test_every_changed_byte_outside_the_members_is_refused(tmp_path: Path) -> None:
    flip_each(sorted(outside_the_members()), tmp_path / "changed.mw")


def test_changed_bytes_of_the_members_are_refused(tmp_path: Path) -> None:
    flip_each(list(range(0, len(RAW), 7)), tmp_path / "changed.mw")


@pytest.mark.slow
def test_every_changed_byte_is_refused(tmp_path: Path) -> None:
    flip_each(list(range(len(RAW))), tmp_path / "changed.mw")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    at=st.integers(0, len(RAW)),
    stop=st.integers(0, len(RAW)),
    new=st.binary(max_size=80),
)
def test_whatever_is_put_in_or_taken_out_is_refused(
    tmp_path: Path, at: int, stop: int, new: bytes
) -> None:
    changed = RAW[:at] + new + RAW[max(at, stop) :]
    path = tmp_path / "changed.mw"
    path.write_bytes(changed)
    if changed == RAW:
        modelfile.read(path)
    else:
        refused(path)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 21, 22, 100, len(RAW) // 2, len(RAW) - 1])
def test_a_file_that_was_cut_short(tmp_path: Path, length: int) -> None:
    path = tmp_path / "short.mw"
    path.write_bytes(RAW[:length])
    said = str(refused(path))
    assert ("cut short" in said) if length >= 4 else ("isn't a model file" in said)


@pytest.mark.parametrize(
    "junk", [b"hello, world\n" * 100, b"\x89PNG\r\n\x1a\n" + bytes(99), b"PK\x05\x06", bytes(200)]
)
def test_a_file_that_is_none(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "junk.mw"
    path.write_bytes(junk)
    assert "isn't a model file" in str(refused(path))


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "no such file" in str(refused(tmp_path / "none.mw"))
    assert "folder" in str(refused(tmp_path))


@pytest.mark.parametrize(
    ("number", "fix"),
    [(layout.FORMAT + 1, "Update modelwright"), (layout.FORMAT - 1, "Run the recipe")],
)
def test_another_format_says_so(tmp_path: Path, number: int, fix: str) -> None:
    path = tmp_path / "other.mw"
    path.write_bytes(
        RAW.replace(b"file, format %d\n" % layout.FORMAT, b"file, format %d\n" % number)
    )
    error = refused(path)
    assert f"has format {number}" in str(error)
    assert fix in error.fix


def test_a_newer_format_with_another_comment_says_so(tmp_path: Path) -> None:
    path = tmp_path / "newer.mw"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("anything", "at all")
        archive.comment = b"modelwright model file, format 12\nand what may follow"
    assert "has format 12" in str(refused(path))


def test_a_zip_that_is_no_model_file(tmp_path: Path) -> None:
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert "not a model file" in str(refused(path))


def test_a_large_member_is_checked_in_chunks(tmp_path: Path) -> None:
    found = modelfile.read(FROZEN)
    large = np.arange(3 * CHUNK // 4 + 17, dtype=np.float32)
    path = tmp_path / "large.mw"
    modelfile.write(path, replace(found, weights=found.weights | {"large": large}))
    whole = members_of(path)["model/weights.safetensors"]
    assert len(whole) > 3 * CHUNK
    with container.open_container(path) as opened:
        name = "model/weights.safetensors"
        assert len(opened.manifest.member(name).chunks) == 4
        assert opened.read(name) == whole
    raw = bytearray(path.read_bytes())
    raw[raw.index(large[: CHUNK // 4].tobytes()) + 2 * CHUNK] ^= 1
    path.write_bytes(raw)
    with (
        pytest.raises(ModelFileError, match="has been changed"),
        container.open_container(path) as opened,
    ):
        opened.read(name)


def test_a_signature_stands_beside_the_manifest_and_is_what_the_comment_says(
    tmp_path: Path,
) -> None:
    path = signed(tmp_path / "signed.mw", b'{"by":"me"}')
    with container.open_container(path) as opened:
        assert opened.signature == b'{"by":"me"}'
    with container.open_container(FROZEN) as opened:
        assert opened.signature is None
        manifest = opened.manifest
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist()[-2:] == ["signature.json", "manifest.json"]
        assert b"\nsignature sha256:" in archive.comment
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'{"by":"me"}', b'{"by":"us"}'))
    assert "`signature.json` has been changed" in str(refused(path))
    for wrong in (b"", bytes(container.MOST_SIGNATURE_BYTES + 1)):
        with pytest.raises(ModelFileError, match="can't be written"):
            container.write_container(path, members_of(FROZEN), manifest, signature=wrong)


def test_every_changed_byte_of_a_signed_file_is_refused(tmp_path: Path) -> None:
    """Beside those of the members: the signature, its records, and the comment."""
    path = signed(tmp_path / "signed.mw", b"a signature")
    raw = path.read_bytes()
    begin = raw.index(b"signature.json") - 30
    for at in [*range(begin, begin + 200), *range(len(raw) - 300, len(raw))]:
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :])
        refused(path)


class Trickle(io.RawIOBase):
    """Gives a few bytes at a time, as a network's stream may."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)

    def seekable(self) -> bool:
        return True

    def seek(self, position: int, whence: int = 0) -> int:
        return self._inner.seek(position, whence)

    def tell(self) -> int:
        return self._inner.tell()

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(min(size, 1000))


def test_a_file_opens_from_its_bytes_and_from_streams() -> None:
    expected = members_of(FROZEN)
    with FROZEN.open("rb") as stream, FROZEN.open("rb") as mapped:
        stream.seek(100)
        mapping = mmap.mmap(mapped.fileno(), 0, access=mmap.ACCESS_READ)
        sources = [
            FROZEN,
            str(FROZEN),
            RAW,
            bytearray(RAW),
            memoryview(RAW),
            io.BytesIO(RAW),
            stream,
            mapping,
            Trickle(RAW),
        ]
        for source in sources:
            with container.open_container(source) as opened:  # type: ignore[arg-type]
                names = [member.name for member in opened.manifest.members]
                assert {name: opened.read(name) for name in names} == expected
                assert opened.file_bytes == len(RAW)
        assert not stream.closed
        mapping.close()


class Deaf(io.BytesIO):
    """A stream that can't seek, as a pipe."""

    def seek(self, position: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation("not seekable")


class Liar(io.BytesIO):
    """Gives more than it is asked for."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size) + b"x"


def closed() -> io.BytesIO:
    stream = io.BytesIO(RAW)
    stream.close()
    return stream


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (b"", "isn't a model file"),
        (RAW[:-1], "cut short"),
        (io.BytesIO(RAW + b"x"), "behind its end"),
        (Deaf(RAW), "not seekable"),
        (closed(), "closed file"),
        (Liar(RAW), "cut short"),
        (io.StringIO("text"), "gives str, not bytes"),
        (3, "a int isn't a model file"),
        (None, "a NoneType isn't a model file"),
    ],
)
def test_bytes_and_streams_that_are_none(source: object, why: str) -> None:
    with pytest.raises(ModelFileError, match=why) as caught:
        modelfile.load(source)  # type: ignore[arg-type]
    expected = "the bytes given" if isinstance(source, bytes) else "the stream given"
    assert caught.value.where == expected


def test_a_stream_with_a_name_is_called_by_it(tmp_path: Path) -> None:
    (tmp_path / "short.mw").write_bytes(RAW[:-1])
    with (tmp_path / "short.mw").open("rb") as stream, pytest.raises(ModelFileError) as caught:
        modelfile.verify(stream)
    assert caught.value.where == str(tmp_path / "short.mw")
