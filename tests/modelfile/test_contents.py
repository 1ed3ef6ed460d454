"""A model file as one value: read whole, written again, its evidence and signature replaced."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelwright import modelfile
from modelwright.errors import ModelFileError, RequestError, ResourceError
from modelwright.files import digest, read_json
from modelwright.ledger import Ledger
from modelwright.modelfile import contents
from modelwright.modelfile.encoding import Encoded
from modelwright.modelfile.manifest import LEDGER
from modelwright.tasks.inference import Inference
from tests.modelfile.making import (
    FROZEN,
    KNOWN,
    LABELS,
    PICTURE,
    evidence,
    members_of,
    signed,
    text_candidate,
)

RAW = FROZEN.read_bytes()
FROZEN_FACTS = read_json(KNOWN)
FROZEN_DIGEST = FROZEN_FACTS["digest"]


def test_the_frozen_file_is_read_as_ever() -> None:
    """Where the format has changed, `python -m tests.modelfile.making` makes it anew."""
    found = modelfile.read(FROZEN)
    assert found.spec.labels == LABELS
    assert found.spec.inference.tta == "flip"
    assert found.recipe == "version: 1\ndata: {source: digits}\n"
    assert found.data_card == {"train": 3, "labels": list(LABELS)}
    assert [record.metric for record in found.ledger] == ["accuracy"]
    assert found.artefacts == {"curve.svg": PICTURE}
    assert found.lineage[0] == {"step": "train", "steps": 3}
    assert list(found.spec.encoded) == ["body.head.weight"]
    assert modelfile.digest(FROZEN) == FROZEN_DIGEST
    assert modelfile.verify(FROZEN).golden_samples == 8
    answers = modelfile.load(FROZEN).predict(np.full((4, 4, 1), 200, np.uint8))
    expected = {LABELS[int(at)]: value for at, value in FROZEN_FACTS["answers"].items()}
    assert [answer["label"] for answer in answers] == list(expected)
    assert [answer["probability"] for answer in answers] == pytest.approx(
        list(expected.values()), abs=1e-5
    )


def test_the_frozen_file_is_as_it_was_written() -> None:
    """What this version writes is what every reader of the format expects, byte for byte."""
    assert digest(RAW) == FROZEN_FACTS["bytes"]


def test_writing_what_was_read_gives_the_same_bytes(tmp_path: Path) -> None:
    for path in (FROZEN, signed(tmp_path / "signed.mw", b"a signature")):
        modelfile.write(tmp_path / "again.mw", modelfile.read(path))
        assert (tmp_path / "again.mw").read_bytes() == path.read_bytes()


def test_evidence_is_replaced_and_the_model_stays(tmp_path: Path) -> None:
    path = tmp_path / "m.mw"
    shutil.copy(FROZEN, path)
    records = [evidence("accuracy", 0.5), evidence("f1_macro", 0.25, FROZEN_DIGEST)]
    modelfile.with_ledger(path, Ledger(records))
    assert modelfile.digest(path) == FROZEN_DIGEST
    assert list(modelfile.load(path).ledger) == records
    before, after = members_of(FROZEN), members_of(path)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed == {LEDGER, "artefacts/curve.svg"}
    modelfile.with_ledger(path, modelfile.read(FROZEN).ledger, artefacts={"curve.svg": PICTURE})
    assert path.read_bytes() == RAW


def test_artefacts_that_are_still_named_stay(tmp_path: Path) -> None:
    path, more = tmp_path / "m.mw", b"another picture"
    shutil.copy(FROZEN, path)
    records = [evidence(curve=PICTURE), evidence("f1_macro", 0.25, curve=PICTURE, other=more)]
    modelfile.with_ledger(path, Ledger(records), artefacts={"other.svg": more})
    assert modelfile.read(path).artefacts == {"curve.svg": PICTURE, "other.svg": more}
    assert modelfile.verify(path).artefacts == 2
    assert modelfile.digest(path) == FROZEN_DIGEST
    assert dict(next(iter(modelfile.load(path).ledger)).artefacts) == {
        "curve.svg": modelfile.member_digest(PICTURE)
    }


@pytest.mark.parametrize(
    ("records", "artefacts", "why"),
    [
        ([evidence(other=PICTURE)], {}, "isn't there"),
        ([evidence(other=PICTURE)], {"other.svg": b"x"}, "isn't the one"),
        ([evidence(curve=PICTURE), evidence(curve=b"x")], {}, "isn't the one"),
        ([evidence()], {"other.svg": b"x"}, "no evidence names"),
        ([evidence(Upper=b"x")], {"Upper.svg": b"x"}, "no member"),
    ],
)
def test_evidence_and_artefacts_that_do_not_fit_leave_the_file_alone(
    tmp_path: Path, records: list, artefacts: dict[str, bytes], why: str
) -> None:
    path = tmp_path / "m.mw"
    shutil.copy(FROZEN, path)
    with pytest.raises(ModelFileError, match=why):
        modelfile.with_ledger(path, Ledger(records), artefacts=artefacts)
    assert path.read_bytes() == RAW


def test_evidence_that_is_no_number_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.mw"
    shutil.copy(FROZEN, path)
    with pytest.raises(ModelFileError, match="can't be written"):
        modelfile.with_ledger(path, Ledger([evidence(value=float("nan"))]))
    assert path.read_bytes() == RAW
    assert [item.name for item in tmp_path.iterdir()] == ["m.mw"]


def test_a_signature_is_written_replaced_and_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "m.mw"
    shutil.copy(FROZEN, path)
    modelfile.with_signature(path, b"first")
    modelfile.with_signature(path, b'{"payload": "second"}')
    assert modelfile.read(path).signature == b'{"payload": "second"}'
    assert members_of(path) == members_of(FROZEN)
    assert modelfile.digest(path) == FROZEN_DIGEST
    before = path.read_bytes()
    with pytest.raises(ModelFileError, match="is signed"):
        modelfile.with_ledger(path, Ledger())
    with pytest.raises(ModelFileError, match="can't be written"):
        modelfile.with_signature(path, b"")
    assert path.read_bytes() == before
    modelfile.with_signature(path, None)
    assert path.read_bytes() == RAW


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


def test_describe_refuses_a_file_of_which_any_member_is_damaged() -> None:
    for name, data in members_of(FROZEN).items():
        at = RAW.find(data)
        damaged = RAW[:at] + bytes([RAW[at] ^ 1]) + RAW[at + 1 :]
        with pytest.raises(ModelFileError, match=re.escape(name) + "|manifest"):
            modelfile.describe(damaged)


def test_the_model_digest_is_of_all_under_model_and_of_nothing_else(tmp_path: Path) -> None:
    found = modelfile.read(FROZEN)
    path = tmp_path / "m.mw"
    modelfile.write(path, replace(found, recipe="version: 1\n", environment={"a": 1}))
    assert modelfile.digest(path) == FROZEN_DIGEST
    modelfile.write(path, replace(found, spec=replace(found.spec, inference=Inference())))
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
        replace(found, spec=replace(found.spec, encoded={"x": Encoded("zstd", "F32", (2,))})),
        replace(found, artefacts={}),
        replace(found, artefacts={"curve.svg": b"another"}),
        replace(found, artefacts={**found.artefacts, "more.svg": b""}),
        replace(found, signature=b""),
    ]
    for item in wrong:
        with pytest.raises(ModelFileError):
            modelfile.write(path, item)
        assert not any(tmp_path.iterdir())


def test_weights_are_read_decoded() -> None:
    stored, whole = modelfile.read(FROZEN).weights, modelfile.read_weights(FROZEN)
    assert stored["body.head.weight"].dtype == np.uint8
    assert whole["body.head.weight"].dtype == np.float32
    assert whole["body.head.weight"].shape == (4, 4)
    assert stored.keys() == whole.keys()


def test_neighbours_are_those_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "bow.mw"
    modelfile.write_model(path, text_candidate())
    table = modelfile.read_weights(path)["embedding.weight"]
    found = modelfile.neighbours(path.read_bytes(), "cat", count=2)
    words = modelfile.load(path).input.tokenizer
    vectors = table / np.linalg.norm(table, axis=1, keepdims=True)
    number = words.encode(["cat"])[0][0]
    near = vectors[4 : words.size] @ vectors[number]
    near[number - 4] = -2
    best = int(near.argmax())
    assert found[0][0] == words.token(best + 4)
    assert found[0][1] == pytest.approx(float(near[best]), abs=1e-5)
    with pytest.raises(RequestError):
        modelfile.neighbours(path, "zebra")
    with pytest.raises(ModelFileError, match="no vectors of words") as caught:
        modelfile.neighbours(FROZEN, "cat")
    assert caught.value.where == str(FROZEN)


FULL = """
import resource, signal, sys
from pathlib import Path
from modelwright import modelfile
from modelwright.errors import ResourceError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
contents = modelfile.read(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    modelfile.write(Path(sys.argv[2]), contents)
except ResourceError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit of a file's size")
def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.mw"
    path.write_bytes(b"what stood here before")
    found = subprocess.run(
        [sys.executable, "-c", FULL, FROZEN, path], capture_output=True, text=True, check=True
    )
    assert str(path) in found.stdout
    assert path.read_bytes() == b"what stood here before"
    assert [item.name for item in tmp_path.iterdir()] == ["m.mw"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_bytes(b"")
    with pytest.raises(ResourceError):
        modelfile.write(blocker / "m.mw", modelfile.read(FROZEN))
