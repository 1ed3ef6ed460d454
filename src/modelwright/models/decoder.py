"""A causal language model: a decoder of the Llama kind.

RMSNorm before each part (Zhang and Sennrich 2019, eq. 4), rotary positions (Su et al. 2021, section
3.2.2), SwiGLU (Shazeer 2020, eq. 6), grouped-query attention (Ainslie et al. 2023, section 2.2), no
biases. `llama_state` and `llama_config` give it as transformers' `LlamaForCausalLM`: weights are
split and renamed there, never computed.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelwright.files import JsonObject
from modelwright.models.grouped import tied_logits
from modelwright.models.network import TextFrame
from modelwright.models.padding import masked_mean, text_length
from modelwright.recipe.networks import DecoderModel

EPSILON = 1e-5
"""What RMSNorm adds to the mean square, as Llama does."""
ROPE_BASE = 10000.0
"""The base of the rotary wavelengths (Su et al. 2021, section 3.3)."""
_DEVIATION = 0.02
"""Of fresh weights (Radford et al. 2019, as published in code)."""
_SHORT = 512
"""Up to this length, plain products train faster on a processor than torch's fused attention:
3 times as fast at 128 and 1.6 times at 512, in bf16."""


class Decoder(nn.Module):
    """Predicts each next token from those before it.

    H query heads of the even width E = D / H share G key and value heads; G = H is plain attention.
    Tied output weights are those of the embedding (Press and Wolf 2017). Nothing is laid out for
    the longest text that it is trained on.
    """

    def __init__(self, spec: DecoderModel, frame: TextFrame) -> None:
        super().__init__()
        width, self.heads = spec.width, spec.heads
        self.kv_heads = spec.heads if spec.kv_heads == "auto" else spec.kv_heads
        self.head_width = width // self.heads
        # 8/3 of the width costs what a plain layer of 4 widths does; processors like multiples of
        # 16.
        self.hidden = -(-8 * width // 48) * 16 if spec.hidden == "auto" else spec.hidden
        self.max_length = frame.max_length
        self.rope_base = ROPE_BASE
        self.embedding = nn.Embedding(frame.vocabulary, width)
        self.dropout = nn.Dropout(spec.dropout)
        self.layers = nn.ModuleList(
            Layer(
                width,
                heads=self.heads,
                kv_heads=self.kv_heads,
                hidden=self.hidden,
                dropout=spec.dropout,
            )
            for _ in range(spec.layers)
        )
        self.norm = RmsNorm(width)
        # A tied network has one matrix under one name, so that no copy of it can drift away.
        self.head = None if spec.tied else nn.Linear(width, frame.vocabulary, bias=False)
        self._initialise()

    @property
    def vocabulary(self) -> int:
        """V."""
        return self.embedding.num_embeddings

    @property
    def _layers(self) -> list[Layer]:
        return cast("list[Layer]", list(self.layers))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_DEVIATION)
        # What the layers add to the stream grows with their number; this keeps its size at the
        # start (Radford et al. 2019, section 2.3).
        for layer in self._layers:
            for last in (layer.attention.out, layer.ffn.down):
                nn.init.normal_(last.weight, std=_DEVIATION / math.sqrt(2 * len(self._layers)))

    def features(self, tokens: Tensor) -> Tensor:
        """Return the mean over a text's tokens of what the last layer gets, `[N, D]`."""
        return masked_mean(self.norm(self._states(tokens)), text_length(tokens))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits `[N, T, V]` of what follows each token of `[N, T]`.

        Padding belongs at the end: a token sees only those before it.
        """
        return self._logits(self._states(tokens))

    def _states(self, tokens: Tensor) -> Tensor:
        """Return the states `[N, T, D]` behind all layers, before the last norm."""
        turn = self._rotation(torch.arange(tokens.shape[1], device=tokens.device))
        x: Tensor = self.dropout(self.embedding(tokens))
        for layer in self._layers:
            x = layer(x, turn)
        return x

    def step(self, tokens: Tensor, padding: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Return what follows the last token, and the cache with these tokens added.

        Texts of different lengths are padded on the left. Rotary positions act by their
        differences alone, so a text that begins later is computed as the same text.

        Args:
            tokens: `[N, S]`, the next tokens of each text.
            padding: `[N]`, how many of a text's P + S tokens, counted from the left, are padding.
            cache: `[N, L, 2, G, P, E]`, keys and values of the P tokens before; P may be 0.

        Returns:
            The logits `[N, V]` and the cache `[N, L, 2, G, P + S, E]`.
        """
        past, count = cache.shape[4], tokens.shape[1]
        places = torch.arange(past + count, device=tokens.device)
        here = places[past:]
        turn = self._rotation(here)
        mask = causal_mask(places, here, padding)
        x = self.embedding(tokens)
        caches = []
        for number, layer in enumerate(self._layers):
            x, layer_cache = layer.step(x, turn, mask, cache[:, number])
            caches.append(layer_cache)
        return self._logits(x[:, -1]), torch.stack(caches, 1)

    def empty_cache(self, count: int) -> Tensor:
        """Return the cache `[N, L, 2, G, 0, E]` from which N texts begin."""
        shape = (count, len(self.layers), 2, self.kv_heads, 0, self.head_width)
        return self.norm.weight.new_zeros(shape)

    def _logits(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        if self.head is not None:
            logits: Tensor = self.head(x)
            return logits
        return tied_logits(self.embedding, x)

    def _rotation(self, places: Tensor) -> Rotation:
        """Return cosine and sine `[T, 1, E/2]` of each position and frequency (eq. 15).

        Computed anew in each call, for 0.1 % of its time, so that a model file needs no table.
        """
        half = self.head_width // 2
        exponents = torch.arange(half, device=places.device, dtype=torch.float32) / half
        angles = places.to(torch.float32)[:, None] * (1.0 / self.rope_base**exponents)
        return Rotation(angles.cos()[:, None], angles.sin()[:, None])


def causal_mask(places: Tensor, here: Tensor, padding: Tensor) -> Tensor:
    """Return which places `[P + S]` the tokens at `here` `[S]` see, `[N, 1, S, P + S]`.

    The first `padding` `[N]` places of a text are none of its own.
    """
    # Padding sees itself: a row that sees nothing would be 0/0, and spread from there.
    own = places == here[:, None]
    open_ = (places <= here[:, None]) & (places >= padding[:, None, None])
    return (open_ | own)[:, None]


class Rotation(NamedTuple):
    """Cosine and sine of the angles by which a position's vectors are turned, `[T, 1, E/2]`."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Turn the vectors `[N, T, H, E]`; entry i goes with entry i + E/2, as in Llama's code."""
        cos, sin = self.cos.to(x.dtype), self.sin.to(x.dtype)
        first, second = x.chunk(2, -1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


class RmsNorm(nn.Module):
    """Divides each vector by its root mean square, then scales its entries."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return `[…, D]`."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * self.weight


class SwiGlu(nn.Module):
    """`down(silu(gate(x)) · up(x))`; the weights of `gate` and `up` lie above one another."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[…, D]`."""
        gate, up = self.gate_up(x).chunk(2, -1)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


class CausalAttention(nn.Module):
    """Attention to what came before; the weights of queries, keys and values lie above another."""

    def __init__(self, width: int, *, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, width // heads
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * self.head_width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, turn: Rotation) -> Tensor:
        """Return `[N, T, D]`; each of the T tokens sees itself and those before it."""
        query, key, value = self._qkv(x, turn)
        out: Tensor = self.out(self._causal(query, key, value).flatten(2))
        return out

    def step(self, x: Tensor, turn: Rotation, mask: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Return `[N, S, D]` and the grown cache `[N, 2, G, P + S, E]`.

        Args:
            x: `[N, S, D]`.
            turn: the rotation of the S positions.
            mask: `[N, 1, S, P + S]`, true where a token sees another.
            cache: `[N, 2, G, P, E]`.
        """
        query, key, value = self._qkv(x, turn)
        new = torch.stack((key, value), 1).transpose(2, 3)
        cache = torch.cat((cache, new.to(cache.dtype)), 3)
        seen = F.scaled_dot_product_attention(
            query.transpose(1, 2).to(cache.dtype),
            cache[:, 0],
            cache[:, 1],
            attn_mask=mask,
            enable_gqa=self.heads != self.kv_heads,
        )
        return self.out(seen.transpose(1, 2).flatten(2)), cache

    def _qkv(self, x: Tensor, turn: Rotation) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries `[N, T, H, E]`, keys and values `[N, T, G, E]`, turned to their places."""
        joint = self.qkv(x).view(*x.shape[:2], -1, self.head_width)
        turned, value = torch.split(joint, [self.heads + self.kv_heads, self.kv_heads], 2)
        query, key = torch.split(turn(turned), [self.heads, self.kv_heads], 2)
        return query, key, value

    def _causal(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return `[N, T, H, E]`."""
        if self.training and query.device.type == "cpu" and query.shape[1] <= _SHORT:
            return plain_causal_attention(query, key, value)
        return F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            is_causal=True,
            enable_gqa=self.heads != self.kv_heads,
        ).transpose(1, 2)


def plain_causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return causal attention `[N, T, H, E]`, product by product.

    Heads that share a key head are laid one below another, so that nothing is repeated.

    Args:
        query: `[N, T, H, E]`.
        key: `[N, T, G, E]`.
        value: `[N, T, G, E]`.
    """
    count, time, heads, width = query.shape
    groups, sharing = key.shape[2], heads // key.shape[2]
    scaled = (query * width**-0.5).view(count, time, groups, sharing, width).permute(0, 2, 3, 1, 4)
    scores = scaled.reshape(count, groups, -1, width) @ key.permute(0, 2, 3, 1)
    later = torch.full((time, time), -math.inf, dtype=scores.dtype, device=scores.device).triu(1)
    shares = torch.softmax(scores.view(count, groups, sharing, time, time) + later, -1)
    weights: Tensor = shares.to(value.dtype)
    seen = weights.view(count, groups, -1, time) @ value.transpose(1, 2)
    by_place = seen.view(count, groups, sharing, time, width).permute(0, 3, 1, 2, 4)
    return by_place.reshape(count, time, heads, width)


class Layer(nn.Module):
    """Attention, then SwiGLU, each on a norm of the stream and added to it."""

    def __init__(
        self, width: int, *, heads: int, kv_heads: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.attention_norm = RmsNorm(width)
        self.attention = CausalAttention(width, heads=heads, kv_heads=kv_heads)
        self.ffn_norm = RmsNorm(width)
        self.ffn = SwiGlu(width, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, turn: Rotation) -> Tensor:
        """Return `[N, T, D]`."""
        x = x + self.dropout(self.attention(self.attention_norm(x), turn))
        out: Tensor = x + self.dropout(self.ffn(self.ffn_norm(x)))
        return out

    def step(self, x: Tensor, turn: Rotation, mask: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Return `[N, S, D]` and the grown cache; the arguments are those of the attention."""
        added, cache = self.attention.step(self.attention_norm(x), turn, mask, cache)
        x = x + added
        return x + self.ffn(self.ffn_norm(x)), cache


class DecoderStep(nn.Module):
    """A decoder's `step` as a network of its own, sharing its weights: what is exported."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor, padding: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits `[N, V]` and the cache; see `Decoder.step`."""
        return self.decoder.step(tokens, padding, cache)


_LLAMA = {
    "attention_norm.weight": ["input_layernorm"],
    "attention.qkv.weight": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "attention.out.weight": ["self_attn.o_proj"],
    "ffn_norm.weight": ["post_attention_layernorm"],
    "ffn.gate_up.weight": ["mlp.gate_proj", "mlp.up_proj"],
    "ffn.down.weight": ["mlp.down_proj"],
}
"""What transformers calls the weights of a layer, from the top of each matrix down."""


def llama_state(decoder: Decoder) -> dict[str, Tensor]:
    """Return the weights by the names of transformers' `LlamaForCausalLM`; nothing is copied."""
    state = {"model.embed_tokens.weight": decoder.embedding.weight.detach()}
    rows = [heads * decoder.head_width for heads in (decoder.heads, *[decoder.kv_heads] * 2)]
    for name, weight in decoder.layers.state_dict().items():
        number, _, part = name.partition(".")
        names = _LLAMA[part]
        sizes = rows if len(names) == 3 else [len(weight) // len(names)] * len(names)
        for new, piece in zip(names, torch.split(weight, sizes), strict=True):
            state[f"model.layers.{number}.{new}.weight"] = piece
    state["model.norm.weight"] = decoder.norm.weight.detach()
    if decoder.head is not None:
        state["lm_head.weight"] = decoder.head.weight.detach()
    return state


def llama_config(decoder: Decoder) -> JsonObject:
    """Return what stands in `config.json` beside those weights; ids as in our tokenizers."""
    vocabulary, width = decoder.embedding.weight.shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": decoder.hidden,
        "num_hidden_layers": len(decoder.layers),
        "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.kv_heads,
        "head_dim": decoder.head_width,
        "hidden_act": "silu",
        "max_position_embeddings": decoder.max_length,
        "rms_norm_eps": EPSILON,
        "rope_theta": decoder.rope_base,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": decoder.head is None,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "torch_dtype": "float32",
    }
