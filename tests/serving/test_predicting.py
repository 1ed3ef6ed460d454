"""Predictions over HTTP, in every form that people send inputs in, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import re
import socket

import httpx
import pytest
from PIL import Image

import modelwright as mw
from modelwright.cli.main import main

IMAGES = "/v1/models/images:predict"
TEXTS = "/v1/models/texts:predict"
TEXT = "the cat sat"
_PART = b"--b\r\nContent-Disposition: form-data; name=input\r\n\r\n"
FORM = _PART + b"one\r\n" + _PART + b"two"
"""A form that was cut off."""


def test_an_image_is_answered_as_predict_answers(server, models, png, tmp_path, capsys):
    path = tmp_path / "3.png"
    path.write_bytes(png)
    main(["predict", str(models / "images" / "model.mw"), str(path), "--json"])
    (expected,) = json.loads(capsys.readouterr().out)
    answers = [
        server.client.post(IMAGES, files={"input": ("3.png", png)}),
        server.client.post(IMAGES, content=png, headers={"content-type": "image/png"}),
        server.client.post(IMAGES, content=png),
        server.client.post(IMAGES, json={"input": base64.b64encode(png).decode()}),
        server.client.post(IMAGES, json={"inputs": [{"b64": base64.b64encode(png).decode()}]}),
    ]
    for answer in answers:
        assert answer.status_code == 200
        (told,) = answer.json()
        assert told["predictions"] == expected["predictions"]
    assert answers[0].json()[0]["input"] == "3.png"


def test_a_text_is_answered_as_predict_answers(server, models):
    model = mw.load(models / "texts" / "model.mw", threads=1)
    expected = {"input": TEXT, "predictions": model.predict(TEXT)}
    answers = [
        server.client.post(TEXTS, json={"input": TEXT}),
        server.client.post(TEXTS, data={"input": TEXT}, files={}),
        server.client.post(TEXTS, content=TEXT, headers={"content-type": "text/plain"}),
        server.client.post(TEXTS, files={"input": (None, TEXT)}),
    ]
    for answer in (answers[0], *answers[2:]):
        assert answer.json() == [expected]


def test_several_inputs_and_the_number_of_answers(server, png):
    answer = server.client.post(
        IMAGES, files=[("input", ("a.png", png)), ("input", ("b.png", png))], data={"top": "2"}
    )
    assert [item["input"] for item in answer.json()] == ["a.png", "b.png"]
    assert all(len(item["predictions"]) == 2 for item in answer.json())
    answer = server.client.post(TEXTS, json={"inputs": [TEXT, "a dog"], "top": 1})
    assert [len(item["predictions"]) for item in answer.json()] == [1, 1]


def test_a_text_that_is_cut_off_is_said(server):
    answer = server.client.post(TEXTS, json={"input": "cat " * 200})
    assert answer.status_code == 200
    assert "warning" in answer.headers


@pytest.mark.parametrize(
    ("path", "sent", "status", "words"),
    [
        (IMAGES, {"content": b"no picture"}, 422, "image"),
        (IMAGES, {"content": b""}, 422, ""),
        (IMAGES, {"json": {"input": "no base64!"}}, 400, "base64"),
        (IMAGES, {"json": {"input": 5}}, 400, "b64"),
        (IMAGES, {"json": {"inputs": []}}, 400, "1 to 8"),
        (IMAGES, {"json": {"inputs": ["eA=="] * 9}}, 400, "1 to 8"),
        (IMAGES, {"json": {"inputs": "x"}}, 400, "list"),
        (IMAGES, {"json": {"input": "x", "inputs": ["x"]}}, 400, "`input` or a list"),
        (IMAGES, {"json": {"input": "x", "topp": 3}}, 400, "topp"),
        (IMAGES, {"json": [1]}, 400, "object"),
        (TEXTS, {"json": {"input": TEXT, "top": 0}}, 400, "top"),
        (TEXTS, {"json": {"input": TEXT, "top": True}}, 400, "top"),
        (TEXTS, {"json": {"input": TEXT, "top": 10**30}}, 400, "top"),
        (TEXTS, {"json": {"input": {"b64": "eA=="}}}, 200, ""),
        (
            TEXTS,
            {"content": b"\xff\xfe\x00", "headers": {"content-type": "text/plain"}},
            422,
            "UTF",
        ),
        (
            TEXTS,
            {"content": b'{"input": "\\ud800"}', "headers": {"content-type": "application/json"}},
            400,
            "half a character",
        ),
        (TEXTS, {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "JSON"),
        (
            TEXTS,
            {"content": b'{"input": NaN}', "headers": {"content-type": "application/json"}},
            400,
            "JSON",
        ),
        (
            TEXTS,
            {
                "content": b"[" * 10_000 + b"]" * 10_000,
                "headers": {"content-type": "application/json"},
            },
            400,
            "deep",
        ),
        (TEXTS, {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "form"),
        (TEXTS, {"files": {"other": b"x"}}, 400, "other"),
        (
            TEXTS,
            {
                "content": FORM,
                "headers": {"content-type": "multipart/form-data; boundary=b"},
            },
            400,
            "whole",
        ),
        ("/v1/models/nobody:predict", {"json": {"input": TEXT}}, 404, "nobody"),
        (TEXTS + "?version=nothing", {"json": {"input": TEXT}}, 404, "nothing"),
        ("/v1/models/texts:explain", {"json": {"input": TEXT}}, 405, ""),
    ],
)
def test_what_makes_no_sense_is_a_problem_with_a_sentence(server, path, sent, status, words):
    answer = server.client.post(path, **sent)
    assert answer.status_code == status
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert words.lower() in answer.json()["detail"].lower()
        assert answer.json()["status"] == status


def test_one_bad_input_among_several_is_named(server, png):
    answer = server.client.post(
        IMAGES, files=[("input", ("a.png", png)), ("input", ("b.png", b"nothing"))]
    )
    assert answer.status_code == 422
    assert "input 2" in answer.json()["detail"]


def test_a_body_that_is_too_long_is_refused_before_it_is_read(server):
    answer = server.client.post(IMAGES, content=b"x" * 300_001)
    assert answer.status_code == 413
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        head = f"POST {IMAGES} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {10 << 30}\r\n\r\n"
        client.sendall(head.encode())  # Nothing of the 10 GB is sent.
        assert b"413" in client.recv(4096)


def _chunks():
    for _ in range(100):
        yield b"x" * 10_000


def test_a_long_body_of_unknown_length_is_refused(server):
    try:
        status = server.client.post(IMAGES, content=_chunks()).status_code
    except httpx.TransportError:  # The connection is closed while it is still sent.
        status = 413
    assert status == 413


def test_a_client_that_sends_too_slowly_is_let_go(server):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(
            f"POST {IMAGES} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nabc".encode()
        )
        assert b"408" in client.recv(4096)


@pytest.mark.parametrize("begun", [b"", b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nA"])
def test_a_client_that_never_sends_a_whole_head_is_let_go(server, begun):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(begun)
        assert client.recv(4096) == b""


def test_a_picture_that_would_unpack_to_gigabytes_is_refused(server):
    stream = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(stream, "PNG")
    assert len(stream.getvalue()) < 300_000
    answer = server.client.post(IMAGES, content=stream.getvalue())
    assert answer.status_code == 422
    assert "pixels" in answer.json()["detail"]


def test_the_page_and_the_list_of_models(server):
    page = server.client.get("/")
    assert "Try a model" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"(src|href)=.https?:", page.text)
    names = [item["id"] for item in server.client.get("/v1/models").json()["data"]]
    assert names == ["images", "texts", "writer"]
    card = server.client.get("/v1/models/images").json()
    assert card["takes"] == "image"
    assert card["digest"].startswith("sha256:")


def test_health_and_figures(server):
    assert server.client.get("/healthz").json() == {"status": "ok"}
    assert server.client.get("/readyz").json() == {"status": "ok"}
    server.client.post(TEXTS, json={"input": "something secret"})
    figures = server.client.get("/metrics").text
    assert 'modelwright_requests_total{model="texts",route="/v1/models/{name}:predict"' in figures
    assert re.search(r'worker_resident_bytes\{model="texts",.*\} [1-9]', figures)
    assert "secret" not in figures
    assert not any("secret" in line for line in server.lines)
    assert server.events("request")


def test_a_model_of_numbers_takes_json(tmp_path):
    import torch

    from modelwright import modelfile
    from tests.modelfile.making import arrays_candidate
    from tests.serving.running import serving

    tensor = {"name": "x", "dtype": "float32", "shape": ["N", 2]}
    path = tmp_path / "numbers.mw"
    modelfile.write_model(path, arrays_candidate(torch.nn.Linear(2, 3), tensor))
    with serving(tmp_path, path, "--workers", "1") as running:
        answer = running.client.post(
            "/v2/models/numbers/infer",
            json={"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]},
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs"][0]["shape"] == [1, 3]
