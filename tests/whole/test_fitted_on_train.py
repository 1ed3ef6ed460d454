"""What is fitted before training (vocabulary, statistics, labels) sees the training split alone.

Each task's data are prepared twice, with the same training samples and with other validation and
test samples: louder, brighter, in other words, with larger numbers. What training starts from, and
what the model file will hold of the data, must be the same to the last bit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from modelwright.data.waves import as_wav
from modelwright.pipeline.asking import Asked
from modelwright.pipeline.starting import first_candidate
from modelwright.recipe import parse_recipe
from modelwright.run import silent
from modelwright.tasks import TASKS
from tests.data.making import picture, prepared

RATE, SIDE = 8000, 12
WORDS = ("red", "green", "blue", "round", "small", "bright", "cold", "old")
OTHERS = ("zinc", "quartz", "ivory", "jade", "onyx", "ebony", "xenon", "vivid")


def words(number: int, strange: bool) -> str:
    chance = np.random.default_rng(number)
    return " ".join(chance.choice(OTHERS if strange else WORDS, 6)) + f" {'q' * strange}{number}"


def sound(number: int, strange: bool) -> bytes:
    chance = np.random.default_rng(number)
    wave = np.sin(np.arange(2400) * chance.uniform(0.1, 1.0)) * (20000 if strange else 500)
    return as_wav((wave + chance.normal(0, 50, 2400)).astype(np.int16), RATE)


def image(number: int, strange: bool) -> bytes:
    return picture(number, SIDE, colour=[250, number % 250, 0] if strange else None)


def label(number: int, strange: bool) -> str:
    return "ab"[number % 2]


def box(number: int, strange: bool) -> list[dict[str, object]]:
    end = 11 if strange else 5 + number % 3
    return [{"label": label(number, strange), "x1": 1, "y1": 1, "x2": end, "y2": end}]


CASES = {
    "image-classification": ("", {"image": image, "label": label}, ""),
    "text-classification": ("", {"text": words, "label": label}, "model: {name: bow}\n"),
    "multi-label": (
        "multi_label: true",
        {"text": words, "label": lambda at, strange: ["a", "b"][at % 3 % 2 :][: 1 + at % 2]},
        "model: {name: text-cnn}\n",
    ),
    "audio-classification": (
        "",
        {"sound": sound, "label": label},
        "model: {name: sound-cnn, widths: [4, 8]}\nsound: {mels: 16}\n",
    ),
    "speech-recognition": ("", {"sound": sound, "label": words}, "sound: {mels: 16}\n"),
    "regression": (
        "holds: image",
        {"image": image, "target": lambda at, strange: float(at * (1000 if strange else 1))},
        "model: {name: cnn}\n",
    ),
    "language-modeling": ("", {"text": words}, "text: {longest: 16}\n"),
    "translation": (
        "",
        {"text": words, "label": lambda at, strange: words(at + 1000, strange)},
        "text: {size: 300}\n",
    ),
    "summarization": (
        "",
        {"text": words, "label": lambda at, strange: words(at + 1000, strange)},
        "text: {tokenizer: unigram, size: 120}\n",
    ),
    "object-detection": (
        "",
        {"image": image, "boxes": box},
        "model: {name: detector, widths: [4, 8], neck: 8}\n",
    ),
}


def write(folder: Path, columns, *, strange: bool) -> None:
    folder.mkdir(parents=True)
    for split, first, count in (("train", 0, 40), ("val", 100, 12), ("test", 200, 12)):
        rows = range(first, first + count)
        other = strange and split != "train"
        cells = {name: [make(at, other) for at in rows] for name, make in columns.items()}
        pq.write_table(pa.table(cells), folder / f"{split}.parquet")


def begin(base: Path, case: str, *, strange: bool):
    more, columns, sections = CASES[case]
    task = "text-classification" if case == "multi-label" else case
    write(base / "tables", columns, strange=strange)
    source = "boxes" if task == "object-detection" else "table"
    section = ", ".join(part for part in (f"source: {source}, path: tables", more) if part)
    rest = f"task: {task}\nresources: {{device: cpu, threads: 1}}\n{sections}"
    found = prepared(base, section, rest)
    recipe = parse_recipe(f"version: 1\ndata: {{{section}}}\n{rest}", where="recipe.yaml")
    asked = Asked(recipe, base=base)
    return found, first_candidate(asked, found, asked.run_in(base, observe=silent))


def test_every_task_is_here():
    assert {*CASES} - {"multi-label"} == {task.name for task in TASKS.values()}


@pytest.mark.parametrize("case", CASES)
def test_only_the_training_split_is_learnt_from(tmp_path, case):
    plain, first = begin(tmp_path / "plain", case, strange=False)
    strange, second = begin(tmp_path / "strange", case, strange=True)
    test = plain.test()
    assert test is not None
    assert plain.fingerprint("test") != strange.fingerprint("test")
    assert plain.fingerprint("train") == strange.fingerprint("train")
    assert first.input.to_json() == second.input.to_json()
    assert first.assets == second.assets
    assert first.labels == second.labels
    assert first.architecture == second.architecture
    assert (plain.mean, plain.std) == (strange.mean, strange.std)
    weights, others = first.network.state_dict(), second.network.state_dict()
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), name
