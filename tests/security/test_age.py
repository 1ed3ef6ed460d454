"""The age format through pyrage: the standard's own test vectors, and every way of tampering."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import zlib
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.errors import RequestError, SealError
from modelwright.security.age import (
    DamagedSealError,
    Identity,
    create_identity,
    is_sealed,
    open_bytes,
    parse_identities,
    parse_recipient,
    plugin_identity,
    seal_bytes,
)

pytest.importorskip("pyrage")
VECTORS = Path(os.environ.get("MODELWRIGHT_DATA", "nowhere")) / "age_testkit"
NAMES = sorted(path.name for path in VECTORS.iterdir()) if VECTORS.is_dir() else []
SECRET, PUBLIC = create_identity()
IDENTITIES = parse_identities(SECRET)
PLAIN = b"what nobody else may read" * 5000  # Longer than a chunk of the format.
SEALED = seal_bytes(PLAIN, [parse_recipient(PUBLIC)])
SHORT = seal_bytes(b"secret", [parse_recipient(PUBLIC)])


@pytest.mark.skipif(not NAMES, reason="the age test vectors aren't here (MODELWRIGHT_DATA)")
def test_there_are_vectors_of_every_kind():
    assert len(NAMES) >= 143


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_of_the_standard_ends_as_it_says(name):
    head, _, body = (VECTORS / name).read_bytes().partition(b"\n\n")
    said = defaultdict(list)
    for line in head.decode().split("\n"):
        key, _, value = line.partition(": ")
        said[key].append(value)
    if said["compressed"]:
        body = zlib.decompress(body)
    if any("-PQ-" in text for text in said["identity"]):
        with pytest.raises(SealError, match="hybrid"):
            parse_identities("\n".join(said["identity"]))
        return
    identities = [item for text in said["identity"] for item in parse_identities(text)]
    identities += [Identity(passphrase=text) for text in said["passphrase"]]
    if said["expect"] == ["success"]:
        opened = open_bytes(body, identities)
        assert hashlib.sha256(opened).hexdigest() == said["payload"][0]
        return
    with pytest.raises(SealError) as caught:
        open_bytes(body, identities)
    assert isinstance(caught.value, DamagedSealError) == (said["expect"] != ["no match"])


def test_armour_may_have_white_space_around_it():
    lines = base64.encodebytes(SHORT).replace(b"\n", b"")
    body = b"\n".join(lines[at : at + 64] for at in range(0, len(lines), 64))
    ends = [b"-----%s AGE ENCRYPTED FILE-----" % word for word in (b"BEGIN", b"END")]
    armoured = b"\n\n  " + b"\n".join([ends[0], body, ends[1]]) + b"\n \n"
    assert is_sealed(armoured)
    assert open_bytes(armoured, IDENTITIES) == b"secret"


@given(st.binary(max_size=300))
@settings(max_examples=20)
def test_what_is_sealed_is_opened_by_each_recipient_and_by_nobody_else(data):
    other, public = create_identity()
    sealed = seal_bytes(data, [parse_recipient(PUBLIC), parse_recipient(public)])
    assert is_sealed(sealed)
    assert open_bytes(sealed, IDENTITIES) == open_bytes(sealed, parse_identities(other)) == data
    with pytest.raises(SealError, match="none of the identities"):
        open_bytes(sealed, parse_identities(create_identity()[0]))


def test_a_passphrase_opens_what_it_sealed():
    sealed = seal_bytes(b"secret", (), passphrase="correct horse")
    key = parse_identities(SECRET)
    assert open_bytes(sealed, [*key, Identity(passphrase="correct horse")]) == b"secret"
    with pytest.raises(SealError, match="none of the identities"):
        open_bytes(sealed, [Identity(passphrase="wrong")])
    with pytest.raises(RequestError, match="passphrase"):
        seal_bytes(b"secret", (), passphrase="")


@given(st.integers(0, 8 * len(SHORT) - 1))
@settings(max_examples=500)
def test_no_flipped_bit_passes(bit):
    changed = bytearray(SHORT)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        open_bytes(bytes(changed), IDENTITIES)


@given(st.integers(0, 8 * len(SEALED) - 1))
@settings(max_examples=500)
def test_no_flipped_bit_passes_in_several_chunks(bit):
    changed = bytearray(SEALED)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        open_bytes(bytes(changed), IDENTITIES)


@pytest.mark.parametrize(
    "keep",
    [0, 1, 21, 22, 60, len(SEALED) // 2, len(SEALED) - 1],
    ids=["none", "a byte", "21", "22", "60", "half", "all but one"],
)
def test_half_a_file_is_refused(keep):
    with pytest.raises(SealError):
        open_bytes(SEALED[:keep], IDENTITIES)


def test_a_whole_chunk_less_is_refused():
    header = SEALED.find(b"\n", SEALED.find(b"\n--- ") + 1) + 1
    chunk = 64 * 1024 + 16
    assert len(SEALED) > header + 16 + chunk
    with pytest.raises(DamagedSealError):
        open_bytes(SEALED[: header + 16 + chunk], IDENTITIES)


def test_a_newer_version_is_named():
    newer = SHORT.replace(b"/v1\n", b"/v2\n", 1)
    assert is_sealed(newer)
    with pytest.raises(DamagedSealError, match="version 1"):
        open_bytes(newer, IDENTITIES)


@pytest.mark.parametrize("more", [b"\0", b"\n", SHORT])
def test_what_stands_behind_the_end_is_refused(more):
    with pytest.raises(DamagedSealError):
        open_bytes(SEALED + more, IDENTITIES)


def test_the_header_of_another_file_is_refused():
    other = seal_bytes(PLAIN, [parse_recipient(PUBLIC)])

    def parts(sealed):
        at = sealed.find(b"\n", sealed.find(b"\n--- ") + 1) + 1
        return sealed[:at], sealed[at:]

    with pytest.raises(DamagedSealError):
        open_bytes(parts(SEALED)[0] + parts(other)[1], IDENTITIES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "isn't a recipient"),
        ("age1short", "isn't a recipient"),
        (PUBLIC[:-1] + "b", "isn't a recipient"),
        ("ssh-ed25519 AAAA", "isn't a recipient"),
        ("age1pq1qqqqqqqq", "hybrid"),
        ("age1tag1qqqqqqq", "isn't a recipient"),
        ("age1nosuch1qqqqqq", "isn't a recipient"),
    ],
    ids=range(7),
)
def test_what_is_no_recipient_is_refused_by_name(text, said):
    with pytest.raises(SealError, match=said):
        parse_recipient(text)


def test_a_secret_is_never_quoted():
    for call in (
        lambda: parse_recipient(SECRET),
        lambda: parse_identities(SECRET[:-1]),
        lambda: parse_identities("AGE-PLUGIN-" + SECRET),
        lambda: parse_identities("hunter2"),
        lambda: parse_identities("-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2"),
    ):
        with pytest.raises(SealError) as caught:
            call()
        text = f"{caught.value} {caught.value.__cause__!r}"
        assert SECRET[20:40] not in text
        assert "hunter2" not in text
    assert SECRET not in repr(IDENTITIES)
    assert "hunter2" not in repr(Identity(passphrase="hunter2"))


def test_a_sealed_or_empty_identity_file_says_so():
    with pytest.raises(SealError, match="itself sealed"):
        parse_identities(SHORT.decode("latin-1"))
    with pytest.raises(SealError, match="no identity"):
        parse_identities("# only a comment\n\n")


def test_a_plugin_that_is_not_installed_is_named():
    with pytest.raises(SealError, match="age-plugin-nosuch"):
        plugin_identity("nosuch")


def bech32(prefix: str, data: bytes) -> str:
    """Return some bytes in the writing of age's keys (BIP 173)."""

    parts = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)

    def checksum(values):
        sum_ = 1
        for value in values:
            top, sum_ = sum_ >> 25, (sum_ & 0x1FFFFFF) << 5 ^ value
            for bit, part in enumerate(parts):
                sum_ ^= part if top >> bit & 1 else 0
        return sum_

    bits = "".join(f"{byte:08b}" for byte in data)
    words = [int(bits[at : at + 5].ljust(5, "0"), 2) for at in range(0, len(bits), 5)]
    head = [ord(char) >> 5 for char in prefix] + [0] + [ord(char) & 31 for char in prefix]
    rest = checksum([*head, *words, *[0] * 6]) ^ 1
    words += [rest >> 5 * (5 - at) & 31 for at in range(6)]
    return f"{prefix}1" + "".join("qpzry9x8gf2tvdw0s3jn54khce6mua7l"[word] for word in words)


def test_an_age_plugin_seals_and_opens(tmp_path, monkeypatch, capfd):
    program = tmp_path / "age-plugin-plain"
    script = Path(__file__).with_name("plugin.py")
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sealed = seal_bytes(b"secret", [parse_recipient(bech32("age1plain", b"someone"))])
    line = bech32("age-plugin-plain-", b"someone").upper()
    for identities in (parse_identities(line), [plugin_identity("plain")]):
        assert open_bytes(sealed, identities) == b"secret"
        assert "touch the plain key" in capfd.readouterr().err
    with pytest.raises(SealError, match="none of the identities"):
        open_bytes(sealed, IDENTITIES)
