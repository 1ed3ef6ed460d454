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
    # As files of published networks have it; it is left to the input's own `max_length`.
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


WRITERS = {
    "bart": {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "bos_token_id": 0},
    "marian": {"pad_token_id": 39, "eos_token_id": 0, "decoder_start_token_id": 39},
    "mt5": {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
    "pegasus": {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
    "t5": {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
}
"""The special tokens of a tiny network of each type that writes; its tokens are 40."""
_T5 = {
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
}
_BART = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 30,
}
SEQ2SEQ_SIZES = {name: _T5 if name.endswith("t5") else _BART for name in WRITERS}


def whole_words(model_type: str):
    """Return a tokenizer of whole words with a network's own special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    own = WRITERS[model_type]
    unknown = 3 if model_type == "bart" else 38 if model_type == "marian" else 2
    named = {"<pad>": own["pad_token_id"], "</s>": own["eos_token_id"], "<unk>": unknown}
    if "bos_token_id" in own:
        named["<s>"] = own["bos_token_id"]
    free = [number for number in range(40) if number not in named.values()]
    numbers = named | dict(zip(WORDS, free, strict=False))
    found = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    begin = "<s> " if "<s>" in named else ""
    found.post_processor = processors.TemplateProcessing(
        single=f"{begin}$A </s>",
        pair=f"{begin}$A </s> $B </s>",
        special_tokens=[(name, number) for name, number in named.items() if name != "<pad>"],
    )
    found.add_special_tokens(list(named))
    return found


def writer(folder: Path, model_type: str = "t5", **changes: int) -> Path:
    """Save a network that writes a text from another, and its tokenizer."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    own = WRITERS[model_type]
    config = AutoConfig.for_model(
        model_type,
        vocab_size=40,
        forced_eos_token_id=own["eos_token_id"],
        **{**SEQ2SEQ_SIZES[model_type], **own, **changes},
    )
    torch.manual_seed(1)
    network = AutoModelForSeq2SeqLM.from_config(config)
    network.save_pretrained(folder)
    whole_words(model_type).save(str(folder / "tokenizer.json"))
    return folder


_LLAMA = {**TINY, "num_key_value_heads": 1, "max_position_embeddings": 32}
DECODERS = {
    "gemma": {**_LLAMA, "head_dim": 8},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "gpt_neox": {**TINY, "max_position_embeddings": 32},
    "llama": _LLAMA,
    "mistral": {**_LLAMA, "head_dim": 8, "sliding_window": 24},
    "opt": {
        "hidden_size": 16,
        "ffn_dim": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "word_embed_proj_dim": 16,
        "max_position_embeddings": 32,
    },
    "phi": {**TINY, "max_position_embeddings": 32},
    "qwen2": _LLAMA,
    "qwen3": {**_LLAMA, "head_dim": 8},
    "smollm3": {**_LLAMA, "num_hidden_layers": 4},
}
"""Settings of a tiny network of each type that writes a text on."""


def byte_pairs():
    """Return a tokenizer of GPT-2's kind, with one special token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    found.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    return found


def pieces():
    """Return a tokenizer of Llama 2's kind: `<unk>`, `<s>`, `</s>`, and bytes to fall back on."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors

    named = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    letters = sorted(set("".join(WORDS)))
    numbers = {token: number for number, token in enumerate([*named, *letters])}
    found = Tokenizer(models.BPE(numbers, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    found.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    found.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    found.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    found.add_special_tokens(["<unk>", "<s>", "</s>"])
    return found


def decoder(folder: Path, model_type: str = "gpt2", **changes: int) -> Path:
    """Save a network that writes a text on, and its tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if model_type == "llama":
        tokenizer, special = pieces(), {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
    else:
        tokenizer = byte_pairs()
        special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    # Published networks often have more numbers than their tokenizers.
    size = tokenizer.get_vocab_size() + 3
    settings = {**DECODERS[model_type], **special, **changes}
    config = AutoConfig.for_model(model_type, vocab_size=size, **settings)
    torch.manual_seed(1)
    network = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for item in network.parameters():
            if item.ndim > 1:
                item.mul_(3)
    network.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def menus(path: Path, *, each: int = 120) -> Path:
    """Write a table of texts and what is written from them: the dish, then how it was."""
    import random

    drawn = random.Random(0)
    lines = ["text,label"]
    for _ in range(each):
        dish, how = drawn.choice(WORDS[1:7:1]), drawn.choice(WORDS[8:16])
        fill = " ".join(drawn.choices(("very", "so"), k=drawn.randrange(0, 4)))
        lines.append(" ".join(f"the {dish} was {fill} {how}".split()) + f",{how} {dish}")
    path.write_text("\n".join(dict.fromkeys(lines)) + "\n")
    return path


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
