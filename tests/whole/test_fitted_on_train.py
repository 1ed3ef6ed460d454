"""What is fitted before training (vocabulary, statistics, labels) sees the training split alone.

Each task's data are prepared twice, with the same training samples and with other validation and
test samples: louder, brighter, in other words, with larger numbers. What training starts from, and
what the model file will hold of the data, must be the same to the last bit. Where a task has
labels, it is then trained beside labels in the other splits that training has none of, to the same
weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from modelwright.data import Prepared
from modelwright.data.waves import as_wav
from modelwright.initialization import initialize_model
from modelwright.models.candidate import Candidate
from modelwright.pipeline.request import run_in
from modelwright.recipe import parse_recipe
from modelwright.run import Run, RunRequest, silent
from modelwright.tasks import TASKS, task_of
from modelwright.training import fit
from tests.data.making import picture, prepared

RATE, SIDE = 8000, 12
WORDS = ("red", "green", "blue", "round", "small", "bright", "cold", "old")
OTHERS = ("zinc", "quartz", "ivory", "jade", "onyx", "ebony", "xenon", "vivid")


def words(number: int, strange: bool) -> str:
    chance = np.random.default_rng(number)
    return " ".join(chance.choice(OTHERS if strange else WORDS, 6)) + f" {'q' * strange}{number}"


def audio(number: int, strange: bool) -> bytes:
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
        {"audio": audio, "label": label},
        "model: {name: audio-cnn, widths: [4, 8]}\naudio: {n_mels: 16}\n",
    ),
    "speech-recognition": ("", {"audio": audio, "label": words}, "audio: {n_mels: 16}\n"),
    "regression": (
        "input_kind: image",
        {"image": image, "target": lambda at, strange: float(at * (1000 if strange else 1))},
        "model: {name: cnn}\n",
    ),
    "language-modeling": ("", {"text": words}, "text: {max_length: 16}\n"),
    "translation": (
        "",
        {"text": words, "label": lambda at, strange: words(at + 1000, strange)},
        "text: {vocab_size: 300}\n",
    ),
    "summarization": (
        "",
        {"text": words, "label": lambda at, strange: words(at + 1000, strange)},
        "text: {tokenizer: character, vocab_size: 120}\n",
    ),
    "object-detection": (
        "",
        {"image": image, "boxes": box},
        "model: {name: detector, widths: [4, 8], neck: 8}\n",
    ),
}


OTHER_LABELS = {
    "image-classification": {"label": lambda at: "0"},
    "text-classification": {"label": lambda at: "0"},
    "multi-label": {"label": lambda at: ["0", "a", "zebra"]},
    "audio-classification": {"label": lambda at: "0"},
    "object-detection": {
        "boxes": lambda at: [
            {"label": name, "x1": 1, "y1": 1, "x2": 6, "y2": 6} for name in ("0", "b")
        ]
    },
}
"""What every fourth sample of validation and test gets: labels that stand before those of training
in the alphabet, so that counting them in would number all anew."""


def write(folder: Path, columns, *, strange: bool = False, others=None) -> None:
    folder.mkdir(parents=True)
    for split, first, count in (("train", 0, 40), ("val", 100, 12), ("test", 200, 12)):
        rows = range(first, first + count)
        other = strange and split != "train"
        cells = {name: [make(at, other) for at in rows] for name, make in columns.items()}
        for name, make in (others or {}).items() if split != "train" else ():
            cells[name] = [make(at) if at % 4 == 0 else cells[name][at - first] for at in rows]
        pq.write_table(pa.table(cells), folder / f"{split}.parquet")


def begin(base: Path, case: str, **changes):
    more, columns, sections = CASES[case]
    task = "text-classification" if case == "multi-label" else case
    write(base / "tables", columns, **changes)
    source = "boxes" if task == "object-detection" else "table"
    section = ", ".join(part for part in (f"source: {source}, path: tables", more) if part)
    # The last epoch is shipped: which is best is for validation to say.
    rest = (
        f"task: {task}\nresources: {{device: cpu, threads: 1}}\n{sections}"
        "train: {epochs: 2, batch_size: 8, precision: fp32, select: last}\n"
    )
    found = prepared(base, section, rest)
    recipe = parse_recipe(f"version: 1\ndata: {{{section}}}\n{rest}", where="recipe.yaml")
    asked = RunRequest(recipe, base=base)
    context = run_in(asked, base / "run", observe=silent)
    return found, initialize_model(asked, found, context), asked, context


def test_every_task_is_here():
    assert {*CASES} - {"multi-label"} == {task.name for task in TASKS.values()}


@pytest.mark.parametrize("case", CASES)
def test_only_the_training_split_is_learnt_from(tmp_path, case):
    plain, first, *_ = begin(tmp_path / "plain", case)
    strange, second, *_ = begin(tmp_path / "strange", case, strange=True)
    test = plain.test()
    assert test is not None
    assert plain.fingerprint("test") != strange.fingerprint("test")
    assert plain.fingerprint("train") == strange.fingerprint("train")
    assert first.input.to_json() == second.input.to_json()
    assert first.assets == second.assets
    assert first.labels == second.labels
    assert first.architecture == second.architecture
    assert (plain.mean, plain.std) == (strange.mean, strange.std)
    require_equal(first.network, second.network)


def require_equal(one: nn.Module, other: nn.Module) -> None:
    weights, others = one.state_dict(), other.state_dict()
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), name


def trained(found: Prepared, first: Candidate, asked: RunRequest, context: Run):
    recipe = asked.recipe
    torch.set_num_threads(1)
    return fit(
        first, recipe.train, found.dataset(), context, task=task_of(recipe), augment=recipe.augment
    )


def test_every_task_with_labels_is_here():
    named = {name for name, kind in TASKS if kind.has_classes}
    assert {*OTHER_LABELS} == named | {"multi-label"}


@pytest.mark.parametrize("case", OTHER_LABELS)
def test_labels_of_other_splits_are_not_learnt(tmp_path, case):
    plain = begin(tmp_path / "plain", case)
    other = begin(tmp_path / "other", case, others=OTHER_LABELS[case])
    assert plain[0].labels == other[0].labels == ("a", "b")
    assert plain[1].labels == other[1].labels == ("a", "b")
    assert plain[1].architecture == other[1].architecture
    assert "0" in other[0].dataset().validation.unknown
    assert "0" in other[0].test().unknown
    (first, before), (second, after) = trained(*plain), trained(*other)
    require_equal(first.network, second.network)
    losses = [[record["train_loss"] for record in report.history] for report in (before, after)]
    assert losses[0] == losses[1]
