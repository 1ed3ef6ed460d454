"""Networks from elsewhere that write: texts from others, or a text on from where it stands.

Their methods are those of the networks in `seq2seq` and `decoder`. Tokens are numbered as
everywhere here, and turned into the network's own numbers at its ends. The state between two steps
is the keys and values of what was written, as the library's cache holds them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from modelwright.errors import ModelFileError, require
from modelwright.models.decoder import causal_mask
from modelwright.models.padding import mask, masked_mean, text_length
from modelwright.transforms.hf_tokenizer import TokenIdMap

_NEVER = 10.0
"""How far the logit of what can't be written lies below the least of the others."""


class PretrainedGenerator(nn.Module):
    """What both kinds share: how tokens are numbered at the ends of the library's network.

    Args:
        network: the library's network, with a head over its vocabulary.
        numbering: how its tokens are numbered here.
    """

    theirs: Tensor
    second: Tensor
    begins_with_bos = False

    def __init__(self, network: nn.Module, token_ids: TokenIdMap) -> None:
        super().__init__()
        self.network = network
        self.vocabulary = token_ids.count
        self.token_ids = token_ids
        self.register_buffer("theirs", torch.from_numpy(token_ids.theirs()), persistent=False)
        # What is another token's second number here never follows.
        second = torch.zeros(token_ids.count, dtype=torch.bool)
        second[list(token_ids.second())] = True
        self.register_buffer("second", second, persistent=False)
        # The library calls it `past_key_values` up to some version.
        taken = inspect.signature(network.forward).parameters
        self._cache_name = "cache" if "cache" in taken else "past_key_values"

    def own_state(self) -> dict[str, Tensor]:
        """Return the weights by the library's names, those by two names once."""
        found: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, item in self.network.state_dict().items():
            if item.data_ptr() not in seen:
                found[name] = item
            seen.add(item.data_ptr())
        return found

    def own_config(self) -> dict[str, Any]:
        """Return what stands in `config.json` beside those weights."""
        held: Any = self.network.config
        begin = "bos_token_id" if self.begins_with_bos else "decoder_start_token_id"
        return {
            **held.to_dict(),
            "architectures": [type(self.network).__name__],
            "pad_token_id": self.token_ids.padding,
            begin: self.token_ids.begin,
            "eos_token_id": self.token_ids.end,
        }

    def _ours(self, logits: Tensor) -> Tensor:
        """Return logits `[…, V]` by our numbers, of the network's by its own."""
        found = logits.index_select(-1, self.theirs)
        never = found.amin(-1, keepdim=True).detach() - _NEVER
        return torch.where(self.second, never, found)


class PretrainedDecoder(PretrainedGenerator):
    """A network from elsewhere that predicts each next token from those before it."""

    begins_with_bos = True

    def features(self, tokens: Tensor) -> Tensor:
        """Return the mean over a text's tokens of what the last layer gets, `[N, D]`."""
        inner = cast("nn.Module", self.network.base_model)
        states: Tensor = inner(**self._inputs(tokens))[0]
        return masked_mean(states, text_length(tokens))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits `[N, T, V]` of what follows each token of `[N, T]`.

        Padding belongs at the end: a token sees only those before it.
        """
        return self._ours(self.network(**self._inputs(tokens)).logits)

    def _inputs(self, tokens: Tensor) -> dict[str, Any]:
        """Return what the library's network is given for tokens `[N, T]`."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return {
            "input_ids": self.theirs[tokens],
            # Without a mask the library may take a faster way, which can't be exported.
            "attention_mask": None if self.training else (places <= places[:, None])[None, None],
            "position_ids": places[None].expand(tokens.shape),
            "use_cache": False,
        }

    def step(self, tokens: Tensor, padding: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Return what follows the last token, and the cache with these tokens added.

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
        held = _opened(cache)
        found: Tensor = self.network(
            input_ids=self.theirs[tokens],
            attention_mask=causal_mask(places, here, padding),
            position_ids=(here - padding[:, None]).clamp(min=0),
            use_cache=True,
            **{self._cache_name: held},
        ).logits
        return self._ours(found[:, -1]), _packed(held.layers)

    def empty_cache(self, count: int) -> Tensor:
        """Return the cache `[N, L, 2, G, 0, E]` from which N texts begin."""
        # How wide a head is, each kind of network says otherwise; its cache shows it.
        one = self.theirs.new_zeros((1, 1))
        held = _library().DynamicCache()
        with torch.no_grad():
            self.network(input_ids=one, use_cache=True, **{self._cache_name: held})
        packed = _packed(held.layers)
        return packed.new_zeros((count, *packed.shape[1:4], 0, packed.shape[5]))


class PretrainedSeq2Seq(PretrainedGenerator):
    """An encoder and a decoder from elsewhere.

    Args:
        network: the library's network, with a head over its vocabulary.
        numbering: how its tokens are numbered here.

    Raises:
        ModelFileError: the numbering has no padding, which such a network has.
    """

    def __init__(self, network: nn.Module, token_ids: TokenIdMap) -> None:
        super().__init__(network, token_ids)
        if token_ids.padding is None:
            raise ModelFileError("the numbering of tokens has no padding")
        self.padding = token_ids.padding

    def features(self, source: Tensor, source_length: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the target's tokens of the decoder's last states, `[N, D]`."""
        decoder: nn.Module = self.network.get_decoder()  # type: ignore[operator]
        states: Tensor = decoder(
            encoder_hidden_states=self._read(source, source_length),
            encoder_attention_mask=mask(source_length, source.shape[1]).long(),
            input_ids=self.theirs[target],
            use_cache=False,
        )[0]
        return masked_mean(states, text_length(target))

    def forward(self, source: Tensor, source_length: Tensor, target: Tensor) -> Tensor:
        """Return the logits `[N, S, V]` of what follows each token of the target.

        Args:
            source: `[N, T]`.
            source_length: `[N]`, at least 1.
            target: `[N, S]`; it begins with the id that begins a text.
        """
        found: Tensor = self.network(
            encoder_outputs=(self._read(source, source_length),),
            attention_mask=mask(source_length, source.shape[1]).long(),
            decoder_input_ids=self.theirs[target],
            use_cache=False,
        ).logits
        return self._ours(found)

    def encode(self, source: Tensor, source_length: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `step` needs of sources `[N, T]` with lengths `[N]`.

        Returns:
            The memory `[N, L, 2, H, T, E]`, each layer's keys and values of the source, and the
            state `[N, L, 2, H, 0, E]`: nothing written.
        """
        library = _library()
        held = library.EncoderDecoderCache(library.DynamicCache(), library.DynamicCache())
        # What a layer keeps of the source, it shows in the first step, whatever that reads.
        self.network(
            encoder_outputs=(self._read(source, source_length),),
            attention_mask=mask(source_length, source.shape[1]).long(),
            decoder_input_ids=self.theirs[source[:, :1]],
            use_cache=True,
            **{self._cache_name: held},
        )
        written = _packed(held.self_attention_cache.layers)
        return _packed(held.cross_attention_cache.layers), written[..., :0, :]

    def step(
        self, tokens: Tensor, source_length: Tensor, memory: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what follows, and the state with these tokens added.

        Args:
            tokens: `[N, 1]`.
            source_length: `[N]`.
            memory: `[N, L, 2, H, T, E]`.
            state: `[N, L, 2, H, P, E]`, keys and values of the tokens before.

        Returns:
            The logits `[N, V]` and the state `[N, L, 2, H, P + 1, E]`.
        """
        written = _opened(state)
        held = _library().EncoderDecoderCache(written, _opened(memory))
        held.is_updated = dict.fromkeys(range(memory.shape[1]), True)
        # The source's states are asked for, and not looked at: the memory has what came of them.
        width = self.network.config.d_model  # type: ignore[union-attr]
        unread = memory.new_zeros((tokens.shape[0], memory.shape[4], cast("int", width)))
        found: Tensor = self.network(
            encoder_outputs=(unread,),
            attention_mask=mask(source_length, memory.shape[4]).long(),
            decoder_input_ids=self.theirs[tokens],
            use_cache=True,
            **{self._cache_name: held},
        ).logits
        return self._ours(found[:, -1]), _packed(written.layers)

    def _read(self, source: Tensor, source_length: Tensor) -> Tensor:
        """Return the encoder's states `[N, T, D]`."""
        is_real = mask(source_length, source.shape[1])
        ids = self.theirs[source].masked_fill(~is_real, self.padding)
        encoder = self.network.get_encoder()  # type: ignore[operator]
        states: Tensor = encoder(input_ids=ids, attention_mask=is_real.long())[0]
        return states


def _opened(packed: Tensor) -> Any:
    """Return the library's cache of keys and values `[N, L, 2, H, P, E]`."""
    layers = []
    for number in range(packed.shape[1]):
        layer = _layer_kind()()
        layer.keys, layer.values = packed[:, number, 0], packed[:, number, 1]
        layer.dtype, layer.device, layer.is_initialized = packed.dtype, packed.device, True
        layers.append(layer)
    return _library().Cache(layers=layers)


@functools.cache
def _layer_kind() -> type[Any]:
    """Return a layer of the library's cache that asks for no values, so that it can be exported.

    The library's own asks whether it is empty, which a graph of any length can't tell.
    """

    def length(layer: Any) -> Any:
        return layer.keys.shape[-2]

    return type("Layer", (_library().DynamicLayer,), {"get_seq_length": length})


def _packed(layers: Sequence[Any]) -> Tensor:
    """Return keys and values of all layers, `[N, L, 2, H, P, E]`."""
    return torch.stack([torch.stack((layer.keys, layer.values), 1) for layer in layers], 1)


def _library() -> Any:
    return require(
        "transformers.cache_utils", extra="finetune", purpose="a network of transformers"
    )
