"""The audit log: it goes on, and every change of it shows."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelwright.errors import DataError, RequestError
from modelwright.security import audit_log
from modelwright.security.audit_log import AuditLog, AuditLogError, AuditRecord, verify
from modelwright.security.merkle import Tree, leaf_hash

PEM = serialization.Encoding.PEM
PRIVATE = serialization.PrivateFormat.PKCS8
PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo


def write_keys(folder, name="", key=None):
    key = key or ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}key.pem", folder / f"{name}public.pem"
    private.write_bytes(key.private_bytes(PEM, PRIVATE, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(PEM, PUBLIC))
    return private, public


@pytest.fixture
def key(tmp_path):
    return write_keys(tmp_path)[0]


@pytest.fixture
def public(key):
    return key.with_name("public.pem")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


def record(number=0, **more):
    values = {
        "time": 1_796_040_000.0 + number,
        "principal": "abcdefghjkmn",
        "action": "predict",
        "model": "digits",
        "digest": "sha256:00",
        "verdict": "allowed",
        "status": 200,
        "cost": 1.0,
    }
    return AuditRecord(**{**values, **more})


def write(path, key, *counts):
    """Write a log with a checkpoint after each of some counts of records."""
    log = AuditLog(path, key, checkpoint_every=1e9)
    for count in counts:
        for number in range(count):
            log.append(record(number))
        log.checkpoint()
    log.close()


def notes(path):
    return path.with_name(path.name + ".checkpoints")


def test_what_is_appended_is_in_the_file_signed(path, key, public):
    log = AuditLog(path, key)
    assert [log.append(record(number)) for number in range(3)] == [1, 2, 3]
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["n"] for line in lines] == [0, 1, 2, 3]
    assert lines[0]["event"] == "begin"
    assert set(lines[1]) == {"n", *AuditRecord.__dataclass_fields__}
    report = verify(path, public)
    assert report.is_intact
    assert (report.records, report.signed, report.checkpoints, report.torn) == (4, 4, 1, ())
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0


def test_a_checkpoint_is_what_others_read(path, key, public):
    """C2SP signed-note and tlog-checkpoint, taken apart by hand."""
    write(path, key, 5)
    text, _, line = notes(path).read_text().strip("\n").partition("\n\n")
    origin, size, root = text.split("\n")
    tree = Tree([leaf_hash(line) for line in path.read_bytes().splitlines()])
    assert (int(size), base64.b64decode(root)) == (6, tree.root())
    assert origin == json.loads(path.read_bytes().splitlines()[0])["origin"]
    dash, name, signature = line.split(" ")
    raw = base64.b64decode(signature)
    loaded = serialization.load_pem_public_key(public.read_bytes())
    loaded.verify(raw[4:], f"{text}\n".encode())
    known = hashlib.sha256(f"{name}\n".encode() + b"\x01" + loaded.public_bytes_raw()).digest()
    assert (dash, name, raw[:4]) == ("—", origin, known[:4])


def test_it_goes_on_after_a_restart(path, key, public):
    for _ in range(3):
        write(path, key, 2)
    report = verify(path, public)
    assert report.is_intact
    assert (report.records, report.signed, report.checkpoints) == (7, 7, 3)


@pytest.mark.parametrize("kept", [0, 1, 30])
def test_half_a_line_is_sealed_off_and_recorded(path, key, public, kept):
    write(path, key, 2)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"n":3,"time":1796040000.0,"principal":"a'[:kept])
    write(path, key, 1)
    report = verify(path, public)
    assert report.is_intact
    assert report.torn == ((4,) if kept else ())
    assert path.read_bytes().startswith(whole)
    assert report.records == 4 + 2 * bool(kept)


def test_a_first_line_that_was_cut_is_sealed_off_too(path, key, public):
    path.write_bytes(b'{"event":"begin","ori')
    write(path, key, 1)
    write(path, key, 1)
    report = verify(path, public)
    assert report.is_intact
    assert report.torn == (1,)


def test_half_a_checkpoint_is_passed_over(path, key, public):
    write(path, key, 2, 2)
    text = notes(path).read_bytes()
    for cut in range(len(text) // 2 + 2, len(text) - 1):
        notes(path).write_bytes(text[:cut])
        assert verify(path, public).checkpoints == 1
    write(path, key, 1)
    report = verify(path, public)
    assert report.is_intact
    assert report.signed == report.records == 6


@pytest.fixture(scope="module")
def signed_log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    write_keys(folder)
    write(folder / "audit.jsonl", folder / "key.pem", 3, 4, 5)
    return folder


def copied(folder, tmp_path, lines=None, checkpoints=None):
    """Copy a log, with other lines or checkpoints."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(lines if lines is not None else (folder / path.name).read_bytes())
    if checkpoints is None:
        checkpoints = notes(folder / path.name).read_bytes()
    notes(path).write_bytes(checkpoints)
    return path


def found(folder, path, **options):
    report = verify(path, folder / "public.pem", **options)
    assert report.is_intact == (not report.findings)
    return " | ".join(report.findings)


LINES = 13


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_flipped_bit_of_the_log_shows(signed_log, tmp_path, data):
    whole = bytearray((signed_log / "audit.jsonl").read_bytes())
    at = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[at // 8] ^= 1 << at % 8
    assert found(signed_log, copied(signed_log, tmp_path, bytes(whole)))


@given(
    st.integers(0, LINES - 1),
    st.integers(0, LINES - 1),
    st.sampled_from(["del", "swap", "dup", "ins"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_gaps_moved_and_added_lines_show(signed_log, tmp_path, one, other, how):
    lines = (signed_log / "audit.jsonl").read_bytes().splitlines(keepends=True)
    before = list(lines)
    if how == "del":
        del lines[one]
    elif how == "swap":
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines.insert(other, lines[one] if how == "dup" else b'{"n":%d}\n' % other)
    if lines != before:
        said = found(signed_log, copied(signed_log, tmp_path, b"".join(lines)))
        assert said


def test_a_truncated_log_shows(signed_log, tmp_path):
    whole = (signed_log / "audit.jsonl").read_bytes()
    for end in range(0, len(whole), 37):
        assert "cut off" in found(signed_log, copied(signed_log, tmp_path, whole[:end]))


def test_a_log_cut_off_with_its_checkpoints_shows_by_one_kept_elsewhere(signed_log, tmp_path):
    lines = (signed_log / "audit.jsonl").read_bytes().splitlines(keepends=True)
    kept = notes(signed_log / "audit.jsonl")
    first = kept.read_bytes()[: kept.stat().st_size // 3 + 10].rpartition(b"=\n")[0] + b"=\n"
    path = copied(signed_log, tmp_path, b"".join(lines[:4]), first)
    assert found(signed_log, path) == ""
    assert "cut off: 4 of 13" in found(signed_log, path, checkpoint=kept)


def test_a_log_written_anew_shows_by_a_checkpoint_kept_elsewhere(signed_log, tmp_path):
    path = tmp_path / "audit.jsonl"
    write(path, signed_log / "key.pem", 20)
    kept = notes(signed_log / "audit.jsonl")
    assert found(signed_log, path) == ""
    assert "of the log" in found(signed_log, path, checkpoint=kept)


def test_another_history_of_the_same_log_shows(signed_log, tmp_path):
    lines = (signed_log / "audit.jsonl").read_bytes().splitlines(keepends=True)
    path = copied(signed_log, tmp_path, b"".join(lines[:4]), b"")
    write(path, signed_log / "key.pem", 20)
    assert found(signed_log, path) == ""
    kept = notes(signed_log / "audit.jsonl")
    assert "first 13 lines" in found(signed_log, path, checkpoint=kept)


def test_without_checkpoints_nothing_is_shown_to_be_whole(signed_log, tmp_path):
    path = copied(signed_log, tmp_path, checkpoints=b"")
    assert "no checkpoint" in found(signed_log, path)
    notes(path).unlink()
    assert "no checkpoint" in found(signed_log, path)
    (tmp_path / "empty").touch()
    with pytest.raises(RequestError, match="no checkpoint"):
        found(signed_log, path, checkpoint=tmp_path / "empty")


def test_checkpoints_of_someone_else_show(signed_log, tmp_path):
    private, public = write_keys(tmp_path, "other-")
    path = copied(signed_log, tmp_path, checkpoints=b"")
    write(path, private, 1)
    assert "isn't signed by this key" in found(signed_log, path)
    assert verify(path, public).is_intact


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_changed_checkpoint_is_never_taken_for_signed(signed_log, tmp_path, data):
    kept = bytearray(notes(signed_log / "audit.jsonl").read_bytes())
    at = data.draw(st.integers(0, len(kept) - 1))
    kept[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != kept[at]))
    path = copied(signed_log, tmp_path, checkpoints=bytes(kept))
    report = verify(path, signed_log / "public.pem")
    assert not report.is_intact or report.checkpoints <= 3


def test_a_log_that_was_changed_does_not_go_on(signed_log, tmp_path):
    whole = (signed_log / "audit.jsonl").read_bytes()
    for changed in (whole[:-300], whole.replace(b"digits", b"digitz", 1), b""):
        path = copied(signed_log, tmp_path, changed)
        with pytest.raises(AuditLogError, match="audit-log verify"):
            AuditLog(path, signed_log / "key.pem")
        assert path.read_bytes() == changed


def test_two_processes_on_one_log_are_refused(path, key):
    log = AuditLog(path, key)
    with pytest.raises(AuditLogError, match="another process"):
        AuditLog(path, key)
    code = (
        "import sys; from pathlib import Path\n"
        "from modelwright.security.audit_log import AuditLog\n"
        "AuditLog(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    line = [sys.executable, "-c", code, str(path), str(key)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert "another process" in done.stderr
    log.close()
    AuditLog(path, key).close()


def test_threads_get_numbers_of_their_own(path, key, public):
    log, numbers = AuditLog(path, key), []
    threads = [
        threading.Thread(target=lambda: numbers.extend(log.append(record()) for _ in range(200)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert sorted(numbers) == list(range(1, 801))
    assert verify(path, public).is_intact


def test_a_killed_process_loses_only_what_was_not_written_yet(path, key, public):
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from tests.security.test_audit_log import AuditLog, record\n"
        "log = AuditLog(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "for number in range(50): log.append(record(number))\n"
        "log.flush()\n"
        "for number in range(50): log.append(record(number))\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(key)], check=False)
    AuditLog(path, key).close()
    report = verify(path, public)
    assert report.is_intact
    assert report.records >= 51


class FullDisk:
    """The system's `write`, which takes so many bytes and then says that the disk is full."""

    def __init__(self, room):
        self.room, self.write = room, os.write

    def __call__(self, handle, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.write(handle, bytes(data)[: self.room])
        self.room -= written
        return written


@pytest.mark.parametrize("room", [0, 1, 100, 400])
def test_a_full_disk_is_said_and_nothing_is_lost(path, key, public, monkeypatch, room):
    monkeypatch.setattr(AuditLog, "_work", lambda self: None)
    log = AuditLog(path, key)
    log.append(record(1))
    log.flush()
    size = path.stat().st_size
    disk = FullDisk(room)
    monkeypatch.setattr(audit_log.os, "write", disk)
    log.append(record(2))
    log.append(record(3))
    if room < 400:
        with pytest.raises(AuditLogError, match="No space left"):
            log.flush()
        assert path.stat().st_size == size
        with pytest.raises(AuditLogError, match="stuck"):
            log.append(record(4))
    with pytest.raises(AuditLogError):
        log.checkpoint()
    disk.room = 1 << 20
    log.flush()
    log.append(record(5))
    log.close()
    report = verify(path, public)
    assert report.is_intact
    assert report.records == report.signed == 5


def test_with_every_answer_on_the_disk_a_full_one_is_said_at_once(path, key, monkeypatch):
    log = AuditLog(path, key, fsync_every=0)
    log.append(record(1))
    assert path.read_bytes().count(b"\n") == 2
    disk = FullDisk(0)
    monkeypatch.setattr(audit_log.os, "write", disk)
    with pytest.raises(AuditLogError):
        log.append(record(2))
    with pytest.raises(AuditLogError):
        log.close()
    disk.room = 1 << 20
    AuditLog(path, key).close()  # The lock is free.


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of POSIX on Linux")
def test_a_limit_of_the_system_on_the_file_is_said_by_append(path, key, public):
    code = (
        "import resource, sys, time; from pathlib import Path\n"
        "from tests.security.test_audit_log import AuditLog, AuditLogError, record\n"
        "log = AuditLog(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    while True: log.append(record()); time.sleep(0.001)\n"
        "except AuditLogError as error: print(error.why)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "log.close()"
    )
    line = [sys.executable, "-c", code, str(path), str(key)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert "too large" in done.stdout
    assert verify(path, public).is_intact


def test_the_thread_writes_and_signs_by_itself(path, key, public):
    log = AuditLog(path, key, checkpoint_every=0.01)
    log.append(record())
    until = time.monotonic() + 30
    while not notes(path).exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert notes(path).exists()
    log.close()
    assert verify(path, public).is_intact


@pytest.mark.parametrize(
    "principal", ["jwt:\ud800", 'a"b', "a\nb", "\u2028", "中", "\x00", "</script>"]
)
def test_any_name_is_one_line_of_ascii(path, key, public, principal):
    log = AuditLog(path, key)
    log.append(record(principal=principal))
    log.close()
    _, line = path.read_bytes().decode("ascii").splitlines()
    assert json.loads(line)["principal"] == principal
    assert verify(path, public).is_intact


def test_what_json_cannot_hold_is_refused_and_leaves_no_gap(path, key, public):
    log = AuditLog(path, key)
    with pytest.raises(ValueError, match="JSON"):
        log.append(record(cost=float("nan")))
    assert log.append(record()) == 1
    log.close()
    assert verify(path, public).is_intact


def test_what_is_no_key_is_refused(path, key, public, tmp_path):
    curve, _ = write_keys(tmp_path, "curve-", ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "text").write_text("hello")
    for wrong in (public, curve, tmp_path / "text", tmp_path / "nowhere", tmp_path):
        with pytest.raises((RequestError, DataError)):
            AuditLog(path, wrong)
    write(path, key, 1)
    for wrong in (key, tmp_path / "text", tmp_path / "nowhere"):
        with pytest.raises((RequestError, DataError)):
            verify(path, wrong)
    for wrong in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(RequestError):
            verify(wrong, public)
        with pytest.raises(RequestError):
            verify(path, public, checkpoint=wrong)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_bytes_of_any_kind_are_findings(signed_log, tmp_path, lines, checkpoints):
    assert found(signed_log, copied(signed_log, tmp_path, lines, checkpoints))
