"""Networks that write texts: their graphs for single steps, and how onnxruntime takes these steps.

Beside the graph `main`, which tells how probable a given text is, a file holds `step`, and where a
text is written from another `encode`. A step's state goes in and out as arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import ModelFileError
from modelwright.modelfile.outputs import OutputForm
from modelwright.modelfile.spec import GraphSpec, TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.tasks.generation import Ids, left_padded

if TYPE_CHECKING:
    from torch import nn

STEP, ENCODE = "step", "encode"
_PAST = 5
"""Tokens before the step with which a graph is traced; any number is taken."""


@dataclass(frozen=True, slots=True)
class StepGraph:
    """One graph of a network that writes, before it is exported."""

    name: str
    module: nn.Module
    within: str
    """Where in the module the whole network stands."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[OutputForm, ...]
    samples: Arrays


def step_graphs(network: nn.Module) -> list[StepGraph]:
    """Return the graphs that a network writes with; of one that doesn't write none."""
    from modelwright.models.decoder import Decoder
    from modelwright.models.pretrained_generators import PretrainedDecoder, PretrainedSeq2Seq
    from modelwright.models.seq2seq import RnnSeq2Seq, TransformerSeq2Seq

    if isinstance(network, Decoder | PretrainedDecoder):
        return [_decoder_step(network)]
    if isinstance(network, TransformerSeq2Seq | RnnSeq2Seq | PretrainedSeq2Seq):
        return _seq2seq_graphs(network)
    return []


def _decoder_step(network: Any) -> StepGraph:
    from modelwright.models.decoder import DecoderStep

    _, layers, _, heads, _, width = network.empty_cache(1).shape
    tokens = (np.arange(6, dtype=np.int64).reshape(3, 2) * 5 + 4) % network.vocabulary
    cache = np.sin(np.arange(3 * layers * 2 * heads * _PAST * width, dtype=np.float32))
    return StepGraph(
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


def _seq2seq_graphs(network: Any) -> list[StepGraph]:
    import torch

    from modelwright.models.pretrained_generators import PretrainedSeq2Seq
    from modelwright.models.seq2seq import Encode, Step, TransformerSeq2Seq

    foreign = isinstance(network, PretrainedSeq2Seq)
    size = network.vocabulary if foreign else network.embedding.num_embeddings
    source = (np.arange(15, dtype=np.int64).reshape(3, 5) * 7 + 4) % size
    length = np.array([5, 2, 4], dtype=np.int64)
    tokens = np.array([[2], [2], [2]], dtype=np.int64)
    calm = network.eval()
    with torch.no_grad():
        given = [torch.from_numpy(item) for item in (source, length, tokens)]
        memory, state = calm.encode(*given[:2])
        _, after = calm.step(given[2], given[1], memory, state)
        _, after = calm.step(given[2], given[1], memory, after)
    # Keys and values lie along axis 4, the states of a recurrent encoder along axis 1.
    along, grows = (4, {4: "P"}) if foreign or isinstance(network, TransformerSeq2Seq) else (1, {})
    read = (
        TensorSpec("source", "int64", ("N", "T")),
        TensorSpec("source_length", "int64", ("N",)),
    )
    memory_form = OutputForm("memory", {along: "T"})
    state_form = OutputForm("state", grows)
    return [
        StepGraph(
            ENCODE,
            Encode(network),
            "network",
            read,
            (memory_form, state_form),
            {"source": source, "source_length": length},
        ),
        StepGraph(
            STEP,
            Step(network),
            "network",
            (
                TensorSpec("tokens", "int64", ("N", 1)),
                read[1],
                memory_form.tensor(memory.shape),
                state_form.tensor(after.shape),
            ),
            (OutputForm("next"), OutputForm("grown", {at: "Q" for at in grows})),
            {
                "tokens": tokens,
                "source_length": length,
                "memory": memory.numpy(),
                "state": after.numpy(),
            },
        ),
    ]


# -- writing ---------------------------------------------------------------------------------


class Runs(Protocol):
    """A graph that is ready: `runtime.Session`."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the graph's outputs."""


class Standing(NamedTuple):
    """Where texts stand; the first axis of all arrays is theirs."""

    fixed: Arrays
    """What each step is given again: padding; or the source's length and memory."""
    state: NDArray[np.float32]
    origin: Ids
    """Which row of the batch each text began as."""


class GraphStepper:
    """Lets `tasks.generation` write with the graphs of a model file.

    Args:
        graphs: what the file declares of them.
        sessions: the graphs `step` and, where there is one, `encode`.
    """

    def __init__(self, graphs: Mapping[str, GraphSpec], sessions: Mapping[str, Runs]) -> None:
        self._sessions = sessions
        self._state = graphs[STEP].inputs[-1]

    def start(self, inputs: Mapping[str, NDArray[Any]]) -> Standing:
        """Return the state before the first token: from a source, or empty."""
        if ENCODE in self._sessions:
            memory, state = self._sessions[ENCODE].run(inputs)
            fixed = {"source_length": inputs["source_length"], "memory": memory}
            return Standing(fixed, state, np.arange(len(memory)))
        count = len(inputs["padding"])
        shape = [size if isinstance(size, int) else 0 for size in self._state.shape]
        empty = np.zeros((count, *shape[1:]), np.float32)
        return Standing({"padding": inputs["padding"]}, empty, np.arange(count))

    def step(self, tokens: Ids, state: Standing) -> tuple[NDArray[np.float32], Standing]:
        """Return the logits `[N, V]` after the tokens, and where the texts stand now."""
        fed = {"tokens": tokens, **state.fixed, self._state.name: state.state}
        logits, grown = self._sessions[STEP].run(fed)
        return logits, state._replace(state=grown)

    def reorder(self, state: Standing, rows: Ids) -> Standing:
        """Return where the texts `rows` stand."""
        origin, held = state.origin[rows], state.state[rows]
        # Beams mostly change places within their source, whose memory is large.
        if np.array_equal(origin, state.origin):
            return state._replace(state=held)
        fixed = {name: array[rows] for name, array in state.fixed.items()}
        return Standing(fixed, held, origin)


def prompts(ids: Sequence[Sequence[int]]) -> tuple[Arrays, Ids]:
    """Return what texts go on from: the inputs of `start`, and the first tokens `[N, S]`."""
    tokens, padding = left_padded(ids)
    return {"padding": padding}, tokens


def check_step_graphs(graphs: Mapping[str, GraphSpec], output_kind: str) -> None:
    """Refuse a file whose graphs aren't those that its kind of network writes with.

    Raises:
        ModelFileError: one is missing, or takes or gives something else.
    """
    wanted = {"tokens": {STEP}, "texts": {STEP, ENCODE}}.get(output_kind, set())
    if set(graphs) - {"main"} != wanted:
        raise ModelFileError("the file's graphs aren't those of its kind of network")
    if not wanted:
        return
    given = {tensor.name for tensor in graphs[STEP].inputs}
    takes = {"tokens", "padding", "cache"}
    if ENCODE in wanted:
        takes = {"tokens", "source_length", "memory", "state"}
    gives = [tensor.name for tensor in graphs[STEP].outputs]
    if given != takes or gives != ["next", "grown"]:
        raise ModelFileError("the file's graph `step` takes or gives something else than it should")
