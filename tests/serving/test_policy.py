"""Who may do what over HTTP: every route, method, role and model, and what leaks nothing."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from modelwright.security import api_keys, signing_keys
from modelwright.security.audit_log import verify
from modelwright.security.roles import ROLES, grant_of
from modelwright.security.store import Store
from modelwright.serving.app import ROUTES
from tests.serving.generated import SECRETS
from tests.serving.running import serving

TEXTS = "/v1/models/texts:predict"
MODELS = {"predictor": ["texts"], "explainer": ["texts"], "monitor": ["*"], "admin": ["*"]}
"""For which models the tests' key of each role is."""
ASKED = {"input": "the cat"}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def guarded(models, tmp_path_factory):
    """Return a server with a key for each role, its keys, its log, and an issuer of tokens."""
    folder: Path = tmp_path_factory.mktemp("guarded")
    store = Store(str(folder / "keys.db"))
    keys = {
        role: api_keys.create(store, grant_of(role, names), now=time.time())[0]
        for role, names in MODELS.items()
    }
    keys["star"] = api_keys.create(store, grant_of("predictor", ["*"]), now=time.time())[0]
    keys["slow"] = api_keys.create(
        store, grant_of("predictor", ["*"]), now=time.time(), requests_per_minute=3
    )[0]
    keys["poor"] = api_keys.create(
        store, grant_of("predictor", ["*"]), now=time.time(), daily_cost=5.0
    )[0]
    store.close()
    signing_keys.create_key(folder / "audit.key")
    issuer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(issuer.public_key(), as_dict=True)
    import json

    (folder / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "one"}]}))
    settings = (
        f"audit: {{path: {folder}/audit.jsonl, key: {folder}/audit.key}}\n"
        f"tokens: {{issuer: me, audience: here, jwks: {folder}/jwks.json, algorithms: [RS256]}}\n"
    )
    files = [models / name / "model.mw" for name in ("images", "texts", "writer")]
    with serving(folder, *files, "--workers", "1", settings=settings) as running:
        yield running, keys, folder, issuer


def _allowed(role: str, policy: str, model: str | None) -> bool:
    if policy in ("public", "any"):
        return True
    if policy not in ROLES[role]:
        return False
    return MODELS[role] == ["*"] or model in MODELS[role]


CELLS = [
    (route, role, model)
    for route in ROUTES
    for role in (*ROLES, None)
    for model in (("texts", "images", "nobody") if "{name}" in route.path else (None,))
]


@pytest.mark.parametrize(
    ("route", "role", "model"),
    CELLS,
    ids=[f"{route.method} {route.path} {role} {model}" for route, role, model in CELLS],
)
def test_every_cell_is_as_the_policy_says(guarded, route, role, model):
    running, keys, *_ = guarded
    path = route.path.replace("{name}", str(model)).replace("{version}", "1")
    headers = bearer(keys[role]) if role else {}
    answer = running.client.request(route.method, path, headers=headers, json={})
    if route.policy == "public":
        assert answer.status_code == 200
    elif role is None:
        assert answer.status_code == 401
    elif not _allowed(role, route.policy, model):
        assert answer.status_code == 403
    else:
        assert answer.status_code not in (401, 403), answer.text
    assert answer.status_code < 500


def test_the_table_of_routes_is_the_application(guarded):
    running, *_ = guarded
    paths = running.client.get("/openapi.json").json()["paths"]
    served = {(method.upper(), path) for path, each in paths.items() for method in each}
    assert served == {(route.method, route.path) for route in ROUTES}
    known = {"public", "any", *itertools.chain.from_iterable(ROLES.values())}
    assert all(route.policy in known for route in ROUTES)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD"])
@pytest.mark.parametrize("path", [TEXTS, "/v1/models/texts:reload", "/v2/models/texts/infer"])
def test_no_other_method_gets_through(guarded, method, path):
    running, *_ = guarded
    assert running.client.request(method, path).status_code in (401, 405)


@pytest.mark.parametrize(
    "path",
    ["/v1//models/texts", "/v1/models/texts/", "/V1/models", "/docs", "/redoc", "/v1/../metrics",
     "/%2e%2e/etc/passwd", "/v1/models/..%2f..%2fetc", "/static/x"],
)  # fmt: skip
def test_no_address_goes_round_the_table(guarded, path):
    running, *_ = guarded
    assert running.client.get(path).status_code in (307, 401, 404)


def test_a_body_cannot_name_a_model_that_the_key_is_not_for(guarded):
    running, keys, *_ = guarded
    asked = {"model": "writer", "prompt": "the fox", "max_tokens": 2}
    answer = running.client.post("/v1/completions", json=asked, headers=bearer(keys["predictor"]))
    assert answer.status_code == 403
    answer = running.client.post("/v1/completions", json=asked, headers=bearer(keys["monitor"]))
    assert answer.status_code == 403
    answer = running.client.post("/v1/completions", json=asked, headers=bearer(keys["star"]))
    assert answer.status_code == 200


def test_a_list_of_models_holds_those_that_may_be_asked(guarded):
    running, keys, *_ = guarded
    found = running.client.get("/v1/models", headers=bearer(keys["predictor"])).json()["data"]
    assert [item["id"] for item in found] == ["texts"]


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer x", "Basic abc", "Bearer mw_", "Bearer mw_a_b",
     "Bearer " + "x" * 9000, "bearer null", "Bearer é".encode()],
)  # fmt: skip
def test_what_is_no_key_is_401(guarded, header):
    running, *_ = guarded
    answer = running.client.post(TEXTS, json=ASKED, headers={"authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_half_a_key_and_another_secret_are_401(guarded):
    running, keys, *_ = guarded
    key = keys["predictor"]
    for wrong in (key[:-1], key + "x", key[:-1] + ("a" if key[-1] != "a" else "b"), key.upper()):
        answer = running.client.post(TEXTS, json=ASKED, headers=bearer(wrong))
        assert answer.status_code == 401


def test_a_wrong_key_is_401_on_public_routes_too(guarded):
    running, *_ = guarded
    assert running.client.get("/healthz", headers=bearer("mw_a_b")).status_code == 401


def test_a_rate_and_a_quota_end_in_429(guarded):
    running, keys, *_ = guarded
    statuses = [
        running.client.post(TEXTS, json=ASKED, headers=bearer(keys["slow"])).status_code
        for _ in range(5)
    ]
    assert statuses == [200, 200, 200, 429, 429]
    several = {"inputs": ["a", "b", "c"]}
    first = running.client.post(TEXTS, json=several, headers=bearer(keys["poor"]))
    second = running.client.post(TEXTS, json=several, headers=bearer(keys["poor"]))
    assert (first.status_code, second.status_code) == (200, 429)
    assert int(second.headers["retry-after"]) >= 1


def test_what_cannot_be_read_counts_too(guarded):
    running, _, folder, _ = guarded
    store = Store(str(folder / "keys.db"))
    key, _ = api_keys.create(
        store, grant_of("predictor", ["*"]), now=time.time(), requests_per_minute=2
    )
    store.close()
    time.sleep(0.5)
    statuses = [
        running.client.post(TEXTS, json={"bad": 1}, headers=bearer(key)).status_code
        for _ in range(4)
    ]
    assert statuses == [400, 400, 429, 429]


def _token(issuer, headers=None, key=None, algorithm="RS256", **changes):
    now = int(time.time())
    claims = {
        "iss": "me",
        "aud": "here",
        "sub": "someone",
        "exp": now + 600,
        "role": "predictor",
        "models": ["texts"],
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key or issuer, algorithm, {"kid": "one", **(headers or {})})


def test_a_token_is_taken_for_what_it_grants(guarded):
    running, _, _, issuer = guarded
    token = bearer(_token(issuer))
    assert running.client.post(TEXTS, json=ASKED, headers=token).status_code == 200
    other = running.client.get("/v1/models/images", headers=token)
    assert other.status_code == 403


@pytest.mark.parametrize("changes", [{"role": "king"}, {"role": None}, {"models": None}])
def test_a_token_that_grants_nothing_is_403(guarded, changes):
    running, _, _, issuer = guarded
    token = _token(issuer, **changes)
    assert running.client.post(TEXTS, json=ASKED, headers=bearer(token)).status_code == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": None},
        {"nbf": 1 << 33},
        {"aud": "there"},
        {"aud": None},
        {"iss": "you"},
        {"headers": {"kid": "two"}},
        {"headers": {"kid": "../one"}},
    ],
)
def test_a_token_that_is_wrong_is_401(guarded, changes):
    running, _, _, issuer = guarded
    token = _token(issuer, **changes)
    assert running.client.post(TEXTS, json=ASKED, headers=bearer(token)).status_code == 401


def test_tokens_of_other_algorithms_are_401(guarded):
    running, _, _, issuer = guarded
    public = issuer.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    import base64
    import hashlib
    import hmac
    import json

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"iss": "me", "aud": "here", "sub": "x", "exp": 1 << 33, "role": "admin",
              "models": ["*"]}  # fmt: skip
    none = f"{part({'alg': 'none', 'kid': 'one'})}.{part(claims)}."
    body = f"{part({'alg': 'HS256', 'kid': 'one'})}.{part(claims)}"
    mac = hmac.new(public, body.encode(), hashlib.sha256).digest()
    confused = f"{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
    for token in (none, confused, _token(issuer) + "x" * 9000):
        assert running.client.post(TEXTS, json=ASKED, headers=bearer(token)).status_code == 401


def test_each_request_is_in_the_log_without_what_was_asked(guarded):
    running, keys, folder, _ = guarded
    secret = "nobody may read this"
    running.client.post(TEXTS, json={"input": secret}, headers=bearer(keys["star"]))
    time.sleep(0.5)
    text = (folder / "audit.jsonl").read_text()
    assert secret not in text
    assert not any(key.rpartition("_")[2] in text for key in keys.values())
    assert '"verdict":"refused"' in text
    assert "sha256:" in text
    public = (folder / "audit.key.pub").read_text()
    findings = verify(folder / "audit.jsonl", public).findings
    assert all("no checkpoint" in finding for finding in findings)
    everything = "".join(running.lines)
    assert secret not in everything
    assert not any(key in everything for key in keys.values())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"host": "evil.example"}, 403),
        ({"host": "127.evil.example"}, 403),
        ({"host": "localhost:1"}, 200),
    ],
)
def test_a_page_of_another_site_cannot_ask(server, headers, status):
    assert server.client.post(TEXTS, json=ASKED, headers=headers).status_code == status


def test_with_the_first_key_the_server_closes(models, tmp_path):
    path = models / "texts" / "model.mw"
    with serving(tmp_path, path, "--workers", "1") as running:
        assert running.client.post(TEXTS, json=ASKED).status_code == 200
        wrong = running.client.post(TEXTS, json=ASKED, headers=bearer("mw_a_b"))
        assert wrong.status_code == 401
        store = Store(str(tmp_path / "keys.db"))
        key, stored = api_keys.create(store, grant_of("predictor", ["texts"]), now=time.time())
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            if running.client.post(TEXTS, json=ASKED).status_code == 401:
                break
            time.sleep(0.1)
        assert running.client.post(TEXTS, json=ASKED).status_code == 401
        assert running.client.post(TEXTS, json=ASKED, headers=bearer(key)).status_code == 200
        store.revoke(stored.prefix, now=time.time())
        store.close()
        while time.monotonic() < limit:
            if running.client.post(TEXTS, json=ASKED, headers=bearer(key)).status_code == 401:
                break
            time.sleep(0.1)
        assert running.client.post(TEXTS, json=ASKED, headers=bearer(key)).status_code == 401
        assert running.client.post(TEXTS, json=ASKED).status_code == 401


def test_a_log_that_cannot_be_written_ends_the_answers(models, tmp_path):
    resource = pytest.importorskip("resource")
    signing_keys.create_key(tmp_path / "audit.key")
    settings = f"audit: {{path: {tmp_path}/audit.jsonl, key: {tmp_path}/audit.key}}\n"
    path = models / "texts" / "model.mw"
    with serving(tmp_path, path, "--workers", "1", settings=settings) as running:
        assert running.client.post(TEXTS, json=ASKED).status_code == 200
        limits = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (2000, -1))
        assert _until(running, 503)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, limits)
        assert _until(running, 200)


def _until(running, status):
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        if running.client.post(TEXTS, json=ASKED).status_code == status:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("role", [*ROLES, None])
def test_generated_requests_meet_no_fault_and_no_leak(guarded, role, tmp_path):
    running, keys, folder, _ = guarded
    root = Path(__file__).parents[2]
    hidden = [str(folder), *(key for name, key in keys.items() if name != role)]
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/openapi.json"),
        *("--checks", "not_a_server_error,leaks_nothing", "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", "5", "--generation-deterministic", "--no-color"),
        *("--warnings", "off", "--request-timeout", "60"),
    ]
    if role is not None:
        command += ["--header", f"Authorization: Bearer {keys[role]}"]
    more = {SECRETS: "\n".join(hidden), "SCHEMATHESIS_HOOKS": "tests.serving.generated"}
    done = subprocess.run(
        command,
        env={**os.environ, **more, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    # All but the address that the document itself came from.
    assert f"Tested: {len(ROUTES) - 1}\n" in done.stdout
