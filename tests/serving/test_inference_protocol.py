"""The Open Inference Protocol as KServe specifies it, in its form with JSON and with bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest

import modelwright as mw

INFER = "/v2/models/images/infer"
PIXELS = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)


def _tensor(**changes):
    whole = {
        "name": "pixels",
        "shape": list(PIXELS.shape),
        "datatype": "UINT8",
        "data": PIXELS.ravel().tolist(),
    }
    return {**whole, **changes}


@pytest.fixture(scope="module")
def logits(models):
    return mw.load(models / "images" / "model.mw", threads=1).outputs(PIXELS)


def test_health(server):
    for path in ("health/live", "health/ready", "models/images/ready"):
        assert server.client.get(f"/v2/{path}").status_code == 200
    assert server.client.get("/v2/models/nobody/ready").status_code == 404


def test_metadata(server):
    told = server.client.get("/v2").json()
    assert set(told) == {"name", "version", "extensions"}
    told = server.client.get("/v2/models/images").json()
    assert told["name"] == "images"
    assert told["inputs"][0] == {"name": "pixels", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}
    (version,) = told["versions"]
    assert server.client.get(f"/v2/models/images/versions/{version}").json() == told


@pytest.mark.parametrize("data", [PIXELS.tolist(), PIXELS.ravel().tolist()])
def test_tensors_nested_or_flat(server, logits, data):
    answer = server.client.post(INFER, json={"id": "42", "inputs": [_tensor(data=data)]})
    told = answer.json()
    assert told["id"] == "42"
    assert told["model_name"] == "images"
    (output,) = told["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("logits", "FP32", [2, 4])
    assert np.allclose(np.array(output["data"]).reshape(2, 4), logits, atol=1e-5)


def test_a_named_output_and_a_version(server):
    version = server.client.get("/v2/models/images").json()["versions"][0]
    asked = {"inputs": [_tensor()], "outputs": [{"name": "logits"}]}
    answer = server.client.post(f"/v2/models/images/versions/{version}/infer", json=asked)
    assert answer.json()["model_version"] == version
    asked["outputs"] = [{"name": "other"}]
    answer = server.client.post(INFER, json=asked)
    assert answer.status_code == 400
    assert "other" in answer.json()["error"]


def test_tensors_as_bytes(server, logits):
    data = PIXELS.tobytes()
    entry = _tensor(parameters={"binary_data_size": len(data)})
    del entry["data"]
    outputs = [{"name": "logits", "parameters": {"binary_data": True}}]
    header = json.dumps({"inputs": [entry], "outputs": outputs}).encode()
    answer = server.client.post(
        INFER,
        content=header + data,
        headers={"Inference-Header-Content-Length": str(len(header))},
    )
    assert answer.status_code == 200
    size = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.content[:size])["outputs"]
    blob = answer.content[size:]
    assert output["parameters"]["binary_data_size"] == len(blob)
    assert np.allclose(np.frombuffer(blob, np.float32).reshape(2, 4), logits, atol=1e-5)


def test_samples_as_people_send_them(server):
    entry = {"name": "input", "shape": [2], "datatype": "BYTES", "data": ["the cat", "a dog"]}
    answer = server.client.post("/v2/models/texts/infer", json={"inputs": [entry]})
    (output,) = answer.json()["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("predictions", "BYTES", [2])
    alone = server.client.post("/v1/models/texts:predict", json={"input": "a dog"}).json()
    assert json.loads(output["data"][1]) == alone[0]["predictions"]


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        {},
        [5],
        [_tensor(shape=[1, 8, 8, 3])],
        [_tensor(shape=[-1])],
        [_tensor(shape=[2**40, 2**40])],
        [_tensor(shape=[True])],
        [_tensor(shape=[1] * 9)],
        [_tensor(shape=[2147483647] * 20_000)],
        [_tensor(data=["x" * 2000] + ["a"] * 10_000)],
        [_tensor(data=[[[1]], [2]])],
        [_tensor(datatype="FP33")],
        [_tensor(datatype="FP32")],
        [_tensor(data=["x"] * PIXELS.size)],
        [_tensor(data=[300] * PIXELS.size)],
        [_tensor(data=[0.5] * PIXELS.size)],
        [_tensor(data=[[1], [2, 3]])],
        [_tensor(data={"a": 1})],
        [_tensor(name="other")],
        [_tensor(name=3)],
        [_tensor(), _tensor()],
        [_tensor(parameters={"binary_data_size": 5})],
        [{"name": "input", "shape": [1], "datatype": "BYTES", "data": [5]}],
        [{"name": "input", "shape": [0], "datatype": "BYTES", "data": []}],
        [_tensor(shape=[2, 8, 8, 3, 1])],
    ],
)
def test_what_is_no_tensor_is_refused(server, inputs):
    answer = server.client.post(INFER, json={"inputs": inputs})
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "1²", "9" * 5000])
def test_a_length_that_does_not_fit_is_refused(server, length):
    answer = server.client.post(
        INFER, content=b"{}", headers={"Inference-Header-Content-Length": length.encode()}
    )
    assert answer.status_code == 400
