"""Generating texts with the graphs of a model file: one call of onnxruntime for each token.

Beside the graph `main`, which gives the probability of a text, a file holds `step`, and for text
from text `encode`. A step's state goes in and out as arrays. How tokens are chosen is in
`tasks.generation`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Array
from modelwright.errors import ModelFileError
from modelwright.modelfile.outputs import check_shapes
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import GraphSpec, TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.tasks.beam_search import BeamSearchConfig, beam_search
from modelwright.tasks.generation import Ids, Piece, collect, generate, left_padded
from modelwright.tasks.sampling import SamplingConfig
from modelwright.transforms.text import BEGIN, TextInput

STEP, ENCODE = "step", "encode"
BATCH_SIZE = 64
"""The most texts that are searched for at once."""


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
        self._stepper = functools.cache(open_stepper)

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
            self._stepper(),
            begun,
            tokens,
            config=config,
            decode=self._input.tokenizer.decode,
            samples=numbers,
            rooms=self._rooms(tokens),
        )

    def write(self, batch: Arrays, count: int, *, max_new_tokens: int | None = None) -> list[str]:
        """Return a text for each of the `count` rows of a batch, of at most so many new tokens."""
        config = self._config
        if max_new_tokens is not None:
            most = min(max_new_tokens, config.max_new_tokens)
            config = replace(config, max_new_tokens=most)
        if isinstance(config, SamplingConfig):
            return [written.text for written in collect(self.sample(batch, config), count)]
        begun, tokens, _ = self._begin(batch)
        texts: list[str] = []
        for start in range(0, count, BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            best = beam_search(
                self._stepper(),
                {name: array[part] for name, array in begun.items()},
                tokens[part],
                config=config,
            )
            texts += [self._input.tokenizer.decode(item.ids) for item in best]
        return texts

    def _begin(self, batch: Arrays) -> tuple[Arrays, Ids, list[int]]:
        """Return the inputs of `start`, the first tokens, and the number of each text."""
        if self._input.kind == "prompt":
            rows = [row[: int(np.count_nonzero(row))] for row in batch["tokens"]]
            return (*prompts([[BEGIN, *row.tolist()] for row in rows]), _numbers(rows))
        source = {name: batch[name] for name in ("source", "source_length")}
        rows = [row[:size] for row, size in zip(*source.values(), strict=True)]
        return source, np.full((len(rows), 1), BEGIN, np.int64), _numbers(rows)

    def _rooms(self, tokens: Ids) -> list[int] | None:
        """Return the most new tokens of each prompt `[N, S]`, where the network limits them.

        The last token takes no place, since it isn't an input.
        """
        places = self._input.places if self._input.kind == "prompt" else None
        if places is None:
            return None
        return [places + 1 - int(np.count_nonzero(row)) for row in tokens]


class Standing(NamedTuple):
    """The state of texts in generation; the first axis of all arrays is the batch."""

    fixed: Arrays
    """Inputs of every step: padding; or the source's length and memory."""
    state: NDArray[np.float32]
    origin: Ids
    """Which row of the batch each text began as."""


class GraphStepper:
    """The `Stepper` of `tasks.generation` for the graphs of a model file.

    Args:
        graphs: their inputs and outputs, as the file declares them.
        sessions: the graphs `step` and, where there is one, `encode`.
    """

    def __init__(self, graphs: Mapping[str, GraphSpec], sessions: Mapping[str, Session]) -> None:
        self._sessions = sessions
        self._graphs = graphs
        self._state = graphs[STEP].inputs[-1]

    def start(self, inputs: Mapping[str, Array]) -> Standing:
        """Return the state before the first token: from a source, or empty."""
        if ENCODE in self._sessions:
            memory, state = self._run(ENCODE, inputs)
            _check_size(memory, self._graphs[ENCODE].outputs[0], inputs["source"].shape[1])
            fixed = {"source_length": inputs["source_length"], "memory": memory}
            return Standing(fixed, state, np.arange(len(memory)))
        count = len(inputs["padding"])
        shape = [size if isinstance(size, int) else 0 for size in self._state.shape]
        empty = np.zeros((count, *shape[1:]), np.float32)
        return Standing({"padding": inputs["padding"]}, empty, np.arange(count))

    def step(self, tokens: Ids, state: Standing) -> tuple[NDArray[np.float32], Standing]:
        """Return the logits `[N, V]` after the tokens, and the new state."""
        fed = {"tokens": tokens, **state.fixed, self._state.name: state.state}
        logits, grown = self._run(STEP, fed)
        _check_growth(state.state, grown, self._state, tokens.shape[1])
        return logits, state._replace(state=grown)

    def _run(self, name: str, inputs: Mapping[str, Array]) -> list[Array]:
        """Return a graph's outputs, which are what the file declares."""
        outputs = self._sessions[name].run(inputs)
        count = len(next(iter(inputs.values())))
        check_shapes(outputs, self._graphs[name].outputs, count=count)
        return outputs

    def reorder(self, state: Standing, rows: Ids) -> Standing:
        """Return the state of the texts `rows`."""
        origin, rows_state = state.origin[rows], state.state[rows]
        # Beams mostly change places within their source, whose memory is large.
        if np.array_equal(origin, state.origin):
            return state._replace(state=rows_state)
        fixed = {name: array[rows] for name, array in state.fixed.items()}
        return Standing(fixed, rows_state, origin)


def _check_growth(state: Array, grown: Array, declared: TensorSpec, steps: int) -> None:
    """Refuse a state that grows by more or less than a place for each token.

    Raises:
        ModelFileError: it does.
    """
    sizes = zip(declared.shape[1:], state.shape[1:], strict=True)
    expected = [size + steps if isinstance(name, str) else size for name, size in sizes]
    if list(grown.shape[1:]) != expected:
        raise ModelFileError(
            f"the file's graph `step` makes a state {list(grown.shape)} of {list(state.shape)} by "
            f"{steps} tokens"
        )


def _check_size(memory: Array, declared: TensorSpec, most: int) -> None:
    """Refuse what a source is read as where it is longer than the source.

    Raises:
        ModelFileError: it is.
    """
    sizes = zip(declared.shape[1:], memory.shape[1:], strict=True)
    if any(isinstance(name, str) and size > most for name, size in sizes):
        raise ModelFileError(
            f"the file's graph `encode` makes {list(memory.shape)} of a source of {most} tokens"
        )


def prompts(ids: Sequence[Sequence[int]]) -> tuple[Arrays, Ids]:
    """Return the inputs of `start` for prompts, and their tokens `[N, S]`."""
    tokens, padding = left_padded(ids)
    return {"padding": padding}, tokens


def _numbers(rows: Sequence[Ids]) -> list[int]:
    """Return a number for each text, from its tokens alone, that seeds its random numbers."""
    digests = (hashlib.sha256(row.astype("<i8").tobytes()).digest() for row in rows)
    return [int.from_bytes(digest[:8], "little") for digest in digests]
