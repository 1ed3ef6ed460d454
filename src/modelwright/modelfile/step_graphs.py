"""The graphs of a network before they are exported: `main`, and the steps of text generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelwright.modelfile.generation import ENCODE, STEP
from modelwright.modelfile.outputs import OutputForm
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays

if TYPE_CHECKING:
    from torch import nn

_PAST = 5
"""Tokens before the step when a graph is traced; at run time any number."""


@dataclass(frozen=True, slots=True)
class NetworkGraph:
    """One graph of a network, before it is exported."""

    name: str
    module: nn.Module
    within: str
    """The name of the submodule that is the whole network; empty for the network itself."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[OutputForm, ...]
    samples: Arrays
    """At least two samples to trace it with, by the names of the inputs."""


def step_graphs(network: nn.Module) -> list[NetworkGraph]:
    """Return the graphs with which a network generates texts, if it does."""
    from modelwright.models.decoder import Decoder
    from modelwright.models.pretrained_generators import PretrainedDecoder, PretrainedSeq2Seq
    from modelwright.models.seq2seq import RnnSeq2Seq, TransformerSeq2Seq

    if isinstance(network, Decoder | PretrainedDecoder):
        return [_decoder_step(network)]
    if isinstance(network, TransformerSeq2Seq | RnnSeq2Seq | PretrainedSeq2Seq):
        return _seq2seq_graphs(network)
    return []


def _decoder_step(network: Any) -> NetworkGraph:
    from modelwright.models.decoder import DecoderStep

    _, layers, _, heads, _, width = network.empty_cache(1).shape
    tokens = (np.arange(6, dtype=np.int64).reshape(3, 2) * 5 + 4) % network.vocabulary
    cache = np.sin(np.arange(3 * layers * 2 * heads * _PAST * width, dtype=np.float32))
    return NetworkGraph(
        STEP,
        DecoderStep(network),
        "decoder",
        (
            TensorSpec("tokens", "int64", ("N", "S")),
            TensorSpec("padding", "int64", ("N",)),
            TensorSpec("cache", "float32", ("N", layers, 2, heads, "P", width)),
        ),
        (OutputForm("next"), OutputForm("grown", {4: "Q"})),
        {
            "tokens": tokens,
            "padding": np.array([0, 1, 3], dtype=np.int64),
            "cache": cache.reshape(3, layers, 2, heads, _PAST, width),
        },
    )


def _seq2seq_graphs(network: Any) -> list[NetworkGraph]:
    import torch

    from modelwright.models.pretrained_generators import PretrainedSeq2Seq
    from modelwright.models.seq2seq import Encode, Step, TransformerSeq2Seq

    is_pretrained = isinstance(network, PretrainedSeq2Seq)
    size = network.vocabulary if is_pretrained else network.embedding.num_embeddings
    source = (np.arange(15, dtype=np.int64).reshape(3, 5) * 7 + 4) % size
    length = np.array([5, 2, 4], dtype=np.int64)
    tokens = np.array([[2], [2], [2]], dtype=np.int64)
    calm = network.eval()
    with torch.no_grad():
        tensors = [torch.from_numpy(item) for item in (source, length, tokens)]
        memory, state = calm.encode(*tensors[:2])
        _, next_state = calm.step(tensors[2], tensors[1], memory, state)
        _, next_state = calm.step(tensors[2], tensors[1], memory, next_state)
    # Keys and values lie along axis 4, the states of a recurrent encoder along axis 1.
    has_cache = is_pretrained or isinstance(network, TransformerSeq2Seq)
    memory_form = OutputForm("memory", {4 if has_cache else 1: "T"})
    state_form = OutputForm("state", {4: "P"} if has_cache else {})
    read = (TensorSpec("source", "int64", ("N", "T")), TensorSpec("source_length", "int64", ("N",)))
    return [
        NetworkGraph(
            ENCODE,
            Encode(network),
            "network",
            read,
            (memory_form, state_form),
            {"source": source, "source_length": length},
        ),
        NetworkGraph(
            STEP,
            Step(network),
            "network",
            (
                TensorSpec("tokens", "int64", ("N", 1)),
                read[1],
                memory_form.tensor(memory.shape),
                state_form.tensor(next_state.shape),
            ),
            (OutputForm("next"), OutputForm("grown", {4: "Q"} if has_cache else {})),
            {
                "tokens": tokens,
                "source_length": length,
                "memory": memory.numpy(),
                "state": next_state.numpy(),
            },
        ),
    ]
