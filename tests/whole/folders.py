"""Folders as transformers saves them: tiny networks with random weights, and their tokenizers."""

from __future__ import annotations

import json
from pathlib import Path

import torch

WORDS = (
    *("the", "soup", "was", "salad", "bread", "fish", "tea", "very", "good", "great", "fresh"),
    *("warm", "bad", "cold", "stale", "dull", "and", "so", "we", "liked", "hated", "it", "today"),
)
TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}
SIZES = {
    "albert": {**TINY, "embedding_size": 8},
    "bert": TINY,
    "camembert": {**TINY, "type_vocab_size": 1},
    "deberta-v2": {
        **TINY,
        "relative_attention": True,
        "position_buckets": 4,
        "pos_att_type": ["p2c", "c2p"],
        "max_relative_positions": -1,
    },
    "distilbert": {
        "dim": 16,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 24,
        "max_position_embeddings": 24,
    },
    "electra": {**TINY, "embedding_size": 8},
    "modernbert": {**TINY, "local_attention": 4},
    "mpnet": TINY,
    "roberta": {**TINY, "type_vocab_size": 1},
    "xlm-roberta": {**TINY, "type_vocab_size": 1},
}
"""Settings of a tiny network of each type that is known."""


def word_pieces():
    """Return a tokenizer of BERT's kind: `[CLS]` before a text and `[SEP]` after it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    letters = list("abcdefghijklmnopqrstuvwxyz")
    tokens = ["[UNK]", "[PAD]", "[SEP]", "[CLS]", *WORDS, *letters, *(f"##{a}" for a in letters)]
    numbers = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    found = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    found.normalizer = normalizers.BertNormalizer(lowercase=True)
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.decoder = decoders.WordPiece()
    found.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 3), ("[SEP]", 2)],
    )
    found.add_special_tokens(["[UNK]", "[PAD]", "[SEP]", "[CLS]"])
    # As files of published networks have it; it is left to the input's own `longest`.
    found.enable_truncation(16)
    return found


def encoder(folder: Path, model_type: str = "bert", *, masked: bool = False) -> Path:
    """Save an encoder, alone or with the head with which it was trained, and its tokenizer."""
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

    tokenizer = word_pieces()
    special = {"pad_token_id": 1, "bos_token_id": None, "eos_token_id": None}
    if model_type == "modernbert":
        special = {"pad_token_id": 1, "cls_token_id": 3, "sep_token_id": 2}
    config = AutoConfig.for_model(
        model_type, vocab_size=tokenizer.get_vocab_size(), **SIZES[model_type], **special
    )
    torch.manual_seed(1)
    kind = AutoModelForMaskedLM if masked else AutoModel
    network = kind.from_config(config)
    # Random weights of the usual size give states that are nearly the same for every text.
    with torch.no_grad():
        for item in network.parameters():
            if item.ndim > 1:
                item.mul_(3)
    network.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def edit(path: Path, **changes: object) -> None:
    """Change values of a JSON file; `None` takes a key out."""
    held = json.loads(path.read_text())
    held = {**held, **changes}
    path.write_text(json.dumps({key: value for key, value in held.items() if value is not None}))


def meals(path: Path, *, each: int = 100, numbers: bool = False) -> Path:
    """Write a table of made-up sentences, pleased or annoyed; or how much."""
    import random

    drawn = random.Random(0)
    good, bad = ("good", "great", "fresh", "warm"), ("bad", "cold", "stale", "dull")
    lines = ["text,score" if numbers else "text,label"]
    seen = set()
    while len(lines) <= 2 * each:
        label = len(lines) % 2
        words = [
            "the",
            drawn.choice(("soup", "salad", "bread", "fish", "tea")),
            "was",
            *drawn.choices(("very", "so", "and"), k=drawn.randrange(1, 4)),
            drawn.choice(good if label else bad),
            *drawn.choices(("today", "and", "we", "it"), k=drawn.randrange(0, 4)),
        ]
        text = " ".join(words)
        if text not in seen:
            seen.add(text)
            lines.append(f"{text},{label * 10.0 + 100 if numbers else ('bad', 'good')[label]}")
    path.write_text("\n".join(lines) + "\n")
    return path
