"""Sealed files and folders, their references, and what the program `age` makes of them."""

from __future__ import annotations

import os
import pty
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from modelwright.errors import RequestError, SealError
from modelwright.security.age import is_sealed
from modelwright.security.sealing import (
    ENVIRONMENT,
    create_identity_file,
    environment_refs,
    is_sealed_path,
    open_path,
    opened_file,
    read_identities,
    read_recipients,
    seal_path,
    using_identities,
)

pytest.importorskip("pyrage")
needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="the program `age` isn't here")
needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no `ssh-keygen`")
PLAIN = b"a planted sentence" * 7000


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    Path("plain.bin").write_bytes(PLAIN)
    return tmp_path


@pytest.fixture
def public(here):
    return create_identity_file(Path("own.key"))


def test_an_identity_is_private_and_never_written_over(public):
    path = Path("own.key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    assert public in before
    with pytest.raises(RequestError, match="isn't written over"):
        create_identity_file(path)
    assert path.read_text() == before


def test_a_file_comes_back_as_it_was(public):
    sealed = seal_path(Path("plain.bin"), read_recipients([public]))
    assert sealed == Path("plain.bin.age")
    assert PLAIN[:20] not in sealed.read_bytes()
    with pytest.raises(RequestError, match="stands here already"):
        open_path(sealed, read_identities(["own.key"]))
    Path("plain.bin").unlink()
    assert open_path(sealed, read_identities(["own.key"])) == Path("plain.bin")
    assert Path("plain.bin").read_bytes() == PLAIN
    with pytest.raises(RequestError, match="stands here already"):
        seal_path(Path("plain.bin"), read_recipients([public]))


def test_recipients_come_from_files_and_keys(public):
    other = create_identity_file(Path("other.key"))
    Path("team.txt").write_text(f"# the team\n\n{other}\n")
    sealed = seal_path(Path("plain.bin"), read_recipients(["file:team.txt", public]))
    for key in ("own.key", "file:other.key"):
        assert opened_file(sealed, read_identities([key])) == PLAIN
    Path("team.txt").write_text(f"{other}\nnonsense\n")
    with pytest.raises(SealError, match=r"team.txt:2.*nonsense"):
        read_recipients(["file:team.txt"])


def test_sealing_anew_takes_a_recipient_away_from_this_copy(public):
    other = create_identity_file(Path("other.key"))
    sealed = seal_path(Path("plain.bin"), read_recipients([public]))
    with pytest.raises(SealError, match="sealed already"):
        seal_path(sealed, read_recipients([other]))
    again = seal_path(sealed, read_recipients([other]), identities=read_identities(["own.key"]))
    assert again == sealed
    assert opened_file(sealed, read_identities(["other.key"])) == PLAIN
    with pytest.raises(SealError, match="none of the identities"):
        opened_file(sealed, read_identities(["own.key"]))


def test_a_folder_is_sealed_file_by_file(public):
    for name in ("photos/cat/1.png", "photos/dog/2.png", "photos/notes"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode())
    sealed = seal_path(Path("photos"), read_recipients([public]))
    names = sorted(str(path) for path in sealed.rglob("*") if path.is_file())
    assert names == [f"photos.age/{name}.age" for name in ("cat/1.png", "dog/2.png", "notes")]
    assert all(is_sealed(Path(name).read_bytes()) for name in names)
    assert is_sealed_path(sealed)
    assert not is_sealed_path(Path("photos"))
    back = open_path(sealed, read_identities(["own.key"]), out=Path("back"))
    for name in ("cat/1.png", "dog/2.png", "notes"):
        assert (back / name).read_bytes() == (Path("photos") / name).read_bytes()


def test_a_folder_that_can_not_be_opened_leaves_nothing(public):
    Path("photos").mkdir()
    for name in ("a", "b"):
        Path(f"photos/{name}").write_text(name)
    sealed = seal_path(Path("photos"), read_recipients([public]))
    (sealed / "b.age").write_bytes((sealed / "b.age").read_bytes()[:-1])
    with pytest.raises(SealError, match="damaged"):
        open_path(sealed, read_identities(["own.key"]), out=Path("back"))
    assert sorted(item.name for item in Path().iterdir()) == [
        "own.key", "photos", "photos.age", "plain.bin",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["missing", "pipe", "empty folder", "link to a folder"])
def test_what_can_not_be_sealed_is_refused(kind, public):
    path = Path("it")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.mkdir()
    if kind == "link to a folder":
        (path / "link").symlink_to(path.absolute())
    with pytest.raises(SealError):
        seal_path(path, read_recipients([public]))
    assert not Path("it.age").exists()


def test_it_takes_recipients_or_a_passphrase(public):
    with pytest.raises(RequestError, match="not both"):
        seal_path(Path("plain.bin"), ())
    with pytest.raises(RequestError, match="not both"):
        seal_path(Path("plain.bin"), read_recipients([public]), passphrase="word")


def test_references_name_files_variables_and_passphrases(public, monkeypatch):
    monkeypatch.setenv("KEY", Path("own.key").read_text())
    monkeypatch.setenv("EMPTY", "")
    assert len(read_identities(["own.key", "file:own.key", "env:KEY"])) == 3
    Path("word").write_text("correct horse\nanother line")
    assert read_identities(["passphrase:file:word"])[0].passphrase == "correct horse"
    for ref in ("env:NONE", "nowhere.key", "passphrase:env:EMPTY", "file:", "."):
        with pytest.raises(SealError):
            read_identities([ref])
    with pytest.raises(RequestError, match="command line"):
        read_identities([Path("own.key").read_text().splitlines()[-1]])


def test_the_environment_names_identities_as_a_shell_does(public, monkeypatch):
    Path("own.key").rename("my own.key")
    monkeypatch.setenv(ENVIRONMENT, "'my own.key'")
    assert len(read_identities()) == 1
    with using_identities(["a b", "c"]):
        assert environment_refs() == ["a b", "c", "my own.key"]
    assert environment_refs() == ["my own.key"]
    monkeypatch.setenv(ENVIRONMENT, "'open")
    with pytest.raises(RequestError, match=ENVIRONMENT):
        read_identities()


def test_without_an_identity_the_error_says_how_to_give_one(public):
    sealed = seal_path(Path("plain.bin"), read_recipients([public]))
    with pytest.raises(SealError, match=r"(?s)sealed.*--identity"):
        opened_file(sealed)


def _age(*words: str, **options) -> bytes:
    return subprocess.run(("age", *words), check=True, capture_output=True, **options).stdout


@needs_age
def test_the_program_age_opens_ours_and_we_open_its(public):
    sealed = seal_path(Path("plain.bin"), read_recipients([public]))
    assert _age("-d", "-i", "own.key", str(sealed)) == PLAIN
    for options in ((), ("-a",)):
        _age("-r", public, *options, "-o", "theirs.age", "plain.bin")
        assert opened_file(Path("theirs.age"), read_identities(["own.key"])) == PLAIN


@needs_age
def test_an_identity_of_age_keygen_is_one_of_ours(here):
    subprocess.run(("age-keygen", "-o", "theirs.key"), check=True, capture_output=True)
    (identity,) = read_identities(["theirs.key"])
    sealed = seal_path(Path("plain.bin"), [identity.recipient])
    assert _age("-d", "-i", "theirs.key", str(sealed)) == PLAIN


@needs_age
@needs_ssh_keygen
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_ssh_keys_open_both_ways(kind, here):
    words = ("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", "ssh.key")
    subprocess.run(words, check=True, capture_output=True)
    public = Path("ssh.key.pub").read_text()
    for ref in (public, "file:ssh.key.pub"):
        sealed = seal_path(Path("plain.bin"), read_recipients([ref]))
        assert _age("-d", "-i", "ssh.key", str(sealed)) == PLAIN
        sealed.unlink()
    _age("-R", "ssh.key.pub", "-o", "theirs.age", "plain.bin")
    assert opened_file(Path("theirs.age"), read_identities(["ssh.key"])) == PLAIN


@needs_ssh_keygen
def test_an_ssh_key_with_a_passphrase_is_refused(here):
    words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "word", "-f", "ssh.key")
    subprocess.run(words, check=True, capture_output=True)
    with pytest.raises(SealError, match="decrypted first"):
        read_identities(["ssh.key"])


def _age_with_passphrase(passphrase: str, *words: str) -> None:
    """Run `age`, which asks for a passphrase on the terminal, with one on a terminal of its own."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvp("age", ("age", *words))
    heard = b""
    while True:
        try:
            heard += os.read(terminal, 1024)
        except OSError:  # So ends a terminal whose other side is closed.
            break
        if heard.rstrip().endswith((b":", b"passphrase):")):
            os.write(terminal, passphrase.encode() + b"\n")
            heard = b""
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, heard


@needs_age
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_passphrases_open_both_ways(here, monkeypatch):
    monkeypatch.setenv("WORD", "correct horse")
    sealed = seal_path(Path("plain.bin"), (), passphrase="correct horse")
    _age_with_passphrase("correct horse", "-d", "-o", "back", str(sealed))
    assert Path("back").read_bytes() == PLAIN
    _age_with_passphrase("correct horse", "-p", "-o", "theirs.age", "plain.bin")
    identities = read_identities(["passphrase:env:WORD"])
    assert opened_file(Path("theirs.age"), identities) == PLAIN
