"""The manifest: which members there are, their order and their digests."""

from __future__ import annotations

import hashlib

import pytest

from modelwright.errors import ModelFileError
from modelwright.modelfile import container
from modelwright.modelfile.manifest import (
    CHUNK,
    Manifest,
    check_names,
    describe_member,
    member_digest,
    order_members,
)
from tests.modelfile.making import FROZEN, members_of


def test_the_manifest_round_trips() -> None:
    with container.open_container(FROZEN) as opened:
        assert Manifest.from_bytes(opened.manifest.to_bytes()) == opened.manifest


def test_a_digest_is_of_the_content_or_of_its_chunks() -> None:
    short, long = b"abc", bytes(range(256)) * (CHUNK // 128) + b"!"
    assert member_digest(short) == "sha256:" + hashlib.sha256(short).hexdigest()
    parts = [hashlib.sha256(long[at : at + CHUNK]).digest() for at in (0, CHUNK, 2 * CHUNK)]
    root = hashlib.sha256(b"modelwright chunks\n" + b"".join(parts)).hexdigest()
    described = describe_member("recipe.yaml", long)
    assert member_digest(long) == described.digest == f"sha256:{root}"
    assert described.chunks == tuple(f"sha256:{part.hex()}" for part in parts)
    assert describe_member("recipe.yaml", short).chunks == ()


def test_members_have_one_order() -> None:
    members = members_of(FROZEN)
    names = list(members)
    assert order_members(dict(reversed(members.items()))) == names
    more = [*names, "artefacts/z.png", "model/graphs/step.onnx", "artefacts/a-1.json"]
    ordered = order_members(dict.fromkeys(more, b""))
    assert ordered[ordered.index("model/graphs/main.onnx") + 1] == "model/graphs/step.onnx"
    assert ordered[-3:] == ["artefacts/a-1.json", "artefacts/curve.svg", "artefacts/z.png"]
    with pytest.raises(ModelFileError, match="order"):
        check_names(names[::-1])
    with pytest.raises(ModelFileError, match="twice"):
        check_names([*names, names[-1]])


@pytest.mark.parametrize(
    "name",
    [
        "artefacts/",
        "artefacts",
        "artefacts/.hidden",
        "artefacts/A.png",
        "artefacts/a/b.png",
        "artefacts/a b.png",
        "artefacts/" + "a" * 101,
        "model/graphs/",
        "model/graphs/Main.onnx",
        "code.py",
    ],
)
def test_names_that_no_member_has(name: str) -> None:
    with pytest.raises(ModelFileError, match="no member"):
        order_members({**members_of(FROZEN), name: b""})
