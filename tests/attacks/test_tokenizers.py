"""Model files with tokenizers of other programs on which the library `tokenizers` ends the process,
takes all memory or prints a panic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelwright.files import canonical_json, digest
from tests.attacks.models import changed
from tests.attacks.running import Outcome, run_command

pytest.importorskip("tokenizers")

from tokenizers import Tokenizer, models

resource = pytest.importorskip("resource")

TOKENS = ["<unk>", "a", "ab", "日本", "日"]
WORDS = {"type": "WordLevel", "vocab": {token: at for at, token in enumerate(TOKENS)}}


def pairs(*merges: list[str], prefix: str) -> dict[str, Any]:
    """Return a tokenizer of byte pairs."""
    model = json.loads(Tokenizer(models.BPE(WORDS["vocab"], [])).to_str())["model"]
    return {"model": {**model, "merges": merges, "continuing_subword_prefix": prefix}}


def erased() -> dict[str, Any]:
    """Return a tokenizer with an added token of which its normalizer leaves nothing."""
    settings = ("single_word", "lstrip", "rstrip", "special")
    token = {"id": 5, "content": " ", "normalized": True, **dict.fromkeys(settings, False)}
    return {
        "model": {**WORDS, "unk_token": "<unk>"},
        "added_tokens": [token],
        "normalizer": {"type": "Strip", "strip_left": True, "strip_right": True},
    }


HOSTILE = {
    "a merge that is cut within a letter": pairs(["a", "日本"], prefix="##"),
    "a merge shorter than its prefix": pairs(["a", "ab"], prefix="#" * 20),
    "a merge longer than any token": pairs(["日本", "日本"], prefix=""),
    "a token that is never over": erased(),
    "a table without units": {
        "model": {**WORDS, "unk_token": "<unk>"},
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="},
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tokenizer_is_refused(name: str, tmp_path: Path) -> None:
    empty = json.loads(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str())
    data = canonical_json({**empty, **HOSTILE[name]})
    parts = changed("texts")
    parts.assets = {"tokenizer.json": data}
    size = len(TOKENS) + (name == "a token that is never over")
    parts.input |= {"tokenizer": digest(data), "vocabulary": size, "token_ids": None}
    parts.write(tmp_path / "m.mw")
    ended = run_command(
        ["predict", "m.mw", "a b"],
        folder=tmp_path,
        before=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)),
        environment={"RUST_BACKTRACE": "1"},
    )
    assert ended.outcome == Outcome.REFUSED, ended
    assert "this tokenizer can't be used" in ended.err, ended
    assert "thread" not in ended.err
