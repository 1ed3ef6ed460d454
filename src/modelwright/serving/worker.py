"""The process in which a model answers: batches come over a socket, answers go back.

It loads one model file, reads inputs and answers them as `Model.predict` does, so that a damaged
input or a fault of the runtime ends this process and not the server. It ends when the socket is
closed, whatever ended the server.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelwright import modelfile
from modelwright.errors import ModelwrightError
from modelwright.files import Json, JsonObject
from modelwright.kinds import OutputKind
from modelwright.run import Progress
from modelwright.serving.messages import encode, receive_blocking
from modelwright.tasks import TASKS
from modelwright.tasks.sampling import SamplingConfig

_READS = {"image": "image", "audio": "audio", "arrays": "arrays"}
"""What is sent to a model, by its declared kind of input; all others take texts."""

_FAULTS = (MemoryError, RuntimeError, ValueError)
"""What may go wrong in a runtime; its words may hold parts of an input, and aren't passed on."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What of an answer is told, against copying a model by asking it."""

    digits: int | None = None
    """Probabilities are rounded to so many."""
    top: int | None = None
    """At most so many labels are told."""

    def apply(self, answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return what may be told."""
        if self.digits is not None:
            answers = [
                {
                    key: round(value, self.digits) if key in ("probability", "score") else value
                    for key, value in item.items()
                }
                for item in answers
            ]
        return answers[: self.top]


class Worker:
    """Answers the messages of a server with one model."""

    def __init__(self, model: modelfile.Model, guard: Guard, connection: socket.socket) -> None:
        self.model, self.guard, self.connection = model, guard, connection
        self.takes = _READS.get(str(model.spec.input.get("kind")), "text")

    def serve(self) -> None:
        """Answer until the socket is closed."""
        answers = {"predict": self.predict, "infer": self.infer, "generate": self.generate}
        while True:
            header, parts = receive_blocking(self.connection)
            if header["op"] == "cancel":  # It came after the last piece.
                continue
            try:
                reply = answers[header["op"]](header, parts)
            except ModelwrightError as error:
                reply = encode({"error": _words(error)})
            except _FAULTS as error:
                reply = encode({"fault": type(error).__name__})
            self.connection.sendall(reply)

    def predict(self, header: JsonObject, parts: Sequence[bytes]) -> bytes:
        """Answer inputs of several requests: each with its predictions, or with its error."""
        read: list[Any] = [None] * len(parts)
        entries: list[JsonObject] = [{} for _ in parts]
        for row, (item, part) in enumerate(zip(header["items"], parts, strict=True)):
            try:
                (read[row],) = self.model.read(
                    [self._input(part, item)], observe=_noting(entries[row])
                )
            except ModelwrightError as error:  # Of arrays of the wrong shape.
                read[row] = error
            if isinstance(read[row], ModelwrightError):
                entries[row] = {"error": _words(read[row])}
        tops = [item.get("top") for item in header["items"]]
        told: list[bytes] = [b""] * len(parts)

        def answer(rows: list[int], top: int | None) -> None:
            answers = self.model.answer([read[row] for row in rows], top=top)
            for row, found in zip(rows, answers, strict=True):
                plain = [dict(item) for item in found]
                told[row] = json.dumps(self.guard.apply(plain), allow_nan=False).encode()
                entries[row]["confidence"] = plain[0].get("probability") if plain else None

        for top in dict.fromkeys(tops):
            rows = [
                row for row, own in enumerate(tops) if own == top and not entries[row].get("error")
            ]
            try:
                answer(rows, top)
            except (ModelwrightError, *_FAULTS):  # One of them, which must not fail the others.
                for row in rows:
                    try:
                        answer([row], top)
                    except ModelwrightError as error:
                        entries[row] = {"error": _words(error)}
                    except _FAULTS as error:
                        entries[row] = {"fault": type(error).__name__}
        return encode({"items": entries}, told)

    def _input(self, part: bytes, item: JsonObject) -> Any:
        if self.takes == "arrays":
            return _array(json.loads(part))
        if self.takes != "text" or item["kind"] == "file":
            return part if self.takes != "text" else _utf8(part)
        return part.decode()

    def infer(self, header: JsonObject, parts: Sequence[bytes]) -> bytes:
        """Answer arrays with the network's outputs."""
        arrays = {
            item["name"]: np.frombuffer(part, np.dtype(item["dtype"])).reshape(item["shape"])
            for item, part in zip(header["tensors"], parts, strict=True)
        }
        found = self.model.outputs(arrays)
        outputs = found if isinstance(found, tuple) else (found,)
        named = zip(self.model.spec.main.outputs, outputs, strict=True)
        told = [
            {"name": tensor.name, "dtype": str(array.dtype), "shape": list(array.shape)}
            for tensor, array in named
        ]
        return encode(
            {"tensors": told}, [np.ascontiguousarray(array).tobytes() for array in outputs]
        )

    def generate(self, header: JsonObject, parts: Sequence[bytes]) -> bytes:
        """Write texts, each piece as soon as it is known, until the server has no use for them."""
        config = SamplingConfig(**{key: _tuple(value) for key, value in header["config"].items()})
        counts = {"prompt_tokens": 0, "completion_tokens": 0}
        prompts = [part.decode() for part in parts]
        for piece in self.model.generate(prompts, config):
            if select.select([self.connection], [], [], 0)[0]:
                receive_blocking(self.connection)  # It says only that nobody listens any more.
                return encode({"cancelled": True})
            counts["completion_tokens"] += piece.token is not None
            if piece.text or piece.finish:
                told = {"piece": piece.sample, "finish": piece.finish}
                self.connection.sendall(encode(told, [piece.text.encode()]))
        return encode({"usage": counts})

    def describe(self) -> JsonObject:
        """Return what clients are told of the model."""
        model, spec = self.model, self.model.spec
        task = TASKS.get((model.task, spec.output_kind))
        evidence = [
            {key: getattr(record, key) for key in ("metric", "value", "low", "high", "n", "split")}
            for record in model.ledger
            if record.subject == "model" and not record.slice
        ]
        confidence = model.ledger.find("accuracy")
        taken = None if self.takes == "arrays" else model.input
        return {
            "task": model.task,
            "takes": self.takes,
            "is_writing": spec.output_kind in (OutputKind.CAUSAL_LM, OutputKind.SEQ2SEQ),
            "labels": list(model.labels),
            "digest": model.digest,
            "size_bytes": model.size_bytes,
            "goal": task.goal[0] if task else None,
            "evidence": evidence,
            "max_length": getattr(taken, "max_length", None),
            "expected_confidence": confidence.value if confidence else None,
            "tensors": {
                name: [
                    {"name": item.name, "dtype": item.dtype, "shape": list(item.shape)}
                    for item in tensors
                ]
                for name, tensors in (("inputs", spec.main.inputs), ("outputs", spec.main.outputs))
            },
        }


def _array(value: Json) -> Any:
    if isinstance(value, dict):
        return {name: np.asarray(item) for name, item in value.items()}
    return np.asarray(value)


def _tuple(value: Json) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _utf8(part: bytes) -> str:
    try:
        return part.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelwrightError("this isn't text in UTF-8") from error


def _noting(entry: JsonObject) -> Any:
    def observe(progress: Progress) -> None:
        if progress.note:
            entry["note"] = progress.note

    return observe


def _words(error: ModelwrightError) -> JsonObject:
    return {"what": error.what, "why": error.why, "fix": error.fix}


def main() -> None:
    """Load the model that the first message names, say what it is, and answer."""
    for number in (signal.SIGINT, signal.SIGTERM):  # The server ends its workers by the socket.
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=int(sys.argv[1]))
    try:
        header, _ = receive_blocking(connection)
        try:
            model = modelfile.load(Path(header["path"]), threads=header["threads"])
            worker = Worker(model, Guard(**header["guard"]), connection)
            reply = {"model": worker.describe()}
        except ModelwrightError as error:
            connection.sendall(encode({"error": {**_words(error), "where": error.where}}))
            return
        connection.sendall(encode(reply))
        worker.serve()
    except (EOFError, ConnectionError, BrokenPipeError):
        pass  # The server has gone.


if __name__ == "__main__":
    main()
