"""Tokens of an identity provider, and the attacks that are known on them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelwright.security import tokens
from modelwright.security.roles import AccessError, Grant
from modelwright.security.tokens import TokenConfig, Tokens

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = rsa.generate_private_key(65537, 2048)
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(key, kid, **more):
    kind = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
    }
    (algorithm,) = [one for cls, one in kind.items() if isinstance(key, cls)]
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, **more}


KEYS = [jwk(RSA, "r", alg="RS256", use="sig"), jwk(EC, "e"), jwk(ED, "d")]


@pytest.fixture
def jwks(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": KEYS}))
    return path


def config(jwks, **more):
    options = {"issuer": "https://id.example", "audience": "models", "jwks": str(jwks), **more}
    return TokenConfig.model_validate_json(json.dumps(options))


@pytest.fixture
def checker(jwks):
    return Tokens(config(jwks, algorithms=["RS256", "ES256", "EdDSA"], daily_cost=5.0))


def claims(**more):
    now = int(time.time())
    return {
        "iss": "https://id.example",
        "aud": "models",
        "sub": "ann",
        "iat": now,
        "exp": now + 600,
        "role": "predictor",
        "models": ["digits"],
        **more,
    }


def signed(payload, key=RSA, algorithm="RS256", kid="r", **headers):
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, key, algorithm, headers={"kid": kid, **headers})


def refusal(checker, token):
    with pytest.raises(AccessError) as refused:
        checker.principal(token, time.time())
    assert "ann" not in refused.value.what
    return refused.value.status


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "r"), (EC, "ES256", "e"), (ED, "EdDSA", "d")]
)
def test_a_right_token_is_a_principal(checker, key, algorithm, kid):
    found = checker.principal(signed(claims(), key, algorithm, kid), time.time())
    assert found.id == "jwt:ann"
    assert found.grant == Grant("predictor", ("digits",))
    assert (found.requests_per_minute, found.daily_cost) == (None, 5.0)


@pytest.mark.parametrize(
    ("more", "grant"),
    [
        ({"models": "a b"}, Grant("predictor", ("a", "b"))),
        ({"models": ["*"]}, Grant("predictor", "*")),
        ({"role": ["staff", "monitor"]}, Grant("monitor", ("digits",))),
        ({"aud": ["other", "models"]}, Grant("predictor", ("digits",))),
    ],
)
def test_claims_become_a_grant(checker, more, grant):
    assert checker.principal(signed(claims(**more)), time.time()).grant == grant


@pytest.mark.parametrize(
    "more",
    [
        {"role": None},
        {"role": "emperor"},
        {"role": ["predictor", "admin"]},
        {"role": {"predictor": 1}},
        {"role": 7},
        {"models": None},
        {"models": []},
        {"models": ""},
        {"models": [1, {}]},
        {"models": {"*": 1}},
        {"models": ["a" * 300]},
    ],
)
def test_a_token_that_grants_nothing_is_403(checker, more):
    assert refusal(checker, signed(claims(**more))) == 403


NOW = int(time.time())


@pytest.mark.parametrize(
    "more",
    [
        {"exp": NOW - 120},
        {"exp": None},
        {"exp": "soon"},
        {"exp": 1e400},
        {"exp": [1]},
        {"nbf": NOW + 7200},
        {"iat": NOW + 7200},
        {"aud": "others"},
        {"aud": None},
        {"aud": []},
        {"aud": 7},
        {"iss": "https://id.example.evil"},
        {"iss": None},
        {"iss": ["https://id.example"]},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\nb"},
        {"sub": "a" * 201},
        {"sub": "\ud800"},
    ],
)
def test_a_claim_that_is_wrong_or_missing_is_refused(checker, more):
    payload = claims(**more)
    for algorithm, key, kid in (("RS256", RSA, "r"), ("EdDSA", ED, "d")):
        token = forged({"alg": algorithm, "kid": kid}, payload, key)
        assert refusal(checker, token) == 401


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def forged(header, payload, key=None, secret=None):
    """Return a token of any shape: signed, keyed with a secret, or without a signature."""
    payload = {name: value for name, value in payload.items() if value is not None}
    body = part(header) + b"." + part(payload)
    if secret is not None:
        signature = hmac.digest(secret, body, hashlib.sha256)
    elif key is not None:
        algorithm = jwt.algorithms.get_default_algorithms()[header["alg"]]
        signature = algorithm.sign(body, key)
    else:
        signature = b""
    return (body + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 7, [], {"a": 1}])
def test_no_algorithm_is_no_signature(checker, name):
    assert refusal(checker, forged({"alg": name, "kid": "r"}, claims())) == 401


def test_a_public_key_is_no_secret(checker):
    pem = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for secret in (pem, pem.strip(), json.dumps(KEYS[0]).encode(), b""):
        for algorithm in ("HS256", "RS256"):
            token = forged({"alg": algorithm, "kid": "r"}, claims(), secret=secret)
            assert refusal(checker, token) == 401


def test_secrets_cannot_even_be_configured(jwks, tmp_path):
    for algorithms in (["HS256"], ["none"], ["RS256", "HS512"], []):
        with pytest.raises(ValidationError):
            config(jwks, algorithms=algorithms)
    secret = {"kty": "oct", "kid": "o", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}
    jwks.write_text(json.dumps({"keys": [*KEYS, secret]}))
    token = forged({"alg": "HS256", "kid": "o"}, claims(), secret=b"secretsecretsecretsecretsecret")
    assert refusal(Tokens(config(jwks)), token) == 401


def test_an_algorithm_that_is_not_pinned_is_refused(jwks):
    only_rsa = Tokens(config(jwks))
    assert refusal(only_rsa, signed(claims(), EC, "ES256", "e")) == 401
    assert refusal(only_rsa, signed(claims(), RSA, "RS512", "r")) == 401
    both = Tokens(config(jwks, algorithms=["RS256", "PS256"]))  # The key says RS256 alone.
    assert refusal(both, signed(claims(), RSA, "PS256", "r")) == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"kid": "unknown"},
        {"kid": "../../etc/passwd"},
        {"kid": "e"},
        {"kid": "r", "crit": ["exp"], "exp": 1},
        {"kid": "r", "crit": ["b64"], "b64": False},
    ],
)
def test_headers_cannot_choose_another_key_or_extension(checker, headers):
    token = forged({"alg": "RS256", **headers}, claims(), RSA)
    assert refusal(checker, token) == 401


def test_a_key_in_the_token_is_not_used(checker):
    inside = jwk(OTHER, "mine")
    for header in ({"jwk": inside, "kid": "mine"}, {"jwk": inside, "kid": "r"}, {"jwk": inside}):
        assert refusal(checker, forged({"alg": "RS256", **header}, claims(), OTHER)) == 401
    for header in ({"jku": "http://127.0.0.1:9/", "kid": "r"}, {"x5u": "file:///", "kid": "r"}):
        assert refusal(checker, forged({"alg": "RS256", **header}, claims(), OTHER)) == 401


def test_a_changed_token_is_refused(checker):
    head, body, signature = signed(claims()).split(".")
    richer = part(claims(role="admin", models=["*"])).decode()
    assert refusal(checker, f"{head}.{richer}.{signature}") == 401
    assert refusal(checker, f"{head}.{body}.") == 401
    assert refusal(checker, f"{head}.{body}") == 401


def test_a_huge_token_is_refused_before_it_is_read(checker, monkeypatch):
    monkeypatch.setattr(jwt, "get_unverified_header", None)
    token = signed(claims(more="x" * 8192))
    assert refusal(checker, token) == 401


def test_a_deep_token_is_refused(checker):
    deep = base64.urlsafe_b64encode(b'{"alg":' + b"[" * 5000).decode().rstrip("=")
    assert refusal(checker, f"{deep}.e30.AAAA") == 401


@given(st.text(max_size=60))
def test_no_text_is_a_token(text):
    plain = TokenConfig(issuer="i", audience="a", jwks="/nowhere/jwks.json")
    with pytest.raises(AccessError):
        Tokens(plain).principal(text, 0.0)


def test_a_weak_key_is_refused(tmp_path):
    weak = rsa.generate_private_key(65537, 1024)
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk(weak, "w")]}))
    body = part({"alg": "RS256", "kid": "w"}) + b"." + part(claims())
    signature = jwt.algorithms.get_default_algorithms()["RS256"].sign(body, weak)
    token = (body + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
    assert refusal(Tokens(config(path)), token) == 401


def test_a_token_is_remembered_for_a_minute_and_never_beyond_its_end(checker, monkeypatch):
    now = time.time()
    token = signed(claims(exp=int(now) + 20))
    found = checker.principal(token, now)
    monkeypatch.setattr(jwt, "decode", None)
    assert checker.principal(token, now + 59) == found
    assert checker.remembered(token, now + 61) is None
    assert checker.remembered(token, now - 7200) is None  # A clock that was set back.
    assert checker.remembered(token[:-1], now) is None
    short = Tokens(config(checker.config.jwks, leeway_s=0))
    monkeypatch.undo()
    short.principal(token, now)
    assert short.remembered(token, now + 19) == found_without_quota(found)
    assert short.remembered(token, now + 21) is None


def found_without_quota(found):
    return type(found)(found.id, found.grant, None, None)


class Provider:
    """An identity provider on this machine that counts how often it was asked."""

    def __init__(self):
        self.answer, self.asked = json.dumps({"keys": KEYS}).encode(), 0
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                provider.asked += 1
                self.send_response(302 if provider.answer.startswith(b"/") else 200)
                if provider.answer.startswith(b"/"):
                    self.send_header("Location", provider.answer.decode())
                self.send_header("Content-Length", str(len(provider.answer)))
                self.end_headers()
                self.wfile.write(provider.answer)

            def log_message(self, *_):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def provider(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    running = Provider()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def at(monkeypatch):
    """Return a list whose only number is the monotonic time."""
    now = [1000.0]
    monkeypatch.setattr(tokens.time, "monotonic", lambda: now[0])
    return now


def test_unknown_keys_make_the_provider_be_asked_once_a_minute(provider, at):
    checker = Tokens(config(provider.url))
    for number in range(20):
        assert refusal(checker, signed(claims(), OTHER, kid=f"k{number}")) == 401
    assert provider.asked == 1
    checker.principal(signed(claims()), time.time())
    provider.answer = json.dumps({"keys": [jwk(OTHER, "new")]}).encode()
    at[0] += 61
    checker.principal(signed(claims(), OTHER, kid="new"), time.time())
    assert provider.asked == 2
    assert refusal(checker, signed(claims(role="monitor"))) == 401  # The old key is out of use.
    assert provider.asked == 2


@pytest.mark.parametrize(
    "answer", [b"", b"{", b"[]", b"{}", b'{"keys": 7}', b'{"keys": [7]}', b"/other", b"[" * 100_000]
)
def test_a_provider_that_fails_leaves_the_old_keys(provider, at, answer):
    checker = Tokens(config(provider.url))
    checker.principal(signed(claims()), time.time())
    provider.answer = answer
    at[0] += 61
    assert refusal(checker, signed(claims(), OTHER, kid="new")) == 401
    checker.principal(signed(claims(sub="bob")), time.time())
    assert provider.asked == 2


def test_without_any_keys_it_is_503_until_they_are_there(jwks, at):
    kept = jwks.rename(jwks.with_name("aside"))
    checker = Tokens(config(jwks))
    assert refusal(checker, signed(claims())) == 503
    kept.rename(jwks)
    at[0] += 61
    assert checker.principal(signed(claims()), time.time()).id == "jwt:ann"


@pytest.mark.parametrize("place", ["http://id.example/keys", "ftp://a/b", "file:///etc/passwd"])
def test_keys_come_by_https(place):
    with pytest.raises(ValidationError, match="https"):
        config(place)
