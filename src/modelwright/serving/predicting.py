"""Predictions over HTTP: `:predict` answers what `modelwright predict --json` answers."""

from __future__ import annotations

import json
from collections.abc import Sequence

from starlette.responses import Response

from modelwright.serving.bodies import Input, read_body, read_inputs
from modelwright.serving.calls import Call
from modelwright.serving.pool import PREDICT, InputError, Pool


async def predict(call: Call) -> Response:
    """Answer the inputs of a request, all or none."""
    version = call.request.query_params.get("version")
    call.pool(version)  # What isn't there is said before a body is read.
    body = await read_body(call.request, call.state.config)
    pool = call.pool(version)
    inputs, top = await read_inputs(call.request, body, str(pool.info["takes"]), call.state.config)
    notes: list[str] = []
    told = await predict_inputs(call, pool, inputs, top, notes)
    rows = [
        b'{"input": %b, "predictions": %b}' % (json.dumps(item.name).encode(), part)
        for item, part in zip(inputs, told, strict=True)
    ]
    # A note has no place in the answer, which is that of `predict --json`.
    headers = {"warning": f"199 modelwright {json.dumps(notes[0][:200])}"} if notes else None
    return Response(b"[%b]" % b", ".join(rows), 200, headers, "application/json")


async def predict_inputs(
    call: Call,
    pool: Pool,
    inputs: Sequence[Input],
    top: int | None,
    notes: list[str] | None = None,
) -> list[bytes]:
    """Return the predictions of each input as JSON.

    Raises:
        ModelwrightError: an input can't be answered, or none now.
    """
    call.spend(float(len(inputs)))
    jobs = []
    try:
        for item in inputs:
            jobs.append(pool.submit({"kind": item.kind, "top": top}, [item.part], kind=PREDICT))
        answers = await call.wait(jobs)
    except InputError as error:
        if len(inputs) > 1:
            place = next(
                row
                for row, job in enumerate(jobs)
                if job.answer.done() and not job.answer.cancelled() and job.answer.exception()
            )
            error.what = f"input {place + 1}: {error.what}"
        raise
    except BaseException:
        for job in jobs:
            job.answer.cancel()
        raise
    call.watch(pool.info, [header.get("confidence") for header, _ in answers])
    if notes is not None:
        notes += [header["note"] for header, _ in answers if "note" in header]
    return [part for _, (part,) in answers]
