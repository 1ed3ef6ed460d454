"""Speech from a table to a file, measured on another table, and trained further for new letters."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from modelwright import modelfile
from modelwright.data.waves import as_wav
from modelwright.errors import ModelFileError
from modelwright.files import canonical_json
from modelwright.kinds import OutputKind
from modelwright.pipeline import evaluate, run
from modelwright.tasks import TASKS
from modelwright.tasks.speech_recognition import CharacterLM

RATE = 8000
RECIPE = """\
version: 1
task: speech-recognition
data:
  source: table
  path: {name}.csv
  audio: clip
  label: digit
  rename: {{"0": {zero}, "1": one}}
audio: {{n_mels: 16}}
model: {model}
train: {{epochs: 1, batch_size: 8, precision: fp32, compile: off}}
inference: {{language_model: {{order: 3, weight: 2.0}}}}
evaluate: {{latency: false}}
resources: {{threads: 1}}
"""


def table(folder, name, *, first=0, count=40, short=()):
    """Write recordings of two digits and a table that names them; some are of a single step."""
    rows = [["clip", "digit"]]
    for at in range(first, first + count):
        size = 150 if at in short else 4000
        pitch = np.sin(np.arange(size) * (0.3 + 0.4 * (at % 2)))
        noise = np.random.default_rng(at).normal(0, 300, size)
        (folder / f"{at}.wav").write_bytes(as_wav((8000 * pitch + noise).astype(np.int16), RATE))
        rows.append([f"{at}.wav", at % 2])
    with (folder / f"{name}.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    here = tmp_path_factory.mktemp("speech")
    table(here, "digits", short=range(6))
    model = "{name: rnn-ctc, channels: 4, hidden: 8, layers: 1}"
    (here / "first.yaml").write_text(RECIPE.format(name="digits", zero="zero", model=model))
    return here, run(here / "first.yaml", out=here / "runs")


def test_sounds_too_short_for_their_texts_are_counted(finished):
    _, result = finished
    (note,) = [note for note in result.notes if "more characters than their recordings" in note]
    assert int(note.split()[1]) in range(1, 7)
    assert result.notes.count(note) == 1


def test_the_letters_and_errors_are_in_the_file(finished):
    _, result = finished
    assert modelfile.load(result.model).labels == tuple("enorz")
    metrics = {record.metric: record for record in result.ledger}
    assert metrics["wer"].low <= metrics["wer"].value <= metrics["wer"].high
    assert metrics["cer"].n == metrics["wer"].n


def test_another_table_is_measured_by_the_same_columns_and_names(finished):
    here, result = finished
    table(here, "others", first=100, count=12)
    metrics = evaluate(result.model, here / "others.csv")["metrics"]
    assert metrics["wer"]["n"] == metrics["cer"]["n"] == 12
    assert set(metrics) >= {"wer", "cer"}


def test_training_further_takes_new_letters(finished):
    here, result = finished
    first = json.dumps(str(result.model))
    (here / "second.yaml").write_text(
        RECIPE.format(name="digits", zero="nil", model=f"{{init: {first}}}").replace(
            "audio: {n_mels: 16}\n", ""
        )
    )
    second = run(here / "second.yaml", out=here / "runs")
    old, new = modelfile.rebuild(result.model), modelfile.rebuild(second.model)
    assert new.labels == tuple("eilno")
    assert new.network.head.out_features == 6
    assert new.architecture["name"] == old.architecture["name"] == "rnn-ctc"
    assert modelfile.load(second.model).scoring.decode.keywords[
        "language_model"
    ].model.characters == (new.labels)
    assert modelfile.verify(second.model).golden_difference <= 1e-4


def test_spelling_is_learnt_from_the_training_texts_alone(finished):
    _, result = finished
    rows = pq.read_table(result.folder / "splits.parquet", columns=["label", "split"]).to_pylist()
    texts = {name: [] for name in ("train", "validation", "test")}
    for row in rows:
        texts[row["split"]].append(row["label"])
    held = modelfile.load(result.model).scoring.decode.keywords["language_model"]

    def fitted(*splits):
        known = [text for name in splits for text in texts[name]]
        return CharacterLM.fit(known, "enorz", order=3, weight=2.0).to_json()

    assert held.to_json() == fitted("train")
    assert held.to_json() != fitted("train", "validation", "test")


def test_how_texts_are_spelled_decides_what_is_answered(finished, tmp_path):
    here, result = finished
    model = modelfile.load(result.model)
    language_model = model.scoring.decode.keywords["language_model"]
    assert language_model.weight == 2.0
    assert language_model.model.order == 3
    plain = modelfile.rebuild(result.model)
    modelfile.write_model(tmp_path / "plain.mw", replace(plain, assets={}))
    without = modelfile.load(tmp_path / "plain.mw")
    assert without.digest != model.digest
    assert without.scoring is TASKS["speech-recognition", OutputKind.CTC]
    audio = here / "20.wav"
    assert model.predict(audio) != without.predict(audio)


def test_a_spelling_of_other_letters_is_refused(finished, tmp_path):
    _, result = finished
    candidate = modelfile.rebuild(result.model)
    for data in (
        canonical_json(CharacterLM.fit(["ab"], "ab", order=2, weight=1.0).to_json()),
        b"{}",
        b"no JSON",
    ):
        broken = replace(candidate, assets={"language_model.json": data})
        modelfile.write_model(tmp_path / "broken.mw", broken)
        with pytest.raises(ModelFileError):
            modelfile.load(tmp_path / "broken.mw")
