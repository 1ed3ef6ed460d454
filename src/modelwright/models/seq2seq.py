"""Networks that generate a text from another: an encoder for the source, and a decoder.

Both kinds have the same three methods. `forward` predicts a target that is known, for training.
`encode` computes a memory from the source once, and `step` takes a token and a state, and returns
the logits of the next token and the new state. The first axis of memory and state is the text's. So
`Encode` and `Step` run as graphs, and beams are chosen by their rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modelwright.arrays import Array, Ints
from modelwright.models.grouped import tied_logits
from modelwright.models.network import TextFrame
from modelwright.models.padding import masked_mean, padding_bias, text_length
from modelwright.models.pretrained_generators import PretrainedSeq2Seq
from modelwright.models.rnn import CELLS
from modelwright.models.transformer import TransformerEncoder, feed_forward, sines
from modelwright.recipe.networks import Seq2SeqModel


class Embedding(nn.Embedding):
    """The vectors of tokens, for both texts; they are the output weights too.

    Press and Wolf 2017; Vaswani et al. 2017, section 3.4, whose factor √D is in the vectors.

    Args:
        vocabulary: V.
        width: D.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__(vocabulary, width)
        self.scale = math.sqrt(width)
        # With the factor, entries of deviation 1; without it, logits of deviation 1.
        nn.init.normal_(self.weight, std=1 / self.scale)

    def forward(self, input: Tensor) -> Tensor:
        """Return the vectors `[…, D]` of tokens `[…]`."""
        return super().forward(input) * self.scale


class OwnSeq2Seq(nn.Module):
    """An encoder and a decoder with one embedding for both texts and for the output weights."""

    embedding: Embedding

    def features(self, source: Tensor, source_length: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the target's tokens of what the last layer gets, `[N, D]`."""
        return masked_mean(self.states(source, source_length, target), text_length(target))

    def forward(self, source: Tensor, source_length: Tensor, target: Tensor) -> Tensor:
        """Return the logits `[N, S, V]` of what follows each token of the target.

        Args:
            source: `[N, T]`.
            source_length: `[N]`, at least 1.
            target: `[N, S]`; it begins with the id that begins a text.
        """
        return tied_logits(self.embedding, self.states(source, source_length, target))

    def states(self, source: Tensor, source_length: Tensor, target: Tensor) -> Tensor:
        """Return what the last layer gets at each token of the target, `[N, S, D]`."""
        raise NotImplementedError


# -- self-attention ----------------------------------------------------------------------------


class TransformerSeq2Seq(OwnSeq2Seq):
    """The transformer (Vaswani et al. 2017), normalised before each part (Xiong et al. 2020).

    Positions are sinusoidal, so a text may be longer than any in training. Each of the H heads has
    the width E = D / H.
    """

    def __init__(self, spec: Seq2SeqModel, frame: TextFrame) -> None:
        super().__init__()
        self.embedding = Embedding(frame.vocabulary, spec.width)
        self.dropout = nn.Dropout(spec.dropout)
        self.encoder = TransformerEncoder(
            spec.width, layers=spec.layers, heads=spec.heads, dropout=spec.dropout
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(spec.width, heads=spec.heads, dropout=spec.dropout)
            for _ in range(spec.layers)
        )
        self.norm = nn.LayerNorm(spec.width)

    def states(self, source: Tensor, source_length: Tensor, target: Tensor) -> Tensor:
        """Return what the last layer gets at each token of the target, `[N, S, D]`."""
        memory, _ = self.encode(source, source_length)
        unseen = padding_bias(source_length, source.shape[1])[:, None, None]
        count = target.shape[1]
        later = torch.full((count, count), -math.inf, device=target.device).triu(1)
        x = self._placed(self.embedding(target), past=0)
        for number, layer in enumerate(self._layers):
            x = layer(x, later, memory[:, number], unseen)
        states: Tensor = self.norm(x)
        return states

    def encode(self, source: Tensor, source_length: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `step` needs of sources `[N, T]` with lengths `[N]`.

        Returns:
            The memory `[N, L, 2, H, T, E]`, keys and values of the source for each layer of the
            decoder, and the state `[N, L, 2, H, 0, E]`, keys and values of the tokens before.
        """
        x = self.encoder(self._placed(self.embedding(source), past=0), source_length)
        memory = torch.stack([layer.cross.memory(x) for layer in self._layers], 1)
        return memory, memory[..., :0, :]

    def step(
        self, tokens: Tensor, source_length: Tensor, memory: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what follows, and the state with these tokens added.

        Args:
            tokens: `[N, 1]`.
            source_length: `[N]`.
            memory: `[N, L, 2, H, T, E]`.
            state: `[N, L, 2, H, P, E]`.

        Returns:
            The logits `[N, V]` and the state `[N, L, 2, H, P + 1, E]`.
        """
        unseen = padding_bias(source_length, memory.shape[4])[:, None, None]
        x = self._placed(self.embedding(tokens), past=state.shape[4])
        states = []
        for number, layer in enumerate(self._layers):
            x, layer_state = layer.step(x, state[:, number], memory[:, number], unseen)
            states.append(layer_state)
        return tied_logits(self.embedding, self.norm(x[:, 0])), torch.stack(states, 1)

    @property
    def _layers(self) -> list[DecoderLayer]:
        return cast("list[DecoderLayer]", list(self.decoder))

    def _placed(self, x: Tensor, *, past: int) -> Tensor:
        """Add the positions from `past` on to `[N, T, D]`."""
        placed: Tensor = self.dropout(x + sines(past + x.shape[1], x.shape[2], x.device)[past:])
        return placed


class Attention(nn.Module):
    """Attention of one text to another, or to itself, in several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def memory(self, x: Tensor) -> Tensor:
        """Return the keys and values `[N, 2, H, T, E]` of `[N, T, D]`."""
        count, time, width = x.shape
        joint = self.key_value(x).view(count, time, 2, self.heads, width // self.heads)
        memory: Tensor = joint.permute(0, 2, 3, 1, 4)
        return memory

    def forward(self, x: Tensor, memory: Tensor, bias: Tensor | None) -> Tensor:
        """Return `[N, S, D]`.

        In plain products: at a sentence's length they train some times faster on a processor than
        torch's fused attention.

        Args:
            x: `[N, S, D]`, where the queries come from.
            memory: `[N, 2, H, T, E]`, keys and values.
            bias: broadcast to `[N, H, S, T]`, added to the scores.
        """
        count, time, width = x.shape
        query = self.query(x) * (width // self.heads) ** -0.5
        scores = query.view(count, time, self.heads, -1).transpose(1, 2) @ memory[:, 0].mT
        shares = torch.softmax(scores if bias is None else scores + bias, -1).to(memory.dtype)
        out: Tensor = self.out((shares @ memory[:, 1]).transpose(1, 2).flatten(2))
        return out


class DecoderLayer(nn.Module):
    """Attention to the tokens before, then to the source, then two layers with a GELU between."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.cross_norm = nn.LayerNorm(width)
        self.cross = Attention(width, heads)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = feed_forward(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, later: Tensor, memory: Tensor, unseen: Tensor) -> Tensor:
        """Return `[N, S, D]`.

        Args:
            x: `[N, S, D]`.
            later: `[S, S]`, −∞ where a token would see a later one.
            memory: `[N, 2, H, T, E]`, the source's keys and values.
            unseen: `[N, 1, 1, T]`, −∞ at the source's padding.
        """
        own = self.attention_norm(x)
        x = x + self.dropout(self.attention(own, self.attention.memory(own), later))
        return self._rest(x, memory, unseen)

    def step(
        self, x: Tensor, state: Tensor, memory: Tensor, unseen: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return `[N, 1, D]` and the grown state, from the state `[N, 2, H, P, E]`."""
        own = self.attention_norm(x)
        state = torch.cat((state, self.attention.memory(own).to(state.dtype)), 3)
        return self._rest(x + self.attention(own, state, None), memory, unseen), state

    def _rest(self, x: Tensor, memory: Tensor, unseen: Tensor) -> Tensor:
        x = x + self.dropout(self.cross(self.cross_norm(x), memory, unseen))
        out: Tensor = x + self.dropout(self.feed(self.feed_norm(x)))
        return out


# -- recurrence --------------------------------------------------------------------------------


class RnnSeq2Seq(OwnSeq2Seq):
    """A recurrent encoder, which reads from both ends, and a decoder with attention to it.

    Of Luong et al. 2015 it has global attention with the score `general` (eq. 8) and the
    attentional vector (eq. 5), but doesn't feed that vector to the next step (section 3.3): so a
    given text is computed in one call. The decoder starts from the mean of the memory
    (Sennrich et al. 2017, section 2). The states are as wide as the tokens' vectors, H = D.
    """

    def __init__(self, spec: Seq2SeqModel, frame: TextFrame) -> None:
        super().__init__()
        width = spec.width
        self.embedding = Embedding(frame.vocabulary, width)
        self.dropout = nn.Dropout(spec.dropout)
        kind = CELLS[spec.kind]
        self.encoder, self.decoder = (
            kind(
                width, width, layers=spec.layers, bidirectional=bidirectional, dropout=spec.dropout
            )
            for bidirectional in (True, False)
        )
        self.state_shape = (2 if spec.kind == "lstm" else 1, spec.layers, width)
        self.start = nn.Linear(2 * width, math.prod(self.state_shape))
        self.score = nn.Linear(width, 2 * width, bias=False)
        self.attentional = nn.Linear(3 * width, width)

    def states(self, source: Tensor, source_length: Tensor, target: Tensor) -> Tensor:
        """Return what the last layer gets at each token of the target, `[N, S, D]`."""
        memory, state = self.encode(source, source_length)
        x, _ = self._decoded(target, state)
        return self._attentional(x, source_length, memory)

    def encode(self, source: Tensor, source_length: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `step` needs of sources `[N, T]` with lengths `[N]`.

        Returns:
            The memory `[N, T, 2·H]` and the state `[N, C, L, H]`; C is 2 for an LSTM, 1 for a GRU.
        """
        x = self.dropout(self.embedding(source))
        memory, _ = self.encoder(x, source_length)
        # The memory is zero at padding.
        mean = memory.sum(1) / source_length[:, None].to(memory.dtype)
        return memory, torch.tanh(self.start(mean)).view(-1, *self.state_shape)

    def step(
        self, tokens: Tensor, source_length: Tensor, memory: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the logits `[N, V]` after `tokens` `[N, 1]`, and the new state `[N, C, L, H]`."""
        x, state = self._decoded(tokens, state)
        vector = self._attentional(x, source_length, memory)
        return tied_logits(self.embedding, vector)[:, 0], state

    def _decoded(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decoder's outputs `[N, S, H]` for `[N, S]`, and its state after them.

        Padding at the end is computed like any token: its outputs aren't used.
        """
        x = self.dropout(self.embedding(tokens))
        whole = torch.full_like(tokens[:, 0], tokens.shape[1])
        # The layers take a state `[L, N, H]`, as torch's own do.
        parts = [part.contiguous() for part in state.to(x.dtype).permute(1, 2, 0, 3).unbind(0)]
        outputs, ends = self.decoder(x, whole, tuple(parts))
        return outputs, torch.stack(ends).permute(2, 0, 1, 3)

    def _attentional(self, x: Tensor, source_length: Tensor, memory: Tensor) -> Tensor:
        """Return the attentional vectors `[N, S, D]` for the decoder's outputs `[N, S, H]`."""
        scores = self.score(x) @ memory.mT + padding_bias(source_length, memory.shape[1])[:, None]
        context = torch.softmax(scores, -1).to(memory.dtype) @ memory
        vector: Tensor = self.dropout(torch.tanh(self.attentional(torch.cat((context, x), -1))))
        return vector


# -- generating --------------------------------------------------------------------------------


def build_seq2seq(spec: Seq2SeqModel, frame: TextFrame) -> nn.Module:
    """Build the network that a recipe's `seq2seq` asks for."""
    kind = TransformerSeq2Seq if spec.kind == "transformer" else RnnSeq2Seq
    return kind(spec, frame)


Seq2Seq = TransformerSeq2Seq | RnnSeq2Seq | PretrainedSeq2Seq


class Encode(nn.Module):
    """A network's `encode` as a network of its own, sharing its weights: what is exported."""

    def __init__(self, network: Seq2Seq) -> None:
        super().__init__()
        self.network = network

    def forward(self, source: Tensor, source_length: Tensor) -> tuple[Tensor, Tensor]:
        """Return the memory and the state at the start."""
        return self.network.encode(source, source_length)


class Step(nn.Module):
    """A network's `step` as a network of its own, sharing its weights: what is exported."""

    def __init__(self, network: Seq2Seq) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, tokens: Tensor, source_length: Tensor, memory: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the logits `[N, V]` and the new state."""
        return self.network.step(tokens, source_length, memory, state)


class GenerationState(NamedTuple):
    """The state of N texts that are being generated; each tensor's first axis is N."""

    origin: Tensor
    """`[N]`, which source each is generated from."""
    source_length: Tensor
    memory: Tensor
    state: Tensor


class Seq2SeqStepper:
    """Lets `tasks.generation` generate with a network in torch.

    Its inputs are `source` `[N, T]` and `source_length` `[N]`.
    """

    def __init__(self, network: Seq2Seq) -> None:
        self.network = network

    @torch.no_grad()
    def start(self, inputs: Mapping[str, Array]) -> GenerationState:
        """Read the sources."""
        source, length = self._placed(inputs["source"]), self._placed(inputs["source_length"])
        memory, state = self.network.encode(source, length)
        return GenerationState(
            torch.arange(len(source), device=source.device), length, memory, state
        )

    @torch.no_grad()
    def step(
        self, tokens: Ints, texts: GenerationState
    ) -> tuple[NDArray[np.float32], GenerationState]:
        """Return the logits `[N, V]` after the tokens `[N, 1]`, and where the texts stand now."""
        _, length, memory, state = texts
        logits, state = self.network.step(self._placed(tokens), length, memory, state)
        return logits.float().cpu().numpy(), texts._replace(state=state)

    def reorder(self, texts: GenerationState, rows: Ints) -> GenerationState:
        """Return where the texts `rows` stand."""
        chosen = self._placed(rows)
        origin, state = texts.origin[chosen], texts.state[chosen]
        # Beams mostly change places within their source, whose memory is large.
        if torch.equal(origin, texts.origin):
            return texts._replace(state=state)
        return GenerationState(origin, texts.source_length[chosen], texts.memory[chosen], state)

    def _placed(self, array: Array) -> Tensor:
        return torch.as_tensor(array, device=next(self.network.parameters()).device)
