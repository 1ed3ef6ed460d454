"""Texts that are written, as OpenAI's clients ask for them."""

from __future__ import annotations

import json

import pytest

import modelwright as mw
from modelwright.tasks.sampling import SamplingConfig

PROMPT = "the fox"
ASKED = {"model": "writer", "prompt": PROMPT, "max_tokens": 6, "seed": 3, "temperature": 0.8}


def _expected(models, prompt=PROMPT):
    model = mw.load(models / "writer" / "model.mw", threads=1)
    config = SamplingConfig(max_new_tokens=6, temperature=0.8, seed=3)
    return "".join(piece.text for piece in model.generate(prompt, config))


def test_a_completion(server, models):
    told = server.client.post("/v1/completions", json=ASKED).json()
    assert told["object"] == "text_completion"
    (choice,) = told["choices"]
    assert choice["text"] == _expected(models)
    assert choice["finish_reason"] in ("length", "stop")
    assert told["usage"]["completion_tokens"] <= 6


def test_a_message_without_text_is_refused(server):
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    asked = {"model": "writer", "messages": [message]}
    assert server.client.post("/v1/chat/completions", json=asked).status_code == 400


def test_several_prompts(server):
    told = server.client.post("/v1/completions", json={**ASKED, "prompt": [PROMPT, "a"]}).json()
    assert [choice["index"] for choice in told["choices"]] == [0, 1]


def test_a_stream_has_the_same_text(server, models):
    with server.client.stream("POST", "/v1/completions", json={**ASKED, "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert "".join(event["choices"][0]["text"] for event in events) == _expected(models)
    assert events[-1]["choices"][0]["finish_reason"]


def test_a_stream_ends_with_what_was_used_where_it_is_asked_for(server):
    whole = server.client.post("/v1/completions", json=ASKED).json()["usage"]
    asked = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}
    lines = server.client.post("/v1/completions", json=asked).text.split("\n\n")
    last = json.loads(lines[-3].removeprefix("data: "))
    assert lines[-2] == "data: [DONE]"
    assert (last["choices"], last["usage"]) == ([], whole)


def test_a_conversation(server, models):
    asked = {key: value for key, value in ASKED.items() if key != "prompt"}
    asked["messages"] = [
        {"role": "system", "content": "the"},
        {"role": "user", "content": [{"type": "text", "text": "fox"}]},
    ]
    told = server.client.post("/v1/chat/completions", json=asked).json()
    assert told["object"] == "chat.completion"
    message = told["choices"][0]["message"]
    assert message == {"role": "assistant", "content": _expected(models, "the\nfox")}


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"prompt": 5}, 400, "prompt"),
        ({"prompt": []}, 400, "prompt"),
        ({"prompt": ["x"] * 9}, 400, "8"),
        ({"prompt": "\ud800"}, 400, "prompt"),
        ({"model": "texts"}, 400, "doesn't write"),
        ({"model": "nobody"}, 404, "nobody"),
        ({"model": None}, 400, "model"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": 1.5}, 400, "max_tokens"),
        ({"temperature": 3}, 400, "temperature"),
        ({"temperature": "hot"}, 400, "temperature"),
        ({"n": 2}, 400, "`n`"),
        ({"stop": ["a"] * 5}, 400, "stop"),
        ({"stop": [""]}, 400, "stop"),
        ({"logit_bias": {}}, 400, "logit_bias"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
        ({"stream": True, "stream_options": {"other": 1}}, 400, "stream_options"),
    ],
)
def test_what_is_not_offered_is_refused(server, changes, status, words):
    answer = server.client.post("/v1/completions", content=json.dumps({**ASKED, **changes}))
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_a_client_that_leaves_ends_the_writing(server):
    asked = {**ASKED, "stream": True, "max_tokens": 5000}
    with server.client.stream("POST", "/v1/completions", json=asked) as answer:
        next(answer.iter_lines())
    told = server.client.post("/v1/completions", json={**ASKED, "max_tokens": 1})
    assert told.status_code == 200
