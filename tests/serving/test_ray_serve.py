"""The server as a deployment of Ray Serve: the same application, the same answers."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

import modelwright as mw
from modelwright.errors import MissingExtraError, RequestError
from modelwright.serving.ray_serve import application
from tests.serving.running import START_S

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray isn't installed")
TEXT = "the cat sat"
RUNNER = """
import os, signal, sys
import ray
from ray import serve
from modelwright.serving.ray_serve import application

ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
serve.run(application({"config": sys.argv[1], "max_replicas": "1"}))
print("ready", flush=True)
signal.sigwait({signal.SIGTERM})
serve.shutdown()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a store with a key, and the key."""
    path = tmp_path_factory.mktemp("store") / "keys.db"
    return path, _key(path, "*")


def _key(store, model):
    words = ["keys", "create", "--role", "predictor", "--model", model, "--store", str(store)]
    line = subprocess.run(
        [sys.executable, "-m", "modelwright", *words, "--json"],
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(line.stdout)["key"]


@pytest.fixture(scope="module")
def url(models, store, tmp_path_factory):
    """Return the address of a cluster of one machine that serves the three models."""
    folder = tmp_path_factory.mktemp("ray")
    listed = "".join(
        f"  - path: {models / name / 'model.mw'}\n" for name in ("images", "texts", "writer")
    )
    config = folder / "serve.yaml"
    config.write_text(f"store: {store[0]}\ndrain_s: 0.2\nmodels:\n{listed}")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", RUNNER, str(config), str(port)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert any(line == "ready\n" for line in process.stdout)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.stdout.close()
        process.wait(2 * START_S)


@pytest.fixture(scope="module")
def client(url, store):
    """Return a client with the key."""
    headers = {"authorization": f"Bearer {store[1]}"}
    with httpx.Client(base_url=url, headers=headers, timeout=START_S) as client:
        yield client


@needs_ray
def test_health_is_told_to_everybody(url):
    for path in ("/healthz", "/readyz", "/v2/health/ready"):
        assert httpx.get(f"{url}{path}").status_code == 200


@needs_ray
def test_no_key_and_a_wrong_key_are_401(url, store):
    path = f"{url}/v1/models/texts:predict"
    assert httpx.post(path, json={"input": TEXT}).status_code == 401
    wrong = {"authorization": f"Bearer {store[1][:-4]}aaaa"}
    answer = httpx.post(path, json={"input": TEXT}, headers=wrong)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    other = {"authorization": f"Bearer {_key(store[0], 'images')}"}
    assert httpx.post(path, json={"input": TEXT}, headers=other).status_code == 403


@needs_ray
def test_an_image_and_a_text_are_answered_as_predict_answers(client, models, png):
    model = mw.load(models / "texts" / "model.mw", threads=1)
    answer = client.post("/v1/models/texts:predict", json={"input": TEXT})
    assert answer.json() == [{"input": TEXT, "predictions": model.predict(TEXT)}]
    model = mw.load(models / "images" / "model.mw", threads=1)
    answer = client.post("/v1/models/images:predict", files={"input": ("3.png", png)})
    assert answer.json() == [{"input": "3.png", "predictions": model.predict(png)}]


@needs_ray
def test_tensors_are_answered_by_the_open_inference_protocol(client):
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [7] * 192}
    answer = client.post("/v2/models/images/infer", json={"id": "9", "inputs": [tensor]})
    assert answer.status_code == 200
    assert answer.json()["id"] == "9"
    assert answer.json()["outputs"][0]["shape"] == [1, 4]


@needs_ray
def test_a_text_is_streamed(client):
    asked = {"model": "writer", "prompt": "the", "max_tokens": 4, "stream": True}
    with client.stream("POST", "/v1/completions", json=asked) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert len(lines) > 2
    assert lines[-1] == "data: [DONE]"


def test_what_makes_no_sense_is_refused_before_ray_is_asked(tmp_path, models):
    config = tmp_path / "serve.yaml"
    config.write_text(f"auth: false\nmodels: [{{path: {models / 'texts' / 'model.mw'}}}]\n")
    with pytest.raises(RequestError, match="--no-auth"):
        application({"config": str(config)})
    config.write_text(config.read_text().replace("auth: false\n", ""))
    for name, text in (("replicas", "2"), ("min_replicas", "-1"), ("max_replicas", "many")):
        with pytest.raises(RequestError, match=name):
            application({"config": str(config), name: text})
    with pytest.raises(RequestError, match="at most"):
        application({"config": str(config), "min_replicas": "5"})


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_the_extra_is_named(tmp_path, models):
    config = tmp_path / "serve.yaml"
    config.write_text(f"models: [{{path: {models / 'texts' / 'model.mw'}}}]\n")
    with pytest.raises(MissingExtraError, match=r"\[ray\]"):
        application({"config": str(config)})
