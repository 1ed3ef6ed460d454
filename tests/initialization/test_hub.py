"""The hub's files, from a server on this machine: what is asked, kept, checked and refused."""

from __future__ import annotations

import json
import threading

import pytest

from modelwright.errors import ModelwrightError, RecipeError, ResourceError
from modelwright.files import cache_folder, digest
from modelwright.initialization.hub import Hub, HubUnreachableError
from modelwright.initialization.hub_cache import cached, fetch
from modelwright.models.pretrained_io import read_shapes
from modelwright.recipe.model import TimmModel, TransformersModel
from modelwright.run import Progress
from tests.hub_server import Fault

REPO = "org/tiny"
HEADER = b'{"a": {"shape": [2, 3]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(range(256)) * 16_384  # 4 MiB
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"a pickle",
    "modeling.py": b"raise SystemExit",
    "README.md": b"# tiny",
    "onnx/model.safetensors": b"another",
    "../outside.safetensors": b"elsewhere",
}
NEEDED = ["config.json", "tokenizer.json", "model.safetensors"]
TRANSFORMERS = TransformersModel.files


@pytest.fixture
def commit(fake_hub):
    return fake_hub.put(REPO, FILES)


def brought(name=REPO, *, library=TRANSFORMERS, **options):
    """Fetch without waiting long."""
    known = Hub.from_environment()
    hub = Hub(known.endpoint, known.is_offline, timeout_s=0.4, waits_s=(0.0, 0.0))
    return fetch(name, library, hub=hub, **options)


def refused(name=REPO, kind=ModelwrightError, **options):
    with pytest.raises(kind) as caught:
        brought(name, **options)
    return str(caught.value)


def content(found):
    return {path.name: path.read_bytes() for path in found.folder.iterdir()}


def nothing_but_hubs_files():
    kept = [path.name for path in cache_folder().rglob("*") if path.is_file()]
    return set(kept) <= {*NEEDED, "files.json", "revisions.json", ".lock"}


# -- what is taken ---------------------------------------------------------------------------


def test_only_what_is_needed_is_downloaded_at_a_commit(fake_hub, commit):
    found = brought()
    assert (found.repo, found.revision, found.commit) == (REPO, "main", commit)
    assert found.folder.name == "tiny"
    assert content(found) == {name: FILES[name] for name in NEEDED}
    assert found.digests() == {name: digest(FILES[name]) for name in NEEDED}
    assert found.downloaded == tuple(NEEDED)
    assert fake_hub.downloads() == NEEDED
    assert all(f"/resolve/{commit}/" in path for path in fake_hub.paths() if "resolve" in path)
    assert nothing_but_hubs_files()


def test_nothing_else_is_asked_or_told(fake_hub, commit):
    brought()
    assert all(REPO in path for path in fake_hub.paths())
    for method, _, headers in fake_hub.asked:
        assert method == "GET"
        assert headers["user-agent"].startswith("modelwright/")
        assert "torch" not in headers["user-agent"]


def test_a_commit_that_is_here_is_taken_without_asking(fake_hub, commit):
    brought(f"{REPO}@{commit}")
    fake_hub.asked.clear()
    found = brought(f"{REPO}@{commit}")
    assert fake_hub.asked == []
    assert found.downloaded == ()
    assert found.digests() == cached(f"{REPO}@{commit}", TRANSFORMERS).digests()


def test_a_branch_is_asked_for_its_commit_and_downloaded_where_it_moved(fake_hub, commit):
    assert brought().commit == commit
    fake_hub.asked.clear()
    assert brought().downloaded == ()
    assert len(fake_hub.asked) == 1
    later = fake_hub.put(REPO, {**FILES, "tokenizer.json": b"[]"})
    assert brought().commit == later
    assert content(brought())["tokenizer.json"] == b"[]"
    assert brought(f"{REPO}@{commit}").downloaded == ()


def test_tags_branches_with_a_slash_and_short_hashes_are_revisions(fake_hub, commit):
    other = fake_hub.put(REPO, {**FILES, "config.json": b"{}"}, branch="refs/pr/1")
    assert brought(f"{REPO}@refs/pr/1").commit == other
    assert any("revision/refs%2Fpr%2F1" in path for path in fake_hub.paths())
    fake_hub.branches[REPO][commit[:7]] = commit
    assert brought(f"{REPO}@{commit[:7]}").commit == commit


def test_of_weights_the_header_alone_may_be_downloaded(fake_hub, commit):
    found = brought(with_weights=False)
    assert sorted(content(found)) == NEEDED[:2]
    assert (found.is_whole, found.missing_bytes) == (False, len(WEIGHTS))
    (path,) = found.weight_headers()
    assert len(HEADER) + 8 <= path.stat().st_size < len(WEIGHTS) / 4
    assert {name: list(item.shape) for name, item in read_shapes([path]).items()} == {"a": [2, 3]}
    whole = brought()
    assert (whole.is_whole, whole.missing_bytes) == (True, 0)
    assert whole.downloaded == ("model.safetensors",)


def test_weights_in_several_files_are_those_that_the_index_names(fake_hub):
    weight_map = {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}
    files = {
        "config.json": b"{}",
        "tokenizer.json": b"{}",
        "generation_config.json": b"{}",
        "model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode(),
        "model-1-of-2.safetensors": WEIGHTS[:100],
        "model-2-of-2.safetensors": WEIGHTS[:101],
        "model-3-of-2.safetensors": b"unused",
    }
    fake_hub.put(REPO, files)
    found = brought(with_weights=False)
    assert (found.missing_bytes, len(found.weight_headers())) == (201, 2)
    assert sorted(content(brought())) == sorted(set(files) - {"model-3-of-2.safetensors"})


@pytest.mark.parametrize(
    "index",
    [
        b'{"weight_map": {"a": "../outside.safetensors"}}',
        b'{"weight_map": {"a": "pytorch_model.bin"}}',
        b'{"weight_map": {"a": "not-there.safetensors"}}',
        b'{"weight_map": {}}',
        b'{"weight_map": {"a": 3}}',
        b"[]",
        b"no JSON",
    ],
)
def test_an_index_that_names_something_else_is_refused(index, fake_hub):
    files = {**FILES, "model.safetensors.index.json": index}
    del files["model.safetensors"]
    fake_hub.put(REPO, files)
    assert "`model.safetensors.index.json` of org/tiny names" in refused(kind=RecipeError)
    assert "pytorch_model.bin" not in fake_hub.downloads()


def test_where_the_list_says_neither_sizes_nor_digests_the_answers_do(fake_hub, commit):
    fake_hub.says_sizes = False
    fake_hub.faults["/cdn/"] = Fault(swap=bytes(len(WEIGHTS)), times=1)
    assert "Its SHA-256 begins with" in refused(kind=ResourceError)
    assert content(brought()) == {name: FILES[name] for name in NEEDED}


def test_progress_counts_the_bytes(fake_hub, commit):
    seen: list[Progress] = []
    brought(observe=seen.append)
    done = [it.done for it in seen if it.stage == "download" and it.total == len(WEIGHTS)]
    assert done == sorted(done)
    assert done[-1] == len(WEIGHTS)


# -- without a network -----------------------------------------------------------------------


def test_offline_what_is_here_is_taken(fake_hub, commit, monkeypatch):
    brought()
    fake_hub.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    seen: list[Progress] = []
    assert brought(f"{REPO}@{commit}", observe=seen.append).commit == commit
    assert not seen
    assert brought(observe=seen.append).commit == commit
    assert commit[:7] in seen[0].note
    assert "`main` of org/tiny is taken as what it was the last time" in seen[0].note
    assert fake_hub.asked == []


def test_offline_what_is_not_here_is_refused_with_the_way_out(fake_hub, commit, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = refused(kind=ResourceError)
    assert "HF_HUB_OFFLINE is set, and not all of org/tiny is in the cache" in text
    assert "modelwright fetch" in text
    assert fake_hub.asked == []


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(hang_s=1.0)])
def test_a_hub_that_fails_is_no_hindrance_once_it_is_here(fault, fake_hub, commit):
    brought()
    fake_hub.faults["/api/"] = fault
    assert brought().commit == commit


def test_no_network_is_said_at_once(fake_hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    text = refused(kind=HubUnreachableError)
    assert "http://127.0.0.1:1 can't be reached" in text
    assert "HF_ENDPOINT" in text
    assert "proxies" in text


@pytest.mark.parametrize("address", ["127.0.0.1:80", "nonsense", "ftp://127.0.0.1"])
def test_an_endpoint_that_is_no_address_is_said(address, fake_hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert "isn't the address of a hub" in refused(kind=ResourceError)


# -- what goes wrong on the way --------------------------------------------------------------


def test_a_connection_that_breaks_off_goes_on_where_it_was(fake_hub, commit):
    fake_hub.faults["/cdn/"] = Fault(cut=1_500_000, times=2)
    assert content(brought())["model.safetensors"] == WEIGHTS
    starts = [headers.get("range") for _, path, headers in fake_hub.asked if "/cdn/" in path]
    assert starts[0] is None
    assert len(starts) == 3
    assert starts == sorted(starts, key=lambda text: int((text or "bytes=0-")[6:-1]))


def test_a_download_goes_on_in_another_process(fake_hub, commit):
    fake_hub.faults["/cdn/"] = Fault(cut=300_000, times=3)
    text = refused(kind=HubUnreachableError)
    assert "the download goes on where it was" in text
    fake_hub.faults.clear()
    fake_hub.asked.clear()
    assert content(brought())["model.safetensors"] == WEIGHTS
    assert fake_hub.downloads() == ["model.safetensors"]
    (started,) = {headers["range"] for _, path, headers in fake_hub.asked if "/cdn/" in path}
    assert started != "bytes=0-"
    assert nothing_but_hubs_files()


def test_a_server_without_ranges_gives_the_whole_file_again(fake_hub, commit):
    fake_hub.takes_ranges = False
    fake_hub.faults["/cdn/"] = Fault(cut=1_500_000, times=1)
    assert content(brought())["model.safetensors"] == WEIGHTS


@pytest.mark.parametrize("part", [b"not the beginning", WEIGHTS + b"more", bytes(len(WEIGHTS))])
def test_a_wrong_beginning_is_noticed_and_thrown_away(part, fake_hub, commit):
    home = brought(with_weights=False).folder.parent
    (home / "model.safetensors.part").write_bytes(part)
    assert "isn't the file that the hub declares" in refused(kind=ResourceError)
    assert content(brought())["model.safetensors"] == WEIGHTS


@pytest.mark.parametrize(
    ("where", "name", "kind"),
    [
        ("/cdn/", "model.safetensors", "SHA-256"),
        ("/tokenizer.json", "tokenizer.json", "hash in git"),
    ],
)
def test_another_content_is_refused(where, name, kind, fake_hub, commit):
    swap = bytes(len(FILES[name]))
    fake_hub.faults[where] = Fault(swap=swap, times=1)
    text = refused(kind=ResourceError)
    assert f"`{name}` of org/tiny isn't the file that the hub declares, and isn't used" in text
    assert f"Its {kind} begins with" in text
    assert not (cache_folder() / "hub/org/tiny" / commit / "tiny" / name).exists()
    assert content(brought())[name] == FILES[name]


def test_a_file_that_is_longer_than_declared_is_refused(fake_hub, commit):
    fake_hub.faults["/config.json"] = Fault(swap=bytes(1000))
    assert "`config.json` of org/tiny is longer than the hub says" in refused(kind=ResourceError)


def test_an_answer_about_another_commit_is_refused(fake_hub, commit):
    fake_hub.faults["/config.json"] = Fault(commit="0" * 40)
    assert "gave another `config.json`" in refused(kind=ResourceError)


def test_an_answer_about_another_file_is_refused(fake_hub, commit):
    fake_hub.faults["/resolve/"] = Fault(swap=FILES["config.json"])
    text = refused(library=TimmModel.files, kind=ResourceError)
    assert "gave another `model.safetensors`" in text


def test_a_file_of_the_cache_that_was_changed_is_downloaded_again(fake_hub, commit, monkeypatch):
    path = brought().folder / "model.safetensors"
    path.write_bytes(bytes(len(WEIGHTS)))
    assert brought(f"{REPO}@{commit}").downloaded == ("model.safetensors",)
    assert path.read_bytes() == WEIGHTS
    path.unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "not all of org/tiny is in the cache" in refused(f"{REPO}@{commit}")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401, "RepoNotFound"), ["has no org/tiny, or it is private", "no token was sent"]),
        (Fault(404), ["has no org/tiny, or it is private", "answered 404"]),
        (Fault(404, "RevisionNotFound"), ["org/tiny has no such revision", "branches and commits"]),
        (Fault(401, "GatedRepo"), ["org/tiny is gated", "no token", "Agree at", "HF_TOKEN"]),
        (Fault(403, "GatedRepo"), ["org/tiny is gated"]),
        (Fault(403), ["org/tiny is gated"]),
        (
            Fault(401, message="Invalid credentials in Authorization header"),
            ["doesn't accept the token", "HF_TOKEN"],
        ),
        (Fault(500), ["answered 500", "Try again later"]),
        (Fault(429), ["answered 429", "asked too often"]),
        (Fault(418), ["answered 418 when asked for org/tiny"]),
        (Fault(swap=b"<html>Log in</html>"), ["isn't that of a hub", "proxy"]),
        (Fault(swap=b'{"sha": "main", "siblings": []}'), ["isn't that of a hub"]),
        (Fault(cut=5), ["broke off"]),
        (Fault(hang_s=1.0), ["didn't answer for 0.4 s", "HF_HUB_DOWNLOAD_TIMEOUT"]),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(fault, words, fake_hub, commit):
    fake_hub.faults["/api/"] = fault
    text = refused()
    assert all(word in text for word in words), text
    assert len(fake_hub.asked) <= 3


@pytest.mark.parametrize("fault", [Fault(401), Fault(403), Fault(500), Fault(hang_s=1.0)])
def test_a_file_that_is_refused_ends_the_same_way(fault, fake_hub, commit):
    fake_hub.faults["/cdn/"] = fault
    text = refused(kind=HubUnreachableError)
    assert fault.status >= 500 or fault.hang_s or f"the storage behind {fake_hub.url}" in text
    fake_hub.faults.clear()
    assert brought().is_whole


def test_a_list_that_names_what_is_not_there_is_said(fake_hub, commit):
    fake_hub.faults["/tokenizer.json"] = Fault(404, "EntryNotFound")
    assert "org/tiny lacks a file that its list names" in refused(kind=RecipeError)


def test_a_fault_that_passes_is_waited_out(fake_hub, commit):
    fake_hub.faults["/api/"] = Fault(status=500, times=2)
    fake_hub.faults["/cdn/"] = Fault(hang_s=1.0, times=1)
    assert brought().is_whole


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"model.safetensors": None}, ["no weights as safetensors", "`pytorch_model.bin` isn't"]),
        ({"tokenizer.json": None}, ["has no `tokenizer.json`", "slow tokenizers"]),
        ({"config.json": None}, ["has no `config.json`"]),
    ],
)
def test_a_repository_that_lacks_what_is_needed_is_refused_before_downloads(files, words, fake_hub):
    fake_hub.put(REPO, {name: data for name, data in FILES.items() if name not in files})
    text = refused(kind=RecipeError)
    assert all(word in text for word in words), text
    assert fake_hub.downloads() == []


@pytest.mark.parametrize("weights", [b"\xff" * 3_000, b"\xff" * 8])
def test_weights_that_do_not_begin_as_safetensors_are_refused_early(weights, fake_hub):
    fake_hub.put(REPO, {**FILES, "model.safetensors": weights})
    text = refused(kind=RecipeError, with_weights=False)
    assert "`model.safetensors` of org/tiny isn't a file of safetensors" in text


@pytest.mark.parametrize(
    "header",
    [b"no JSON", b"[]", b'{"a": 3}', b'{"a": {"shape": "x"}}', b'{"a": {"shape": [-1]}}', b"{" * 9],
)
def test_a_header_that_is_damaged_is_refused(header, tmp_path):
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(RecipeError, match="this file of weights is damaged"):
        read_shapes([tmp_path / "w"])


def test_an_index_is_nothing_for_timm(fake_hub):
    files = {"config.json": b"{}", "model.safetensors.index.json": b"{}"}
    fake_hub.put(REPO, files)
    assert "no weights as safetensors" in refused(kind=RecipeError, library=TimmModel.files)


# -- the environment -------------------------------------------------------------------------


def test_the_token_goes_to_the_hub_and_to_nobody_else(fake_hub, commit, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    brought()
    assert any("/cdn/" in path for path in fake_hub.paths())
    for _, path, headers in fake_hub.asked:
        assert ("authorization" in headers) == ("/cdn/" not in path)
    monkeypatch.setenv("HF_TOKEN", "hf_\x01secret")
    assert "secret" not in refused(f"{REPO}@other")


def test_a_refusal_says_whether_a_token_was_set(fake_hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    text = refused(kind=RecipeError)
    assert "a token was sent" in text
    assert "hf_secret" not in text


def test_a_proxy_is_asked_in_place_of_the_hub(fake_hub, commit, monkeypatch):
    from huggingface_hub import close_session

    monkeypatch.setenv("HTTP_PROXY", fake_hub.url)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    close_session()
    assert brought().is_whole
    assert fake_hub.paths()[0].startswith("http://hub.invalid/api/models/org/tiny")


@pytest.mark.parametrize("record", [b"", b"[3]", b'{"config.json": {"x": 1}}'])
def test_a_damaged_record_of_the_cache_is_written_anew(record, fake_hub, commit):
    for path in (
        brought().folder.parent / "files.json",
        cache_folder() / "hub/org/tiny/revisions.json",
    ):
        path.write_bytes(record)
    assert brought(f"{REPO}@{commit}").is_whole
    assert brought().is_whole


def test_two_at_once_download_each_file_once(fake_hub, commit):
    found = []
    fake_hub.faults["/cdn/"] = Fault(hang_s=0.1, times=1)
    both = [threading.Thread(target=lambda: found.append(brought())) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert all(item.is_whole for item in found)
    assert sorted(fake_hub.downloads()) == sorted(NEEDED)
