"""TLS, and clients that must have a certificate (mutual TLS)."""

from __future__ import annotations

import datetime
import ipaddress
import ssl

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.serving.running import serving

PEM = serialization.Encoding.PEM


def _certificate(folder, name, issuer=None):
    """Write a key and a certificate, signed by an issuer or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signer, authority = issuer or (key, subject)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)
        .sign(signer, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(PEM))
    private = key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.key").write_bytes(private)
    return key, subject


@pytest.fixture
def authority(tmp_path):
    issuer = _certificate(tmp_path, "authority")
    _certificate(tmp_path, "server", issuer)
    _certificate(tmp_path, "client", issuer)
    _certificate(tmp_path, "stranger")
    return tmp_path


def _settings(folder, *, mutual):
    ca = f", client_ca: {folder}/authority.pem" if mutual else ""
    return f"tls: {{certificate: {folder}/server.pem, key: {folder}/server.key{ca}}}\n"


def test_a_server_with_a_certificate(models, authority):
    path = models / "texts" / "model.mw"
    settings = _settings(authority, mutual=False)
    with serving(authority, path, "--workers", "1", settings=settings) as running:
        assert running.url.startswith("https://")
        trusted = ssl.create_default_context(cafile=authority / "authority.pem")
        with httpx.Client(base_url=running.url, verify=trusted) as client:
            assert client.get("/healthz").status_code == 200
        with httpx.Client(base_url=running.url) as client, pytest.raises(httpx.ConnectError):
            client.get("/healthz")


def test_clients_without_a_certificate_are_refused(models, authority):
    path = models / "texts" / "model.mw"
    settings = _settings(authority, mutual=True)
    with serving(authority, path, "--workers", "1", settings=settings) as running:
        for name, is_taken in (("client", True), ("stranger", False), (None, False)):
            trusted = ssl.create_default_context(cafile=authority / "authority.pem")
            if name:
                trusted.load_cert_chain(authority / f"{name}.pem", authority / f"{name}.key")
            with httpx.Client(base_url=running.url, verify=trusted) as client:
                try:
                    answered = client.get("/healthz").status_code == 200
                except httpx.TransportError:
                    answered = False
            assert answered == is_taken


def test_a_certificate_that_is_none_is_said(models, authority):
    (authority / "server.pem").write_text("nothing")
    path = models / "texts" / "model.mw"
    settings = _settings(authority, mutual=False)
    with (
        pytest.raises(AssertionError, match="certificates can't be used"),
        serving(authority, path, settings=settings),
    ):
        pass
