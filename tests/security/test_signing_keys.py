"""Ed25519 keys: the vectors of RFC 8032, the files of others, and what isn't a key."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from modelwright.errors import DataError, MissingExtraError, RequestError, ResourceError
from modelwright.security import signing_keys
from modelwright.security.signing_keys import PublicKey, create_key, read_private_key
from modelwright.security.signing_keys import read_public_key as read_public

serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: E402

VECTORS = (
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46"
        "bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8"
        "c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc65"
        "94a7c15e9716ed28dc027beceea1ec40a",
    ),
)
"""Secret key, public key, message, signature: RFC 8032, section 7.1, tests 1 to 3."""
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.mark.parametrize(("secret", "public", "message", "signature"), VECTORS)
def test_the_vectors_of_rfc_8032(
    tmp_path: Path, secret: str, public: str, message: str, signature: str
) -> None:
    (tmp_path / "raw").write_bytes(bytes.fromhex(secret))
    key = read_private_key(str(tmp_path / "raw"))
    assert key.public.raw.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    assert key.public.verifies(bytes.fromhex(signature), bytes.fromhex(message))
    assert not key.public.verifies(bytes.fromhex(signature), bytes.fromhex(message) + b"\0")
    (tmp_path / "raw.pub").write_bytes(bytes.fromhex(public))
    assert read_public(str(tmp_path / "raw.pub")) == key.public


def test_malformed_signatures_are_none() -> None:
    """As Wycheproof has them: cut, padded, S beyond the order, R or S of zeros or ones."""
    _, public, message, signature = (bytes.fromhex(part) for part in VECTORS[2])
    key, half = PublicKey(public), 32
    r, s = signature[:half], int.from_bytes(signature[half:], "little")
    assert key.verifies(signature, message)
    malformed = [
        b"",
        signature[:-1],
        signature + b"\0",
        b"\0" + signature,
        r + (s + ORDER).to_bytes(half, "little"),
        r + (s + 8 * ORDER).to_bytes(half, "little"),
        r + bytes(half),
        r + b"\xff" * half,
        bytes(half) + signature[half:],
        b"\xff" * half + signature[half:],
        bytes(2 * half),
        (1).to_bytes(half, "little") + bytes(half),
        signature[half:] + r,
        r[:-1] + bytes([r[-1] ^ 0x80]) + signature[half:],
    ]
    malformed += [
        bytes([*signature[:at], signature[at] ^ 1 << bit, *signature[at + 1 :]])
        for at in range(64)
        for bit in range(8)
    ]
    assert not any(key.verifies(item, message) for item in malformed)


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "key"
    public = create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert path.with_name("key.pub").read_text() == f"{public.line}\n"
    assert read_public(str(path.with_name("key.pub"))) == read_public(public.line) == public
    assert read_private_key(str(path)).public == public
    before = path.read_bytes()
    for place in (path, tmp_path / "other"):
        (tmp_path / "other.pub").write_text("mine")
        with pytest.raises(RequestError, match="no key is overwritten"):
            create_key(place)
    assert path.read_bytes() == before
    assert not (tmp_path / "other").exists()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="no key is overwritten"):
        create_key(tmp_path / "link")
    assert create_key(tmp_path / "second") != public
    with pytest.raises(ResourceError):
        create_key(path / "below")


def test_nothing_of_a_private_key_is_printed(tmp_path: Path) -> None:
    create_key(tmp_path / "key")
    key = read_private_key(str(tmp_path / "key"))
    secret = key._key.private_bytes_raw()
    assert secret.hex() not in repr(key)
    assert repr(key).count("PrivateKey") == 1


def test_an_encrypted_key_takes_its_passphrase(tmp_path: Path) -> None:
    path = str(tmp_path / "key")
    public = create_key(Path(path), passphrase=b"correct horse")
    assert read_private_key(path, passphrase=b"correct horse").public == public
    for wrong in (None, b"", b"battery staple"):
        with pytest.raises(DataError, match="can't be used"):
            read_private_key(path, passphrase=wrong)
    create_key(tmp_path / "open")
    with pytest.raises(DataError, match="the other way round"):
        read_private_key(str(tmp_path / "open"), passphrase=b"needless")
    with pytest.raises(RequestError, match="passphrase is empty"):
        create_key(tmp_path / "none", passphrase=b"")


def test_a_key_that_ssh_keygen_encrypted_takes_its_passphrase(tmp_path: Path) -> None:
    forms = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    public = create_key(tmp_path / "key")
    plain = read_private_key(str(tmp_path / "key"))._key
    form = (forms.Encoding.PEM, forms.PrivateFormat.OpenSSH)
    guard = forms.BestAvailableEncryption(b"correct horse")
    (tmp_path / "ssh").write_bytes(plain.private_bytes(*form, guard))
    assert read_private_key(str(tmp_path / "ssh"), passphrase=b"correct horse").public == public
    for wrong in (None, b"battery staple"):
        with pytest.raises(DataError, match="can't be used"):
            read_private_key(str(tmp_path / "ssh"), passphrase=wrong)


def test_a_key_is_named_by_variable_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = create_key(tmp_path / "key")
    monkeypatch.setenv("SIGNING_KEY", (tmp_path / "key").read_text())
    assert read_private_key("env:SIGNING_KEY").public == public
    assert read_private_key(f"file:{tmp_path / 'key'}").public == public
    with pytest.raises(RequestError, match="`NOWHERE` isn't set"):
        read_private_key("env:NOWHERE")
    with pytest.raises(DataError, match="can't be read"):
        read_private_key("file:")


def ssh_pair(folder: Path) -> Path:
    """Return the path of a key pair in OpenSSH's form: its own, or else the library's."""
    path = folder / "id_ed25519"
    if program := shutil.which("ssh-keygen"):
        line = [program, "-q", "-t", "ed25519", "-N", "", "-C", "me@work", "-f", str(path)]
        subprocess.run(line, check=True)
        return path
    key = ed25519.Ed25519PrivateKey.generate()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    path.write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    path.with_suffix(".pub").write_text(f"{PublicKey(key.public_key().public_bytes_raw()).line} me")
    return path


def test_keys_of_openssh(tmp_path: Path) -> None:
    path = ssh_pair(tmp_path)
    key = read_private_key(str(path))
    public = read_public(str(path.with_suffix(".pub")))
    assert key.public == public
    assert public.verifies(key.sign(b"x"), b"x")
    if program := shutil.which("ssh-keygen"):
        create_key(tmp_path / "ours")
        for file, made in (
            (path, public),
            (tmp_path / "ours", read_public(f"{tmp_path}/ours.pub")),
        ):
            line = [program, "-l", "-f", f"{file}.pub"]
            printed = subprocess.run(line, check=True, capture_output=True, text=True).stdout
            assert printed.split()[1] == made.id


def test_a_public_key_in_pem(tmp_path: Path) -> None:
    public = create_key(tmp_path / "key")
    key = ed25519.Ed25519PublicKey.from_public_bytes(public.raw)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = key.public_bytes(serialization.Encoding.PEM, form)
    (tmp_path / "pem").write_bytes(b"\n" + pem)
    assert read_public(str(tmp_path / "pem")) == public
    assert read_public(pem.decode()) == public


def test_what_is_no_key_of_ours_is_refused(tmp_path: Path) -> None:
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    for number, key in enumerate(
        (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1()))
    ):
        private, public = tmp_path / f"{number}", tmp_path / f"{number}.pub"
        private.write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
        line = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        public.write_bytes(line)
        with pytest.raises(DataError, match="another algorithm"):
            read_private_key(str(private))
        for given in (str(public), line.decode()):
            with pytest.raises(DataError, match="another algorithm"):
                read_public(given)
    create_key(tmp_path / "key")
    with pytest.raises(DataError, match="this is a private key"):
        read_public(str(tmp_path / "key"))
    for content in (
        b"",
        b"-----BEGIN PRIVATE KEY-----\n",
        b"\0" * 31,
        b"ssh-ed25519 AAAA",
        b"\xff",
    ):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(DataError):
            read_private_key(str(tmp_path / "bad"))
        with pytest.raises(DataError):
            read_public(str(tmp_path / "bad"))
    (tmp_path / "long").write_bytes(b"x" * (1 << 17))
    for path in ("long", "nowhere", ".", "a\0b", "x" * 5000):
        with pytest.raises(DataError, match="can't be read"):
            read_public(path, base=tmp_path)


def test_without_the_library_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name, name=name)

    monkeypatch.setattr("modelwright.errors.importlib.import_module", missing)
    with pytest.raises(MissingExtraError, match="signing needs the library `cryptography`"):
        signing_keys.create_key(Path("never"))
