"""A server in trouble: workers that die, files that change, signals, too many requests."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections import Counter

import httpx
import pytest

from modelwright import modelfile
from tests.modelfile.making import candidate, text_candidate
from tests.serving.running import START_S, serving

PATH = "/v1/models/texts:predict"


class Load:
    """Clients that ask numbered questions until they are told to end."""

    def __init__(self, url: str, clients: int = 4) -> None:
        self.url, self.ended = url, threading.Event()
        self.answers: list[tuple[int, int, str]] = []
        """For each: the client's number, the status, and what was echoed."""
        self.unanswered: list[str] = []
        """Requests that were sent and got no answer."""
        self.refused = 0
        """Connections that weren't taken."""
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(clients)
        ]

    def _ask(self, number: int) -> None:
        count = 0
        with httpx.Client(base_url=self.url, timeout=START_S) as client:
            while not self.ended.is_set():
                text, count = f"question {number} {count}", count + 1
                try:
                    answer = client.post(PATH, json={"input": text})
                except httpx.ConnectError:
                    self.refused += 1
                    return
                except httpx.TransportError as error:
                    self.unanswered.append(f"{type(error).__name__} {text}")
                    continue
                echoed = answer.json()[0]["input"] if answer.status_code == 200 else text
                self.answers.append((number, answer.status_code, echoed))
                if echoed != text:
                    self.unanswered.append(f"{echoed} for {text}")

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self._threads:
            thread.join()

    def wait(self, more: int) -> None:
        """Wait until so many more are answered."""
        until, limit = len(self.answers) + more, time.monotonic() + START_S
        while len(self.answers) < until and time.monotonic() < limit:
            time.sleep(0.01)

    @property
    def statuses(self) -> Counter[int]:
        return Counter(status for _, status, _ in self.answers)


@pytest.fixture
def texts(models, tmp_path):
    """Return a file that the test may replace."""
    (tmp_path / "texts").mkdir()
    return shutil.copy(models / "texts" / "model.mw", tmp_path / "texts" / "model.mw")


def test_workers_that_are_killed_lose_no_request(texts, tmp_path):
    with (
        serving(tmp_path, texts, "--workers", "2") as running,
        Load(running.url) as load,
    ):
        for _ in range(3):
            load.wait(20)
            os.kill(running.workers()[0], signal.SIGKILL)
        load.wait(20)
        load.ended.set()
    assert set(load.statuses) == {200}
    assert not load.unanswered
    assert running.events("worker_lost")


def test_a_worker_that_died_idle_is_replaced(texts, tmp_path):
    with serving(tmp_path, texts, "--workers", "1") as running:
        os.kill(running.workers()[0], signal.SIGKILL)
        assert running.client.post(PATH, json={"input": "a"}).status_code == 200


def test_sigterm_answers_what_was_accepted(texts, tmp_path):
    with serving(tmp_path, texts, "--workers", "1") as running, Load(running.url) as load:
        load.wait(20)
        workers = running.workers()
        assert running.stop() == 0
    assert set(load.statuses) == {200}
    assert not load.unanswered
    assert load.refused
    assert not [number for number in workers if os.path.exists(f"/proc/{number}")]  # noqa: PTH110


def test_a_file_that_changes_is_loaded_while_requests_go_on(texts, tmp_path):
    with serving(tmp_path, texts, "--workers", "1") as running:
        before = running.client.get("/v1/models/texts").json()["digest"]
        other = text_candidate()
        for parameter in other.network.parameters():
            parameter.data += 0.25
        modelfile.write_model(tmp_path / "new.mw", other, recipe="version: 1\n")
        with Load(running.url) as load:
            load.wait(10)
            os.replace(tmp_path / "new.mw", texts)  # noqa: PTH105
            limit = time.monotonic() + START_S
            while time.monotonic() < limit:
                card = running.client.get("/v1/models/texts").json()
                if card["digest"] != before:
                    break
                time.sleep(0.05)
            load.wait(10)
        assert card["digest"] != before
        assert len(card["versions"]) == 1
        assert set(load.statuses) == {200}
        assert not load.unanswered


def test_a_file_of_another_model_is_refused_and_the_old_goes_on(texts, tmp_path):
    with serving(tmp_path, texts, "--workers", "1") as running:
        modelfile.write_model(tmp_path / "new.mw", candidate())
        os.replace(tmp_path / "new.mw", texts)  # noqa: PTH105
        answer = running.client.post("/v1/models/texts:reload")
        refused = answer.status_code == 409 or bool(running.events("reload_refused"))
        assert refused, answer.text
        assert running.client.post(PATH, json={"input": "a"}).status_code == 200
        (tmp_path / "broken.mw").write_bytes(b"PK nothing")
        os.replace(tmp_path / "broken.mw", texts)  # noqa: PTH105
        running.client.post("/v1/models/texts:reload")
        assert running.client.post(PATH, json={"input": "a"}).status_code == 200


def test_more_than_the_queue_holds_is_answered_with_503(texts, tmp_path):
    settings = f"models: [{{path: {texts}, queue: 1, workers: 1, max_batch: 1}}]\n"
    with serving(tmp_path, settings=settings) as running:
        os.kill(running.workers()[0], signal.SIGSTOP)
        with Load(running.url, clients=6) as load:
            load.wait(8)
            os.kill(running.workers()[0], signal.SIGCONT)
            load.wait(20)
        assert set(load.statuses) == {200, 503}
        assert not load.unanswered


def test_an_answer_that_does_not_come_in_time_is_503(texts, tmp_path):
    with serving(tmp_path, texts, "--workers", "1", settings="timeout_s: 0.5\n") as running:
        (worker,) = running.workers()
        os.kill(worker, signal.SIGSTOP)
        answer = running.client.post(PATH, json={"input": "a"})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        os.kill(worker, signal.SIGCONT)
        for _ in range(20):
            answer = running.client.post(PATH, json={"input": "a"})
            if answer.status_code == 200:
                break
        assert answer.status_code == 200


def test_a_worker_that_hangs_is_replaced(texts, tmp_path):
    settings = f"models: [{{path: {texts}, workers: 1, batch_timeout_s: 0.5}}]\n"
    with serving(tmp_path, settings=settings) as running:
        os.kill(running.workers()[0], signal.SIGSTOP)
        assert running.client.post(PATH, json={"input": "a"}).status_code == 500
        assert running.client.post(PATH, json={"input": "a"}).status_code == 200


def test_the_server_that_is_killed_leaves_no_worker(texts, tmp_path):
    with serving(tmp_path, texts, "--workers", "2") as running:
        workers = running.workers()
        running.process.kill()
        running.process.wait()
        limit = time.monotonic() + START_S
        while time.monotonic() < limit and any(_lives(number) for number in workers):
            time.sleep(0.05)
        assert not any(_lives(number) for number in workers)


def _lives(number: int) -> bool:
    try:
        with open(f"/proc/{number}/stat") as stream:  # noqa: PTH123
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_versions_of_one_model(models, tmp_path):
    path = models / "texts" / "model.mw"
    settings = "models:\n" + "".join(
        f"  - {{path: {path}, name: texts, version: '{version}', workers: 1}}\n"
        for version in (1, 2)
    )
    with serving(tmp_path, settings=settings) as running:
        card = running.client.get("/v1/models/texts").json()
        assert card["versions"] == ["1", "2"]
        assert running.client.post(f"{PATH}?version=1", json={"input": "a"}).status_code == 200
        assert running.client.get("/v2/models/texts/versions/2/ready").status_code == 200


def test_answers_that_are_rounded_and_cut(models, tmp_path):
    path = models / "images" / "model.mw"
    guard = "{digits: 1, top: 1}"
    settings = f"models: [{{path: {path}, workers: 1, answers: {guard}}}]\n"
    with serving(tmp_path, settings=settings) as running:
        import base64
        import io

        from PIL import Image

        stream = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(stream, "PNG")
        sent = base64.b64encode(stream.getvalue()).decode()
        answer = running.client.post("/v1/models/images:predict", json={"input": sent, "top": 4})
        ((told,),) = [item["predictions"] for item in answer.json()]
        assert round(told["probability"], 1) == told["probability"]
        tensor = {"name": "pixels", "shape": [0, 8, 8, 3], "datatype": "UINT8", "data": []}
        answer = running.client.post("/v2/models/images/infer", json={"inputs": [tensor]})
        assert answer.status_code == 403


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (["nothing.mw"], "", "nothing.mw"),
        ([], "", "no model is named"),
        ([], "modles: []\n", "modles"),
        (["x.mw", "--host", "0.0.0.0"], "", "no key"),
        (["x.mw", "--host", "0.0.0.0", "--no-auth"], "", "reached from elsewhere"),
        (["x.mw", "--workers", "0"], "", "workers"),
    ],
)
def test_a_server_that_cannot_start_says_why(arguments, settings, words, tmp_path):
    with (
        pytest.raises(AssertionError, match=words) as raised,
        serving(tmp_path, *arguments, settings=settings),
    ):
        pass
    assert "Traceback" not in str(raised.value)


def test_a_port_that_is_taken_is_said(server, models, tmp_path):
    port = server.url.rpartition(":")[2]
    with (
        pytest.raises(AssertionError, match=f"port {port}"),
        serving(tmp_path, models / "texts" / "model.mw", "--port", port),
    ):
        pass


def _wait_until(condition, what="it"):
    limit = time.monotonic() + START_S
    while time.monotonic() < limit:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} didn't happen")


def test_a_worker_that_starts_later_serves_the_file_that_was_loaded(texts, tmp_path):
    with serving(tmp_path, texts, "--workers", "1") as running:
        before = running.client.post(PATH, json={"input": "a"}).json()
        modelfile.write_model(tmp_path / "new.mw", candidate())  # Another task: it is refused.
        os.replace(tmp_path / "new.mw", texts)  # noqa: PTH105
        _wait_until(lambda: running.events("reload_refused"), "the refusal")
        os.kill(running.workers()[0], signal.SIGKILL)
        assert running.client.post(PATH, json={"input": "a"}).json() == before


def test_a_worker_that_dies_is_replaced_without_a_request(texts, tmp_path):
    with serving(tmp_path, texts, "--workers", "1") as running:
        os.kill(running.workers()[0], signal.SIGKILL)
        _wait_until(lambda: running.events("worker_lost"), "the loss")
        _wait_until(lambda: running.client.get("/readyz").status_code == 200, "readiness")


def test_sigterm_ends_a_server_whose_worker_cannot_start_again(texts, tmp_path):
    with serving(tmp_path, texts, "--workers", "1", settings="timeout_s: 1\n") as running:
        with open(texts, "r+b") as stream:  # noqa: PTH123
            stream.write(b"nothing")  # In place, so that the file that is held open has it too.
        os.kill(running.workers()[0], signal.SIGKILL)
        assert running.client.post(PATH, json={"input": "a"}).status_code == 503
        assert running.stop() == 0


def test_a_body_that_comes_while_a_file_is_replaced_is_answered(texts, tmp_path):
    with serving(tmp_path, texts, "--workers", "1") as running:
        body = b'{"input": "the cat"}'
        head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=START_S) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:5])
            before = running.client.get("/v1/models/texts").json()["digest"]
            other = text_candidate()
            for parameter in other.network.parameters():
                parameter.data += 0.25
            modelfile.write_model(tmp_path / "new.mw", other, recipe="version: 1\n")
            os.replace(tmp_path / "new.mw", texts)  # noqa: PTH105
            _wait_until(
                lambda: running.client.get("/v1/models/texts").json()["digest"] != before, "reload"
            )
            client.sendall(body[5:])
            assert b"200 OK" in client.recv(4096)


def test_a_version_that_is_loaded_anew_keeps_its_place(models, tmp_path):
    first = shutil.copy(models / "texts" / "model.mw", tmp_path / "first.mw")
    settings = "models:\n" + "".join(
        f"  - {{path: {path}, name: texts, version: '{version}', workers: 1}}\n"
        for version, path in ((1, first), (2, models / "texts" / "model.mw"))
    )
    with serving(tmp_path, settings=settings) as running:
        os.utime(first)
        _wait_until(lambda: len(running.events("model_loaded")) == 3, "reload")
        assert running.client.get("/v1/models/texts").json()["versions"] == ["1", "2"]
        broken = tmp_path / "broken.mw"
        broken.write_bytes(b"PK nothing")
        os.replace(broken, first)  # noqa: PTH105
        for _ in range(2):
            assert running.client.post("/v1/models/texts:reload").status_code == 409


HEAD = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n".encode()
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


ENDLESS = [
    (HEAD + b"X-Long: ", b"a" * 32_768),
    (HEAD, b"X-Header: of many\r\n" * 2000),
    (b"GET /", b"a" * 32_768),
    (CHUNKED + b'5\r\n{"inp\r\n5;', b"a" * 32_768),
    (CHUNKED + b'5\r\n{"inp\r\n0\r\nX-Trailer: ', b"a" * 32_768),
]
"""One header, many of them, an address, what may stand behind a chunk's size, a trailer."""


def test_what_is_no_body_has_a_bound_and_a_trailer_is_no_header(texts, tmp_path):
    body = json.dumps({"input": "the cat " * 4000}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    with serving(tmp_path, texts, "--workers", "1", "--no-auth") as running:
        host, port = running.url.removeprefix("http://").split(":")
        for begin, piece in ENDLESS:
            with socket.create_connection((host, int(port)), timeout=START_S) as client:
                client.sendall(begin)
                with contextlib.suppress(ConnectionError):
                    for _ in range(1000):
                        client.sendall(piece)
                    pytest.fail("32 MB were taken")
        with socket.create_connection((host, int(port)), timeout=START_S) as client:
            client.sendall(CHUNKED + chunks + b"0\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        # In one piece, so that the trailer is read before the key is looked for.
        with socket.create_connection((host, int(port)), timeout=START_S) as client:
            trailer = b"0\r\nAuthorization: Bearer mw_no\r\n\r\n"
            client.sendall(CHUNKED + b'10\r\n{"input":"cats"}\r\n' + trailer)
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
