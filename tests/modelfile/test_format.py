"""Laws of the format: canonical, readable for ever, refused where a single byte differs."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelwright import modelfile
from modelwright.errors import ModelFileError
from modelwright.ledger import Ledger
from modelwright.modelfile import container, contents, layout, strict, tensors
from modelwright.modelfile.manifest import CHUNK, LEDGER, Manifest
from tests.modelfile.making import FROZEN, LABELS, evidence, forge, members_of

FROZEN_DIGEST = "sha256:3bd96aae35e4625a6feda07b54c3a7f7aba2e17058d8b82d51b911ff0d046f64"
FROZEN_BYTES = "67dd8f6d6d8112fa8fe1aab9221d6b7908bdc0898b869d396264eb9077c9d983"
FROZEN_ANSWER = {1: 0.389091, 2: 0.240008, 0: 0.191576, 3: 0.179325}
RAW = FROZEN.read_bytes()


def refused(path: Path) -> ModelFileError:
    """Return the error of reading a file, which must be one that helps."""
    with pytest.raises(ModelFileError) as caught:
        modelfile.read(path)
    assert str(path) in str(caught.value)
    assert caught.value.what
    return caught.value


def test_the_frozen_file_of_format_1_is_read_as_ever() -> None:
    found = modelfile.read(FROZEN)
    assert found.spec.labels == LABELS
    assert found.spec.views == "flip"
    assert found.recipe == "version: 1\ndata: {source: digits}\n"
    assert found.data_card == {"train": 3, "labels": list(LABELS)}
    assert [record.metric for record in found.ledger] == ["accuracy"]
    assert found.lineage[0] == {"step": "train", "steps": 3}
    assert modelfile.digest(FROZEN) == FROZEN_DIGEST
    assert modelfile.verify(FROZEN).golden_samples == 8
    answers = modelfile.load(FROZEN).predict(np.full((4, 4, 1), 200, np.uint8))
    assert [answer["label"] for answer in answers] == [LABELS[k] for k in FROZEN_ANSWER]
    assert [answer["probability"] for answer in answers] == pytest.approx(
        list(FROZEN_ANSWER.values()), abs=1e-5
    )


def test_writing_what_was_read_gives_the_same_bytes(tmp_path: Path) -> None:
    modelfile.write(tmp_path / "again.mw", modelfile.read(FROZEN))
    assert (tmp_path / "again.mw").read_bytes() == RAW


def test_golden_bytes() -> None:
    """What this version writes is what every reader of format 1 expects, byte for byte."""
    import hashlib

    assert hashlib.sha256(RAW).hexdigest() == FROZEN_BYTES


def test_ordinary_zip_tools_read_it() -> None:
    with zipfile.ZipFile(FROZEN) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[-1] == "manifest.json"
        assert all(item.compress_type == zipfile.ZIP_STORED for item in archive.infolist())
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        members = {name: archive.read(name) for name in archive.namelist()[:-1]}
    assert members == members_of(FROZEN)


def test_members_are_aligned_and_where_the_layout_says() -> None:
    with container.open_container(FROZEN) as opened:
        entries = [member.entry for member in opened.manifest.members]
        plan = layout.lay_out(entries, b"")
        for entry, start in zip(entries, plan.starts, strict=True):
            assert start % layout.ALIGNMENT == 0
            assert RAW[start : start + entry.size] == opened.read(entry.name)


def outside_the_members() -> set[int]:
    with container.open_container(FROZEN) as opened:
        entries = [member.entry for member in opened.manifest.members]
        plan = layout.lay_out(entries, b"")
    inside = (
        range(start, start + entry.size) for start, entry in zip(plan.starts, entries, strict=True)
    )
    return set(range(len(RAW))) - {at for part in inside for at in part}


def flip_each(places: list[int], path: Path) -> None:
    path.write_bytes(RAW)
    with path.open("r+b", buffering=0) as stream:
        for at in places:
            stream.seek(at)
            stream.write(bytes([RAW[at] ^ 1 << at % 8]))
            refused(path)
            stream.seek(at)
            stream.write(RAW[at : at + 1])
    assert path.read_bytes() == RAW


def test_every_changed_byte_outside_the_members_is_refused(tmp_path: Path) -> None:
    flip_each(sorted(outside_the_members()), tmp_path / "changed.mw")


def test_changed_bytes_of_the_members_are_refused(tmp_path: Path) -> None:
    flip_each(list(range(0, len(RAW), 7)), tmp_path / "changed.mw")


@pytest.mark.slow
def test_every_changed_byte_is_refused(tmp_path: Path) -> None:
    flip_each(list(range(len(RAW))), tmp_path / "changed.mw")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    at=st.integers(0, len(RAW)),
    stop=st.integers(0, len(RAW)),
    new=st.binary(max_size=80),
)
def test_whatever_is_put_in_or_taken_out_is_refused(
    tmp_path: Path, at: int, stop: int, new: bytes
) -> None:
    changed = RAW[:at] + new + RAW[max(at, stop) :]
    path = tmp_path / "changed.mw"
    path.write_bytes(changed)
    if changed == RAW:
        modelfile.read(path)
    else:
        refused(path)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 21, 22, 100, len(RAW) // 2, len(RAW) - 1])
def test_a_file_that_was_cut_short(tmp_path: Path, length: int) -> None:
    path = tmp_path / "short.mw"
    path.write_bytes(RAW[:length])
    said = str(refused(path))
    assert ("cut short" in said) if length >= 4 else ("isn't a model file" in said)


@pytest.mark.parametrize(
    "junk", [b"hello, world\n" * 100, b"\x89PNG\r\n\x1a\n" + bytes(99), b"PK\x05\x06", bytes(200)]
)
def test_a_file_that_is_none(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "junk.mw"
    path.write_bytes(junk)
    assert "isn't a model file" in str(refused(path))


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "no such file" in str(refused(tmp_path / "none.mw"))
    assert "folder" in str(refused(tmp_path))


def test_a_newer_format_says_so(tmp_path: Path) -> None:
    path = tmp_path / "newer.mw"
    path.write_bytes(RAW.replace(b"file, format 1\n", b"file, format 2\n"))
    error = refused(path)
    assert "has format 2" in str(error)
    assert "Update modelwright" in error.fix


def test_a_newer_format_with_another_comment_says_so(tmp_path: Path) -> None:
    path = tmp_path / "newer.mw"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("anything", "at all")
        archive.comment = b"modelwright model file, format 12\nand what may follow"
    assert "has format 12" in str(refused(path))


def test_a_zip_that_is_no_model_file(tmp_path: Path) -> None:
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert "not a model file" in str(refused(path))


def test_evidence_is_replaced_and_the_model_stays(tmp_path: Path) -> None:
    path = tmp_path / "m.mw"
    shutil.copy(FROZEN, path)
    records = [evidence("accuracy", 0.5), evidence("f1_macro", 0.25, FROZEN_DIGEST)]
    modelfile.with_ledger(path, Ledger(records))
    assert modelfile.digest(path) == FROZEN_DIGEST
    assert list(modelfile.load(path).ledger) == records
    before, after = members_of(FROZEN), members_of(path)
    assert {name for name in before if before[name] != after[name]} == {LEDGER}
    modelfile.with_ledger(path, modelfile.read(FROZEN).ledger)
    assert path.read_bytes() == RAW


def test_evidence_that_is_no_number_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.mw"
    shutil.copy(FROZEN, path)
    with pytest.raises(ModelFileError, match="can't be written"):
        modelfile.with_ledger(path, Ledger([evidence(value=float("nan"))]))
    assert path.read_bytes() == RAW
    assert [item.name for item in tmp_path.iterdir()] == ["m.mw"]


def test_a_signature_is_held_beside_the_manifest(tmp_path: Path) -> None:
    """Signing comes later; the format already has its place, and readers check it."""
    path = tmp_path / "signed.mw"
    with container.open_container(FROZEN) as opened:
        manifest = opened.manifest
    container.write_container(path, members_of(FROZEN), manifest, signature=b'{"by":"me"}')
    report = modelfile.verify(path)
    assert report.is_signed
    assert report.digest == FROZEN_DIGEST
    with pytest.raises(ModelFileError, match="is signed"):
        modelfile.with_ledger(path, Ledger())
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'{"by":"me"}', b'{"by":"us"}'))
    assert "signature.json" in str(refused(path))


def test_members_are_read_in_parts_and_checked(tmp_path: Path) -> None:
    found = modelfile.read(FROZEN)
    large = np.arange(3 * CHUNK // 4 + 17, dtype=np.float32)
    path = tmp_path / "large.mw"
    modelfile.write(path, replace(found, weights=found.weights | {"large": large}))
    whole = members_of(path)["model/weights.safetensors"]
    assert len(whole) > 3 * CHUNK
    with container.open_container(path) as opened:
        name = "model/weights.safetensors"
        assert len(opened.manifest.member(name).chunks) == 4
        for start, stop in ((0, 5), (CHUNK - 3, CHUNK + 3), (CHUNK, 2 * CHUNK), (7, 7)):
            assert opened.read_range(name, start, stop) == whole[start:stop]
        with pytest.raises(ModelFileError):
            opened.read_range(name, 0, len(whole) + 1)
    raw = bytearray(path.read_bytes())
    raw[raw.index(large[: CHUNK // 4].tobytes()) + 2 * CHUNK] ^= 1
    path.write_bytes(raw)
    with container.open_container(path) as opened:
        assert opened.read_range(name, 0, CHUNK) == whole[:CHUNK]  # the first chunk is whole
        with pytest.raises(ModelFileError, match="has been changed"):
            opened.read(name)


def test_members_beyond_4_gib(tmp_path: Path) -> None:
    """The records of a large file, in one with holes: no disk is filled."""
    entries = [layout.Entry("a", 5 << 30, 1), layout.Entry("b", 0, 0), layout.Entry("c", 3, 2)]
    plan = layout.lay_out(entries, b"comment")
    path = tmp_path / "huge.zip"
    with path.open("wb") as stream:
        for at, gap in plan.gaps:
            stream.seek(at)
            stream.write(gap)
    assert path.stat().st_size == plan.total > 5 << 30
    with zipfile.ZipFile(path) as archive:
        assert [(item.filename, item.file_size) for item in archive.infolist()] == [
            (entry.name, entry.size) for entry in entries
        ]
        assert archive.comment == b"comment"
        assert archive.read("b") == b""
    with path.open("rb") as stream:
        end, comment = container._find_end(stream, plan.total)
        records = container._read_directory(stream, end, plan.total)
    assert comment == b"comment"
    assert [(record.name, record.size) for record in records] == [
        (entry.name, entry.size) for entry in entries
    ]
    assert all(start % layout.ALIGNMENT == 0 for start in plan.starts)


def test_the_manifest_round_trips() -> None:
    with container.open_container(FROZEN) as opened:
        assert Manifest.from_bytes(opened.manifest.to_bytes()) == opened.manifest


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
ARRAYS = st.dictionaries(
    NAMES.filter(lambda name: name != "__metadata__"),
    st.sampled_from(sorted(tensors.DTYPES)).flatmap(
        lambda kind: arrays.arrays(
            tensors.DTYPES[kind], arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)
        )
    ),
    max_size=5,
)


@settings(max_examples=100, deadline=None)
@given(ARRAYS)
def test_arrays_round_trip(held: tensors.Arrays) -> None:
    data = tensors.write_arrays(held, name="x")
    found = tensors.read_arrays(data, name="x")
    assert sorted(found) == sorted(held)
    for name, array in held.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    assert tensors.write_arrays(found, name="x") == data


def test_arrays_are_safetensors() -> None:
    from safetensors.numpy import load, save

    held = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.array(True),
        "c": np.array([], dtype=np.int64),
    }
    theirs = load(tensors.write_arrays(held, name="x"))
    assert {name: (a.dtype, a.tolist()) for name, a in theirs.items()} == {
        name: (a.dtype, a.tolist()) for name, a in held.items()
    }
    with pytest.raises(ModelFileError, match="canonical"):
        tensors.read_arrays(save({"b": held["b"], "a": held["b"]}, {"who": "x"}), name="x")


@pytest.mark.parametrize(
    "value", [np.array(["text"]), np.array([object()]), np.array([1j]), np.zeros(1, "M8[s]")]
)
def test_arrays_of_other_kinds_are_refused(value: np.ndarray) -> None:
    with pytest.raises(ModelFileError):
        tensors.write_arrays({"x": value}, name="x")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_arrays_are_read_or_refused(data: bytes) -> None:
    try:
        found = tensors.read_arrays(data, name="x")
    except ModelFileError:
        return
    assert tensors.write_arrays(found, name="x") == data


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a":1,"a":1}', "given twice"),
        ('{"b":1,"a":1}', "canonical"),
        ('{"a": 1}', "canonical"),
        ('{"a":NaN}', "JSON"),
        ('{"a":1e999}', "JSON"),
        ('{"a":"\\ud800"}', "JSON"),
        ("{", "JSON"),
        ("", "JSON"),
        ("[" * 40 + "]" * 40, "too deep"),
        ("[" * 200_000 + "]" * 200_000, "too deep"),
        ("1" * 5000, "JSON"),
        ('{"a":1.0e0}', "canonical"),
    ],
)
def test_json_is_canonical_or_refused(text: str, why: str) -> None:
    with pytest.raises(ModelFileError, match=why):
        strict.parse_json(text.encode(), name="x")


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    )
)
def test_json_round_trips(value: object) -> None:
    data = strict.json_member(value, name="x")
    assert strict.parse_json(data, name="x") == value


def test_describe_tells_what_inspect_shows() -> None:
    found = modelfile.describe(FROZEN)
    assert json.loads(json.dumps(found)) == found
    assert found["digest"] == FROZEN_DIGEST
    assert found["parameters"] == 16 * 4 + 4 + 4 * 4 + 4
    assert found["multiply_adds"] == 16 * 4 + 4 * 4
    assert found["file_bytes"] == len(RAW)
    assert found["size_bytes"] == sum(
        len(data) for name, data in members_of(FROZEN).items() if name.startswith("model/")
    )
    assert found["labels"] == list(LABELS)
    assert found["members"][0]["name"] == "model/spec.json"


def test_the_model_digest_is_of_all_under_model_and_of_nothing_else(tmp_path: Path) -> None:
    found = modelfile.read(FROZEN)
    path = tmp_path / "m.mw"
    modelfile.write(path, replace(found, recipe="version: 1\n", environment={"a": 1}))
    assert modelfile.digest(path) == FROZEN_DIGEST
    modelfile.write(path, replace(found, spec=replace(found.spec, views="none")))
    assert modelfile.digest(path) != FROZEN_DIGEST
    name = next(iter(found.weights))
    modelfile.write(path, replace(found, weights=found.weights | {name: found.weights[name] + 1}))
    assert modelfile.digest(path) != FROZEN_DIGEST


def test_contents_that_do_not_fit_together_are_not_written(tmp_path: Path) -> None:
    found, path = modelfile.read(FROZEN), tmp_path / "m.mw"
    golden = found.golden
    wrong = [
        replace(found, weights={}),
        replace(found, graphs={}),
        replace(found, graphs={**found.graphs, "second": found.graphs["main"]}),
        replace(found, golden=contents.Golden({}, golden.outputs, 1e-4)),
        replace(found, golden=contents.Golden(golden.inputs, {"logits": np.zeros((1, 4))}, 1e-4)),
        replace(found, data_card={"a": float("nan")}),
        replace(found, recipe="\ud800"),
        replace(found, spec=replace(found.spec, labels=("\ud800",))),
        replace(found, spec=replace(found.spec, shared={"x": "not there"})),
    ]
    for item in wrong:
        with pytest.raises(ModelFileError):
            modelfile.write(path, item)
        assert not any(tmp_path.iterdir())


def test_a_forger_who_changes_nothing_gets_the_file(tmp_path: Path) -> None:
    """The tool of the attack tests is sound."""
    assert forge(tmp_path / "m.mw", FROZEN).read_bytes() == RAW
