"""Hostile files whose every digest is right: archives, streams, and what fits no other page."""

from __future__ import annotations

import io
import os
import shutil
import stat
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelwright import modelfile
from modelwright.errors import ModelFileError
from tests.modelfile.attacking import MEMBERS, SPEC, WEIGHTS, Archive, refused, spec
from tests.modelfile.making import FROZEN, forge, members_of


def repack(path: Path, edit: Callable[[Archive], None], *, drop: tuple[str, ...] = ()) -> Path:
    """Pack the members again with an ordinary tool, as a ZIP that claims to be a model file."""
    with Archive(FROZEN) as source, Archive(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a name given twice
        for item in source.infolist():
            if item.filename not in (*drop, "manifest.json"):
                archive.writestr(item.filename, source.read(item))
        edit(archive)
        archive.writestr("manifest.json", source.read("manifest.json"))
        archive.comment = source.comment
    return path


def _symlink(archive: Archive) -> None:
    info = zipfile.ZipInfo("model/graphs/second.onnx")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


ARCHIVES: dict[str, tuple[Callable[[Archive], None], str]] = {
    "nothing, but packed by another tool": (lambda archive: None, "damaged"),
    "an extra member": (lambda archive: archive.writestr("readme.txt", "x"), "don't agree"),
    "a member twice": (lambda archive: archive.writestr(SPEC, "{}"), "there twice"),
    "an absolute name": (lambda archive: archive.writestr("/etc/x", "x"), "leaves the file"),
    "a name upwards": (lambda archive: archive.writestr("model/../../x", "x"), "leaves the file"),
    "a name of Windows": (lambda archive: archive.writestr("a\\..\\b", "x"), "leaves the file"),
    "a drive": (lambda archive: archive.writestr("c:x", "x"), "leaves the file"),
    "a symbolic link": (_symlink, "symbolic link"),
    "a compressed member": (
        lambda archive: archive.writestr("x", bytes(9999), zipfile.ZIP_DEFLATED),
        "is compressed",
    ),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives_that_are_not_as_we_write_them(tmp_path: Path, kind: str) -> None:
    edit, why = ARCHIVES[kind]
    refused(repack(tmp_path / "m.mw", edit), why)


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_a_missing_member(tmp_path: Path, name: str) -> None:
    refused(repack(tmp_path / "m.mw", lambda archive: None, drop=(name,)), "don't agree")
    if name != "sbom.json":  # It may be absent.
        refused(forge(tmp_path / "m.mw", FROZEN, change={name: None}), "is missing|isn't there")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({4: 1}, "spread over several files"),
        ({6: 1}, "spread over several files"),
        ({8: 1}, "spread over several files"),
        ({8: 0, 10: 0}, "impossible size"),
    ],
)
def test_an_archive_of_several_files_or_of_none(
    tmp_path: Path, change: dict[int, int], why: str
) -> None:
    raw = bytearray(FROZEN.read_bytes())
    at = raw.rindex(b"PK\x05\x06")
    for offset, value in change.items():
        raw[at + offset] = value
    (tmp_path / "m.mw").write_bytes(raw)
    refused(tmp_path / "m.mw", why)


def test_an_encrypted_member(tmp_path: Path) -> None:
    path = repack(tmp_path / "m.mw", lambda archive: None)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 8] |= 1
    path.write_bytes(raw)
    refused(path, "encrypted")


def test_a_bomb_is_never_unpacked(tmp_path: Path) -> None:
    """A directory that promises 4 GiB in a file of kilobytes: nothing is unpacked."""
    path = repack(
        tmp_path / "m.mw",
        lambda archive: archive.writestr("bomb", bytes(1 << 24), zipfile.ZIP_DEFLATED, 9),
    )
    refused(path, "is compressed")
    raw = bytearray(FROZEN.read_bytes())
    at = raw.index(b"PK\x01\x02")
    for offset in (20, 24):
        raw[at + offset : at + offset + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    path.write_bytes(raw)
    refused(path, "beyond the end")


class Changing(io.BytesIO):
    """A stream that gives other bytes after some reads: a file that is written meanwhile."""

    def __init__(self, reads: int) -> None:
        super().__init__(FROZEN.read_bytes())
        self._left = reads

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._left -= 1
        return data if self._left >= 0 else bytes(byte ^ 1 for byte in data)


@pytest.mark.parametrize("enter", [modelfile.read, modelfile.load, modelfile.verify])
def test_a_stream_that_changes_is_refused_or_never_read_again(enter: Callable[..., Any]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 1), np.uint8)
    expected = modelfile.load(FROZEN).outputs(pixels)
    outcomes = set()
    for reads in range(60):
        try:
            found = enter(Changing(reads))
        except ModelFileError:
            outcomes.add("refused")
            continue
        outcomes.add("whole")
        if isinstance(found, modelfile.Model):
            assert np.array_equal(found.outputs(pixels), expected)
    assert outcomes == {"refused", "whole"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.mw")
    refused(tmp_path / "m.mw", "pipe")


def test_a_task_from_the_future_is_described_but_not_predicted(tmp_path: Path) -> None:
    path = forge(tmp_path / "m.mw", FROZEN, change=spec(task="image-poem"))
    assert modelfile.describe(path)["task"] == "image-poem"
    with pytest.raises(ModelFileError, match="image-poem"):
        modelfile.load(path).predict(np.zeros((4, 4, 1), np.uint8))


def test_an_architecture_that_is_none(tmp_path: Path) -> None:
    for architecture in ({}, {"name": "cnn"}, {"name": "../x"}, {"name": 3}):
        path = forge(tmp_path / "m.mw", FROZEN, change=spec(architecture=architecture))
        with pytest.raises(ModelFileError) as caught:
            modelfile.rebuild(path)
        assert caught.value.where == str(path)


def test_a_file_that_grows_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.mw"
    shutil.copy(FROZEN, path)
    with path.open("ab") as stream:
        stream.write(b"\0")
    refused(path, "behind its end")


def test_replaced_weights_change_the_digest_or_are_seen(tmp_path: Path) -> None:
    """Swapping equal-sized weights between two intact files can't keep either digest."""
    other = tmp_path / "other.mw"
    found = modelfile.read(FROZEN)
    name = "body.hidden.0.weight"
    changed = found.weights | {name: found.weights[name] * 2}
    modelfile.write(other, replace(found, weights=changed))
    mixed = tmp_path / "mixed.mw"
    mixed.write_bytes(FROZEN.read_bytes().replace(MEMBERS[WEIGHTS], members_of(other)[WEIGHTS]))
    refused(mixed, "model/weights.safetensors")
    refused(other, "differently")
