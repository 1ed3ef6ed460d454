"""Writing texts with the graphs of a model file: one step of onnxruntime a token.

Beside the graph `main`, which tells how probable a given text is, a file holds `step`, and where a
text is written from another `encode`. A step's state goes in and out as arrays. How tokens are
chosen stands in `tasks.generation`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import ModelFileError
from modelwright.kinds import OutputKind
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import GraphSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.tasks.generation import (
    BeamSearchConfig,
    Ids,
    Piece,
    SamplingConfig,
    beam_search,
    collect,
    generate,
    left_padded,
)
from modelwright.transforms.text import BEGIN, TextInput

STEP, ENCODE = "step", "encode"
WRITTEN_AT_ONCE = 64
"""So many texts are written side by side."""


class TextGenerator:
    """Generates texts: continuations are sampled, texts from texts are searched for by beams.

    Args:
        input: the declaration of the texts that are read, with their tokenizer.
        config: how texts are generated, as the file has it.
        open_stepper: opens the graphs, on the first text that is generated.
    """

    def __init__(
        self,
        input: TextInput,
        config: SamplingConfig | BeamSearchConfig,
        open_stepper: Callable[[], GraphStepper],
    ) -> None:
        self._input = input
        self._config = config
        self._open_stepper = open_stepper
        self._stepper: GraphStepper | None = None

    def sample(self, batch: Arrays, config: SamplingConfig | None) -> Iterator[Piece]:
        """Yield each piece of the texts that continue a batch, as soon as it is known."""
        if config is None:
            config = (
                self._config
                if isinstance(self._config, SamplingConfig)
                else SamplingConfig(max_new_tokens=self._config.max_new_tokens)
            )
        begun, tokens, numbers = self._begin(batch)
        return generate(
            self._graphs(),
            begun,
            tokens,
            config=config,
            decode=self._input.tokenizer.decode,
            samples=numbers,
            rooms=self._rooms(tokens),
        )

    def write(self, batch: Arrays, count: int) -> list[str]:
        """Return a text for each of the `count` rows of a batch."""
        if isinstance(self._config, SamplingConfig):
            return [written.text for written in collect(self.sample(batch, None), count)]
        begun, tokens, _ = self._begin(batch)
        found: list[str] = []
        for start in range(0, count, WRITTEN_AT_ONCE):
            part = slice(start, start + WRITTEN_AT_ONCE)
            best = beam_search(
                self._graphs(),
                {name: array[part] for name, array in begun.items()},
                tokens[part],
                config=self._config,
            )
            found += [self._input.tokenizer.decode(item.ids) for item in best]
        return found

    def _begin(self, batch: Arrays) -> tuple[Arrays, Ids, list[int]]:
        """Return what a network starts from, its first tokens, and each text's number."""
        if self._input.kind == "prompt":
            rows = [row[: int(np.count_nonzero(row))] for row in batch["tokens"]]
            return (*prompts([[BEGIN, *row.tolist()] for row in rows]), _numbers(rows))
        source = {name: batch[name] for name in ("source", "source_length")}
        rows = [row[:size] for row, size in zip(*source.values(), strict=True)]
        return source, np.full((len(rows), 1), BEGIN, np.int64), _numbers(rows)

    def _rooms(self, tokens: Ids) -> list[int] | None:
        """Return how many tokens each prompt `[N, S]` may go on with, where the network is bound.

        The last of them takes no place: nothing is asked behind it.
        """
        places = self._input.places if self._input.kind == "prompt" else None
        if places is None:
            return None
        return [places + 1 - int(np.count_nonzero(row)) for row in tokens]

    def _graphs(self) -> GraphStepper:
        if self._stepper is None:
            self._stepper = self._open_stepper()
        return self._stepper


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

    def __init__(self, graphs: Mapping[str, GraphSpec], sessions: Mapping[str, Session]) -> None:
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


def check_step_graphs(graphs: Mapping[str, GraphSpec], output_kind: OutputKind) -> None:
    """Refuse a file whose graphs aren't those that its kind of network writes with.

    Raises:
        ModelFileError: one is missing, or takes or gives something else.
    """
    wanted = {STEP} if output_kind.is_generative else set()
    if output_kind == OutputKind.SEQ2SEQ:
        wanted.add(ENCODE)
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


def _numbers(rows: Sequence[Ids]) -> list[int]:
    """Return a number for each text, by its tokens alone, from which its random figures come."""
    digests = (hashlib.sha256(row.astype("<i8").tobytes()).digest() for row in rows)
    return [int.from_bytes(digest[:8], "little") for digest in digests]
