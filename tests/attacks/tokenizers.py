"""Tokenizers drawn at random: of known parts with extreme settings, and changed beyond that."""

from __future__ import annotations

import base64
import functools
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from modelwright.transforms.hf_tokenizer import EXPRESSIONS
from tests.attacks.mutations import mutated_bytes, mutated_json
from tests.transforms.test_hf_tokenizer import byte_level, charsmap, pieces
from tests.whole.folders import word_pieces

Json = dict[str, Any]
_FLAG = (False, True)
_WORDS = ("", " ", "a", "##", "\u2581", "</w>", "[UNK]", "<unk>", "\x00", "é", "x" * 64)
_PATTERNS = (
    *({"Regex": item} for item in sorted(EXPRESSIONS)),
    *({"String": item} for item in ("a", " ", "the", "\u2581", "é", "''")),
)
_BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
_ENDS = {"sep": (["</s>", 2], ["x", 0], ["", 5]), "cls": (["<s>", 0], ["x", 3], ["y", 999])}
_BYTE_LEVEL = dict.fromkeys(("add_prefix_space", "trim_offsets", "use_regex"), _FLAG)
_METASPACE = {
    "replacement": ("\u2581", " ", "a", "狗"),
    "prepend_scheme": ("always", "never", "first"),
    "split": _FLAG,
}
_REPLACE = {"pattern": _PATTERNS, "content": _WORDS}
_PIECES: tuple[Json, ...] = ({"Sequence": {"id": "A", "type_id": 0}},)
_SPECIAL: tuple[Json, ...] = tuple(
    {"SpecialToken": {"id": name, "type_id": 0}} for name in ("[CLS]", "[SEP]")
)
_TEMPLATES = tuple(
    [*before, *_PIECES, *after]
    for before in ((), _SPECIAL[:1], _SPECIAL, _SPECIAL * 20)
    for after in ((), _SPECIAL[1:])
)
_NAMED = {
    name: {"id": name, "ids": [number], "tokens": [name]}
    for number, name in enumerate(("[CLS]", "[SEP]"))
}
_PARTS: dict[str, dict[str, Mapping[str, Sequence[Any]]]] = {
    "normalizer": {
        **{key: {} for key in ("ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt")},
        "StripAccents": {},
        "BertNormalizer": {
            **dict.fromkeys(("clean_text", "handle_chinese_chars", "lowercase"), _FLAG),
            "strip_accents": (None, *_FLAG),
        },
        "Prepend": {"prepend": _WORDS},
        "Replace": _REPLACE,
        "Strip": dict.fromkeys(("strip_left", "strip_right"), _FLAG),
    },
    "pre_tokenizer": {
        **{key: {} for key in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")},
        "ByteLevel": _BYTE_LEVEL,
        "Digits": {"individual_digits": _FLAG},
        "Metaspace": _METASPACE,
        "Punctuation": {"behavior": _BEHAVIORS},
        "Split": {"pattern": _PATTERNS, "behavior": _BEHAVIORS, "invert": _FLAG},
    },
    "post_processor": {
        "BertProcessing": _ENDS,
        "ByteLevel": _BYTE_LEVEL,
        "RobertaProcessing": _ENDS | dict.fromkeys(("trim_offsets", "add_prefix_space"), _FLAG),
        "TemplateProcessing": {
            "single": _TEMPLATES,
            "pair": ([{"Sequence": {"id": name, "type_id": 0}} for name in "AB"],),
            "special_tokens": (_NAMED,),
        },
    },
    "decoder": {
        **{key: {} for key in ("ByteFallback", "Fuse")},
        "BPEDecoder": {"suffix": _WORDS},
        "ByteLevel": _BYTE_LEVEL,
        "Metaspace": _METASPACE,
        "Replace": _REPLACE,
        "Strip": {"content": ("a", " ", "\u2581"), "start": (0, 1, 2**40), "stop": (0, 0, 0, 1)},
        "WordPiece": {"prefix": _WORDS, "cleanup": _FLAG},
    },
}
_INNER = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "post_processor": "processors",
    "decoder": "decoders",
}
"""What a part's sequence is called."""
_MODEL = {
    "BPE": {
        **dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), _FLAG),
        "unk_token": (None, *_WORDS),
        "continuing_subword_prefix": (None, None, "", "##"),
        "end_of_word_suffix": (None, *_WORDS),
    },
    "WordPiece": {
        "unk_token": ("[UNK]", "missing"),
        "continuing_subword_prefix": _WORDS,
        "max_input_chars_per_word": (0, 1, 100, 256, 257),
    },
    "Unigram": {"unk_id": (None, 0, 2, 10**6), "byte_fallback": _FLAG},
    "WordLevel": {"unk_token": ("[UNK]", "missing")},
}
_SCORES = (0.0, -1e308, 1e308, 5e-324, -4.0, -1.0)
TEXTS = (
    *("the cat sat on the mat", "", " ", "\t \n", "é 狗 \u0301a ﬁ İ ẞ", "[CLS] <s> </s> [UNK]"),
    *("1,000.50 don't", "x" * 300, "\x00\ufffd\u200b\u202e", "\U0001f469\u200d\U0001f52c" * 9),
)
_LENGTH = 100_000


def long_text(draw: random.Random) -> str:
    """Return a text of 100,000 characters: of one word, of few, or of many."""
    unit = draw.choice((*TEXTS[4:], "a", " ", "a ", "\u0301", "ab", "\n", "狗", "Ab1. "))
    return (unit * (_LENGTH // len(unit) + 1))[:_LENGTH]


@functools.cache
def _known() -> tuple[str, ...]:
    """Return tokenizers as networks are published with them: WordPiece, BPE, Unigram, words."""
    found = [make().to_str() for make in (word_pieces, byte_level, pieces)]
    words = json.loads(found[0])
    words["model"] = {
        "type": "WordLevel",
        "vocab": words["model"]["vocab"],
        "unk_token": "[UNK]",
    }
    return (*found, json.dumps(words))


def drawn_tokenizer(draw: random.Random) -> bytes:
    """Return a `tokenizer.json` of another program, most of them valid."""
    document = json.loads(draw.choice(_known()))
    for name in _PARTS:
        if draw.random() < 0.5:
            document[name] = _part(name, draw, depth=2)
    model = document["model"]
    for key, values in _MODEL[model["type"]].items():
        if draw.random() < 0.2:
            model[key] = draw.choice(values)
    if draw.random() < 0.2:
        _change_vocabulary(model, draw)
    if draw.random() < 0.2:
        document["added_tokens"] = mutated_json(document["added_tokens"], draw)
    if draw.random() < 0.15:
        document = mutated_json(document, draw)
    return json.dumps(document).encode()


def _part(name: str, draw: random.Random, *, depth: int) -> Json | None:
    kinds = _PARTS[name]
    kind = draw.choice((None, "Sequence", "Sequence", *kinds))
    if kind is None:
        return None
    if kind == "Sequence":
        count = draw.choice((0, 1, 2, 4, 9)) if depth else 0
        inner = [_part(name, draw, depth=depth - 1) for _ in range(count)]
        return {"type": kind, _INNER[name]: [item for item in inner if item is not None]}
    if kind == "NFKC" and draw.random() < 0.5:
        table = charsmap(offset=draw.choice((3, 3, 0, 255)), start=draw.choice((0, 0, 1)))
        if draw.random() < 0.5:
            table = mutated_bytes(table, draw, most=1)
        text = base64.b64encode(table).decode()
        return {"type": "Precompiled", "precompiled_charsmap": text}
    return {"type": kind} | {key: draw.choice(values) for key, values in kinds[kind].items()}


def _change_vocabulary(model: Json, draw: random.Random) -> None:
    """Change an id, a score or a merge."""
    vocab = model["vocab"]
    if draw.random() < 0.3 and model.get("merges"):
        pair = draw.choice(model["merges"])
        pair[draw.randrange(2)] = draw.choice(list(vocab))
    elif isinstance(vocab, list):
        draw.choice(vocab)[1] = draw.choice(_SCORES)
        vocab += [[text, draw.choice(_SCORES)] for text in draw.choices(_WORDS, k=2)]
    else:
        vocab[draw.choice((*vocab, *_WORDS))] = draw.choice((0, 1, len(vocab), 2**16, 2**32 - 1))
