"""Pretrained networks that generate text: from a source text, or continuing a prompt.

Their methods are those of the networks in `seq2seq` and `decoder`. They take and return our token
ids, which are mapped to the network's own at its ends. The state between two steps is the keys and
values of the tokens before, as the library's cache has them.
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
"""How far the logit of a token that can't occur lies below the least of the others."""


class PretrainedGenerator(nn.Module):
    """What both kinds share: the map of token ids at the ends of the library's network.

    Args:
        network: the library's network, with a head over its vocabulary.
        token_ids: the map of its token ids to ours.
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
        # An id of ours that duplicates another is never predicted.
        second = torch.zeros(token_ids.count, dtype=torch.bool)
        second[list(token_ids.second())] = True
        self.register_buffer("second", second, persistent=False)
        # The library calls it `past_key_values` up to some version.
        parameters = inspect.signature(network.forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"

    def own_state(self) -> dict[str, Tensor]:
        """Return the weights by the library's names, those by two names once."""
        names: dict[int, str] = {}
        state = self.network.state_dict()
        for name, item in state.items():
            names.setdefault(item.data_ptr(), name)
        return {name: state[name] for name in names.values()}

    def own_config(self) -> dict[str, Any]:
        """Return what stands in `config.json` beside those weights."""
        config: Any = self.network.config
        begin = "bos_token_id" if self.begins_with_bos else "decoder_start_token_id"
        return {
            **config.to_dict(),
            "architectures": [type(self.network).__name__],
            "pad_token_id": self.token_ids.padding,
            begin: self.token_ids.begin,
            "eos_token_id": self.token_ids.end,
        }

    def _ours(self, logits: Tensor) -> Tensor:
        """Return logits `[…, V]` by our token ids, of the network's by its own."""
        ours = logits.index_select(-1, self.theirs)
        never = ours.amin(-1, keepdim=True).detach() - _NEVER
        return torch.where(self.second, never, ours)


class PretrainedDecoder(PretrainedGenerator):
    """A pretrained network that predicts each next token from those before it."""

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
        """Return the arguments of the library's network for tokens `[N, T]`."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return {
            "input_ids": self.theirs[tokens],
            # Without a mask the library may take a faster way, which can't be exported.
            "attention_mask": None if self.training else (places <= places[:, None])[None, None],
            "position_ids": places[None].expand(tokens.shape),
            "use_cache": False,
        }

    def step(self, tokens: Tensor, padding: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits `[N, V]` and the grown cache; see `decoder.Decoder.step`."""
        past, count = cache.shape[4], tokens.shape[1]
        places = torch.arange(past + count, device=tokens.device)
        here = places[past:]
        opened = _opened(cache)
        logits: Tensor = self.network(
            input_ids=self.theirs[tokens],
            attention_mask=causal_mask(places, here, padding),
            position_ids=(here - padding[:, None]).clamp(min=0),
            use_cache=True,
            **{self._cache_name: opened},
        ).logits
        return self._ours(logits[:, -1]), _packed(opened.layers)

    def empty_cache(self, count: int) -> Tensor:
        """Return the cache `[N, L, 2, G, 0, E]` from which N texts begin."""
        # The setting for a head's width differs from network to network; the cache shows it.
        one = self.theirs.new_zeros((1, 1))
        cache = _library().DynamicCache()
        with torch.no_grad():
            self.network(input_ids=one, use_cache=True, **{self._cache_name: cache})
        packed = _packed(cache.layers)
        return packed.new_zeros((count, *packed.shape[1:4], 0, packed.shape[5]))


class PretrainedSeq2Seq(PretrainedGenerator):
    """A pretrained encoder and decoder.

    Raises:
        ModelFileError: the map of token ids has no padding, which such a network needs.
    """

    def __init__(self, network: nn.Module, token_ids: TokenIdMap) -> None:
        super().__init__(network, token_ids)
        if token_ids.padding is None:
            raise ModelFileError("the map of token ids has no padding")
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
        """Return the logits `[N, S, V]`; see `seq2seq.OwnSeq2Seq.forward`."""
        logits: Tensor = self.network(
            encoder_outputs=(self._read(source, source_length),),
            attention_mask=mask(source_length, source.shape[1]).long(),
            decoder_input_ids=self.theirs[target],
            use_cache=False,
        ).logits
        return self._ours(logits)

    def encode(self, source: Tensor, source_length: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `step` needs of sources `[N, T]` with lengths `[N]`.

        Returns:
            The memory `[N, L, 2, H, T, E]`, each layer's keys and values of the source, and the
            empty state `[N, L, 2, H, 0, E]`.
        """
        library = _library()
        cache = library.EncoderDecoderCache(library.DynamicCache(), library.DynamicCache())
        # What a layer keeps of the source, it shows in the first step, whatever that reads.
        self.network(
            encoder_outputs=(self._read(source, source_length),),
            attention_mask=mask(source_length, source.shape[1]).long(),
            decoder_input_ids=self.theirs[source[:, :1]],
            use_cache=True,
            **{self._cache_name: cache},
        )
        own = _packed(cache.self_attention_cache.layers)
        return _packed(cache.cross_attention_cache.layers), own[..., :0, :]

    def step(
        self, tokens: Tensor, source_length: Tensor, memory: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the logits `[N, V]` and the grown state; see `seq2seq.TransformerSeq2Seq.step`."""
        own = _opened(state)
        cache = _library().EncoderDecoderCache(own, _opened(memory))
        cache.is_updated = dict.fromkeys(range(memory.shape[1]), True)
        # The encoder's states are required and not used: the memory has their keys and values.
        width = self.network.config.d_model  # type: ignore[union-attr]
        unread = memory.new_zeros((tokens.shape[0], memory.shape[4], cast("int", width)))
        logits: Tensor = self.network(
            encoder_outputs=(unread,),
            attention_mask=mask(source_length, memory.shape[4]).long(),
            decoder_input_ids=self.theirs[tokens],
            use_cache=True,
            **{self._cache_name: cache},
        ).logits
        return self._ours(logits[:, -1]), _packed(own.layers)

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
    """Return a layer of the library's cache that can be exported.

    The library's own branches on whether it is empty, which a graph of any length can't.
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
