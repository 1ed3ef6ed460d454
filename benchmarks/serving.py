r"""What the server adds to a model, and how many requests it answers, beside other servers.

    python benchmarks/serving.py latency throughput access
    python benchmarks/serving.py throughput --models digits=runs/digits/model.mw \
        --litserve /envs/litserve/bin/python --bentoml /envs/bentoml/bin/python
    python benchmarks/serving.py soak --seconds 600

The server and the clients have cores of their own where there are two. Requests are written to
plain sockets. The other servers run the model's plain ONNX file in an environment of their own,
each at the best of three settings.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from measuring import real_data, tell
from modelwright import modelfile
from modelwright.errors import DataError

PREDICT = "/v1/models/{name}:predict"
BLOCK_S, BLOCKS = 2.0, 5
"""Each figure is the median over so many blocks of so many seconds."""
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SERVER_CORE, CLIENT_CORE = (CORES[0], CORES[1]) if len(CORES) > 1 else (0, 0)


@dataclass
class Subject:
    """A model with requests for it."""

    name: str
    path: Path
    bodies: list[bytes]
    kind: str
    arrays: list[dict[str, np.ndarray[Any, Any]]] = field(default_factory=list)
    """What the graph takes for each request, for the servers that know no model file."""

    def requests(self, key: str = "") -> list[bytes]:
        """Return whole HTTP requests."""
        path = PREDICT.format(name=self.name)
        if self.kind == "tensors":
            path = f"/v2/models/{self.name}/infer"
        kind = "application/octet-stream" if self.kind == "file" else "application/json"
        return [request(path, body, kind, key) for body in self.bodies]


def request(path: str, body: bytes, kind: str, key: str = "") -> bytes:
    """Return the bytes of a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
    head += f"Content-Length: {len(body)}\r\n"
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    return head.encode() + b"\r\n" + body


class Client(asyncio.Protocol):
    """Asks one request after another over one connection, and notes the statuses."""

    def __init__(self, requests: Sequence[bytes], first: int, ends: float) -> None:
        self.requests, self.at, self.ends = requests, first, ends
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.waits = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.data = b""

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        """Send the next request."""
        self.begun, self.waits = time.perf_counter(), True
        self.transport.write(self.request())
        self.at += 1

    def request(self) -> bytes:
        """Return what is asked next."""
        return self.requests[self.at % len(self.requests)]

    def is_answered(self, answer: bytes) -> bool:
        """Say whether an answer is that of the last request."""
        return True

    def data_received(self, data: bytes) -> None:
        """Note an answer once it is whole, and go on."""
        self.data += data
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.data[:end].lower()
        found = re.search(rb"content-length: (\d+)", head)
        if not found or len(self.data) < end + 4 + int(found[1]):
            return
        self.seconds.append(time.perf_counter() - self.begun)
        status = int(head[9:12])
        self.statuses[status if status != 200 or self.is_answered(self.data) else -1] += 1
        self.data, self.waits = b"", False
        if time.perf_counter() < self.ends:
            self.ask()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """End; a request that is still without an answer counts as status 0."""
        self.statuses[0] += self.waits
        if not self.done.done():
            self.done.set_result(None)


class Numbered(Client):
    """Numbers its requests: texts by their first word, tensors by their `id`, which come back."""

    numbers = itertools.count(1)

    def request(self) -> bytes:
        """Return what is asked next, with a number of its own."""
        self.number = b"%d" % next(self.numbers)
        head, _, body = super().request().partition(b"\r\n\r\n")
        if b'"inputs"' in body:
            body = body.replace(b"{", b'{"id": "%b", ' % self.number, 1)
        else:
            body = body.replace(b': "', b': "%b ' % self.number, 1)
        head = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), head)
        return head + b"\r\n\r\n" + body

    def is_answered(self, answer: bytes) -> bool:
        """Say whether an answer has the number of the last request."""
        return b'": "%b ' % self.number in answer or b'": "%b"' % self.number in answer


def load(
    port: int,
    requests: Sequence[bytes],
    concurrency: int,
    seconds: float,
    kind: type[Client] = Client,
) -> Any:
    """Ask for some seconds; return the times, the statuses and the seconds that it took."""
    import uvloop

    async def ask() -> Any:
        loop, ends = asyncio.get_running_loop(), time.perf_counter() + seconds
        clients = []
        for number in range(concurrency):
            made = partial(kind, requests, 37 * number, ends)
            clients.append((await loop.create_connection(made, "127.0.0.1", port))[1])
        begun = time.perf_counter()
        await asyncio.gather(*(client.done for client in clients))
        taken = time.perf_counter() - begun
        times = [item for client in clients for item in client.seconds]
        # Adding counters leaves out what is 0.
        statuses: Counter[int] = sum((client.statuses for client in clients), Counter())
        return times, statuses, taken

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(ask())


def rate(port: int, requests: Sequence[bytes], concurrency: int) -> float:
    """Return the requests a second that were answered with 200, the median of blocks."""
    load(port, requests, concurrency, 1.0)
    rates = []
    for _ in range(BLOCKS):
        _, statuses, taken = load(port, requests, concurrency, BLOCK_S)
        if set(statuses) != {200}:
            raise SystemExit(f"answered with {dict(statuses)}")
        rates.append(statuses[200] / taken)
    return float(statistics.median(rates))


@contextlib.contextmanager
def running(command: list[str], port: int, path: str, **more: str) -> Iterator[int]:
    """Start a server on a core of its own, wait until it answers, and end it afterwards."""
    pinned = ["taskset", "-c", str(SERVER_CORE), *command] if len(CORES) > 1 else command
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    process = subprocess.Popen(
        pinned, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                import http.client

                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
                connection.request("GET", path)
                if connection.getresponse().status < 500:
                    break
            if process.poll() is not None:
                raise SystemExit(f"it ended: {' '.join(command)}")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


PORT = 8371


@contextlib.contextmanager
def ours(folder: Path, subject: Subject, *, guarded: bool, **settings: Any) -> Iterator[str]:
    """Run our server; with `guarded` it asks for a key, has limits, and logs each request."""
    from modelwright.security import api_keys, signing_keys
    from modelwright.security.roles import grant_of
    from modelwright.security.store import Store

    key, lines = "", [f"port: {PORT}", "log_requests: false"]
    store = Path(tempfile.mkdtemp(dir=folder)) / "keys.db"
    model = {"path": str(subject.path.absolute()), "name": subject.name, **settings}
    lines.append(f"models: [{json.dumps(model)}]")
    if guarded:
        opened = Store(str(store))
        key, _ = api_keys.create(
            opened,
            grant_of("predictor", ["*"]),
            now=time.time(),
            requests_per_minute=10_000_000,
            daily_cost=1e9,
        )
        opened.close()
        signing_keys.create_key(store.with_name("audit.key"))
        log = store.with_name("audit.jsonl")
        lines.append(f"audit: {{path: {log}, key: {store.with_name('audit.key')}}}")
    config = store.with_name("serve.yaml")
    config.write_text("\n".join(lines))
    command = [sys.executable, "-m", "modelwright", "serve", "--config", str(config)]
    with running(command, PORT, "/readyz", MODELWRIGHT_STORE=str(store)):
        yield key


FASTAPI = """
import uvicorn
from fastapi import FastAPI, Request, Response
app = FastAPI()
@app.post("/")
async def answer(request: Request):
    await request.body()
    return Response(b"[]", media_type="application/json")
@app.get("/ready")
async def ready():
    return {}
uvicorn.run(app, port=%d, log_level="error", access_log=False)
"""
OTHERS = {
    "litserve": """
import os, numpy as np, onnxruntime, litserve
class Api(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["ONNX"], options)
    def decode_request(self, request):
        return {name: np.asarray(value, dtype) for name, (dtype, value) in request.items()}
    def batch(self, items):
        return join(items)
    def predict(self, batch):
        batch = batch if BATCH > 1 else {k: v[None] for k, v in batch.items()}
        return self.session.run(None, batch)[0]
    def unbatch(self, output):
        return list(output)
    def encode_response(self, output):
        return {"output": np.asarray(output).ravel().tolist()}
def join(items):
    joined = {}
    for name in items[0]:
        arrays = [item[name] for item in items]
        if arrays[0].ndim and len({a.shape for a in arrays}) > 1:
            longest = max(len(a) for a in arrays)
            arrays = [np.pad(a, (0, longest - len(a))) for a in arrays]
        joined[name] = np.stack(arrays)
    return joined
BATCH = int(os.environ["BATCH"])
if __name__ == "__main__":
    api = Api(max_batch_size=BATCH, batch_timeout=float(os.environ["WAIT"]))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=int(os.environ["PORT"]), log_level="error", generate_client_file=False)
""",
    "bentoml": """
import os, numpy as np, onnxruntime, bentoml
BATCH = int(os.environ["BATCH"])
@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 64})
class Api:
    def __init__(self):
        options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["ONNX"], options)
    @bentoml.api(batchable=BATCH > 1, max_batch_size=max(BATCH, 2),
                 max_latency_ms=60_000, route="/predict")
    def predict(self, items: list[dict]) -> list[list[float]]:
        arrays = [{k: np.asarray(v, d) for k, (d, v) in item.items()} for item in items]
        joined = {}
        for name in arrays[0]:
            each = [item[name] for item in arrays]
            if each[0].ndim and len({a.shape for a in each}) > 1:
                longest = max(len(a) for a in each)
                each = [np.pad(a, (0, longest - len(a))) for a in each]
            joined[name] = np.stack(each)
        return [row.ravel().tolist() for row in self.session.run(None, joined)[0]]
""",
}
SETTINGS = ((1, 0.0), (32, 0.0), (32, 0.005))
"""Batch and seconds of waiting, of which the best counts."""


@contextlib.contextmanager
def other(name: str, python: str, folder: Path, onnx: Path, batch: int, wait: float) -> Any:
    """Run another server."""
    script = folder / f"{name}_server.py"
    script.write_text(OTHERS[name])
    more = {"ONNX": str(onnx), "BATCH": str(batch), "WAIT": str(wait), "PORT": str(PORT)}
    if name == "litserve":
        with running([python, str(script)], PORT, "/health", **more) as number:
            yield number
    else:
        command = [str(Path(python).with_name("bentoml")), "serve", f"{script.stem}:Api"]
        command += ["--port", str(PORT), "--working-dir", str(folder)]
        with running(command, PORT, "/readyz", **more) as number:
            yield number


def others_requests(subject: Subject, name: str) -> list[bytes]:
    """Return requests with the arrays that the graph takes, as JSON."""
    made = []
    for arrays in subject.arrays:
        item = {key: [str(value.dtype), value.tolist()] for key, value in arrays.items()}
        body = {"items": [item]} if name == "bentoml" else item
        made.append(request("/predict", json.dumps(body).encode(), "application/json"))
    return made


def no_op(folder: Path) -> Subject:
    """Return a model that gives back the number that it takes."""
    import torch

    from modelwright.kinds import OutputKind
    from modelwright.models.candidate import Candidate

    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 0

    from types import SimpleNamespace

    tensor = {"name": "x", "dtype": "float32", "shape": ["N", 1]}
    declared = {"kind": "arrays", "tensors": [tensor]}
    candidate = Candidate(
        network=Same(),
        task="arrays-to-numbers",
        input=SimpleNamespace(to_json=lambda: declared),
        labels=(),
        architecture={"name": "same"},
        output_kind=OutputKind.REGRESSION,
    )
    path = folder / "noop.mw"
    modelfile.write_model(path, candidate)
    entry = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0.5]}
    body = json.dumps({"inputs": [entry]}).encode()
    arrays = [{"x": np.array([0.5], np.float32)}]
    return Subject("noop", path, [body], "tensors", arrays)


def subject_of(name: str, path: Path) -> Subject:
    """Return a model file with requests of its own data: images as PNG, texts as JSON."""
    model = modelfile.load(path, threads=1)
    if model.spec.input["kind"] == "image":
        from PIL import Image

        declared = model.spec.main.inputs[0].shape[1:]
        height, width, channels = (int(size) for size in declared)
        pixels = np.random.default_rng(0).integers(0, 256, (64, height, width, channels), np.uint8)
        bodies = []
        for each in pixels:
            stream = io.BytesIO()
            Image.fromarray(each.squeeze()).save(stream, "PNG")
            bodies.append(stream.getvalue())
        inputs: list[Any] = bodies
        kind = "file"
    else:
        import pyarrow.parquet as pq

        texts = pq.read_table(real_data() / "imdb" / "test.parquet", columns=["text"])
        inputs = texts["text"].to_pylist()[:64]
        bodies = [json.dumps({"input": text}).encode() for text in inputs]
        kind = "json"
    read = [model.read([each])[0] for each in inputs]
    dtypes = {tensor.name: tensor.dtype for tensor in model.spec.main.inputs}
    arrays = []
    for sample in read:
        if isinstance(sample, DataError):
            raise sample
        found = dict(sample.arrays)
        if "length" in dtypes:  # What a batch adds.
            found["length"] = np.asarray(len(found["tokens"]))
        arrays.append({key: value.astype(dtypes[key]) for key, value in found.items()})
    return Subject(name, path, bodies, kind, arrays)


def latency(folder: Path, asked: argparse.Namespace) -> None:
    """What a request takes beyond the bare call of the runtime, one at a time."""
    subject = no_op(folder)
    session = modelfile.load(subject.path, threads=1)._session
    one = {"x": np.array([[0.5]], np.float32)}
    bare = []
    for _ in range(5000):
        begun = time.perf_counter()
        session.run(one)
        bare.append(time.perf_counter() - begun)
    figures: dict[str, Any] = {"bare_ms": round(1000 * statistics.median(bare), 4)}
    alone = folder / "alone.py"
    alone.write_text(FASTAPI % PORT)

    def measured(requests: Sequence[bytes], name: str) -> None:
        load(PORT, requests, 1, 1.0)
        times, _, _ = load(PORT, requests, 1, BLOCKS * BLOCK_S)
        figures[f"{name}_p50_ms"] = round(1000 * statistics.median(times), 4)
        figures[f"{name}_p99_ms"] = round(1000 * float(np.quantile(times, 0.99)), 4)
        figures[f"{name}_rps_32"] = round(rate(PORT, requests, 32))

    with running([sys.executable, str(alone)], PORT, "/ready"):
        measured([request("/", subject.bodies[0], "application/json")], "fastapi")
    for name, guarded in (("open", False), ("guarded", True)):
        with ours(folder, subject, guarded=guarded) as key:
            measured(subject.requests(key), name)
    figures["added_ms"] = round(figures["guarded_p50_ms"] - figures["bare_ms"], 4)
    tell("serving", case="latency", **figures, asked="added_ms <= 0.6")


def throughput(folder: Path, asked: argparse.Namespace) -> None:
    """Requests a second at a concurrency of 32, beside one at a time and other servers."""
    for subject in subjects(folder, asked):
        with ours(folder, subject, guarded=True) as key:
            requests = subject.requests(key)
            one, many = rate(PORT, requests, 1), rate(PORT, requests, 32)
        figures: dict[str, Any] = {
            "rps_1": round(one, 1),
            "rps_32": round(many, 1),
            "ratio": round(many / one, 3),
        }
        for name in OTHERS:
            python = getattr(asked, name)
            if python:
                onnx = folder / f"{subject.name}-onnx"
                if not onnx.exists():
                    modelfile.export_onnx(subject.path, onnx)
                file = next(onnx.glob("*.onnx"))
                best = 0.0
                for batch, wait in SETTINGS:
                    with other(name, python, folder, file, batch, wait):
                        best = max(best, rate(PORT, others_requests(subject, name), 32))
                figures |= {f"{name}_rps_32": round(best, 1), f"over_{name}": round(many / best, 3)}
        tell(
            "serving",
            case="throughput",
            model=subject.name,
            **figures,
            asked="ratio >= 2, over others >= 1.3",
        )


def batches(folder: Path, asked: argparse.Namespace) -> None:
    """Requests a second beside `Model.predict` in batches of 32 on the same core."""
    for subject in subjects(folder, asked)[1:]:
        model = modelfile.load(subject.path, threads=1)
        inputs: list[Any] = subject.bodies
        if subject.kind == "json":
            inputs = [json.loads(body)["input"] for body in subject.bodies]
        rates = []
        if len(CORES) > 1:
            os.sched_setaffinity(0, {SERVER_CORE})
        for _ in range(BLOCKS):
            begun, count = time.perf_counter(), 0
            while time.perf_counter() - begun < BLOCK_S:
                model.predict(inputs[:32])
                count += 32
            rates.append(count / (time.perf_counter() - begun))
        if len(CORES) > 1:
            os.sched_setaffinity(0, {CLIENT_CORE})
        direct = statistics.median(rates)
        with ours(folder, subject, guarded=True) as key:
            served = rate(PORT, subject.requests(key), 32)
        tell(
            "serving",
            case="batches",
            model=subject.name,
            predict_per_s=round(direct, 1),
            rps_32=round(served, 1),
            ratio=round(served / direct, 3),
            asked="speednet >= 0.95",
        )


def access(folder: Path, asked: argparse.Namespace) -> None:
    """What access control, limits and the audit log cost, by turns with a server without."""
    for subject in subjects(folder, asked):
        rates: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(3):
            for guarded in rates:
                with ours(folder, subject, guarded=guarded) as key:
                    rates[guarded].append(rate(PORT, subject.requests(key), 32))
        off, on = (statistics.median(each) for each in rates.values())
        tell(
            "serving",
            case="access",
            model=subject.name,
            off_rps=round(off, 1),
            on_rps=round(on, 1),
            fewer=round(1 - on / off, 4),
            asked="imdb: fewer <= 0.10",
        )


def soak(folder: Path, asked: argparse.Namespace) -> None:
    """Ask for minutes at 120 % of what can be answered: memory, statuses, nothing lost or doubled.

    Each request has a number, which its answer must have too (else it counts as status -1), and is
    one record of the audit log; one that gets no answer counts as status 0.
    """
    subject = subjects(folder, asked)[-1]
    with ours(folder, subject, guarded=True, queue=16) as key:
        requests = subject.requests(key)
        capacity = rate(PORT, requests, 16)
        workers = 35  # More than a batch and the queue hold.
        load(PORT, requests, workers, min(30.0, asked.seconds / 4))
        logged = _logged(folder)
        before, statuses = _memory(), Counter[int]()
        ends = time.monotonic() + asked.seconds
        highest = before
        while time.monotonic() < ends:
            for status, count in load(PORT, requests, workers, 10.0, Numbered)[1].items():
                statuses[status] += count
            highest = max(highest, _memory())
        logged = _logged(folder) - logged
    tell(
        "serving",
        case="soak",
        model=subject.name,
        capacity_rps=round(capacity, 1),
        requests=sum(statuses.values()),
        statuses=dict(statuses),
        logged=dict(logged),
        is_each_logged_once=logged == +statuses,
        memory_growth=round(highest / before - 1, 4),
        seconds=asked.seconds,
        asked="only 200 and 503, nothing lost or doubled, memory within 5 %",
    )


def _logged(folder: Path) -> Counter[int]:
    """Return how many requests of each status the audit log has."""
    time.sleep(1.0)  # It is written 50 ms later.
    (log,) = folder.glob("*/audit.jsonl")
    records = map(json.loads, log.read_text().splitlines())
    return Counter(record["status"] for record in records if "status" in record)


def _memory() -> int:
    """Return the memory of the server and its workers, in bytes."""
    found = subprocess.run(
        ["pgrep", "-f", "modelwright(.serving.worker| serve)"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    pages = 0
    for number in found.stdout.split():
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{number}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def subjects(folder: Path, asked: argparse.Namespace) -> list[Subject]:
    """Return the models: one that does nothing, and those of the command line."""
    named = [item.partition("=") for item in asked.models]
    return [no_op(folder), *(subject_of(name, Path(path)) for name, _, path in named)]


CASES: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "latency": latency,
    "throughput": throughput,
    "batches": batches,
    "access": access,
    "soak": soak,
}


def main() -> None:
    """Measure what the command line names."""
    global BLOCK_S, BLOCKS
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", choices=[*CASES, []])
    parser.add_argument("--models", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--litserve", help="the Python of an environment with litserve")
    parser.add_argument("--bentoml", help="the Python of an environment with bentoml")
    parser.add_argument("--seconds", type=float, default=600.0, help="of the soak")
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    BLOCKS = asked.blocks
    if asked.quick:
        BLOCK_S, BLOCKS, asked.seconds = 0.5, 1, min(asked.seconds, 5.0)
    with tempfile.TemporaryDirectory() as folder:
        if len(CORES) > 1:
            os.sched_setaffinity(0, {CLIENT_CORE})
        for name in asked.cases or CASES:
            CASES[name](Path(folder), asked)


if __name__ == "__main__":
    main()
