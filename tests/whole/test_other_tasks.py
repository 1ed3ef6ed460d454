"""Tasks that the recipe doesn't know yet, through the rooms `training` and `modelfile` as they are.

A text to a label, an image to a number, and a network of two inputs: what learns and what ships
must not assume images and classes. What they need is defined here and nowhere else.
"""

from __future__ import annotations

import gzip
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from modelwright import metrics, modelfile
from modelwright.data import Dataset, Split
from modelwright.errors import DataError, ModelFileError, RecipeError, StoppedError
from modelwright.evaluation import Place, measure
from modelwright.kinds import OutputKind
from modelwright.models.candidate import Candidate
from modelwright.recipe.preparation import AugmentSpec
from modelwright.recipe.train import TrainSpec
from modelwright.run import silent
from modelwright.tasks import TASKS, Task
from modelwright.tasks.inference import Inference
from modelwright.training import fit
from modelwright.transforms import ImageInput
from tests.training.small import equal, run_in

CLOSE = 1e-4
"""The largest difference between a network's outputs and those of its file, in fp32."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """An input whose host steps are the caller's: what each tensor is, and no more."""

    tensors: tuple[tuple[str, str, tuple[int | str, ...]], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "arrays",
            "tensors": [
                {"name": name, "dtype": dtype, "shape": list(shape)}
                for name, dtype, shape in self.tensors
            ],
        }


class StopAt:
    """Asks for a stop, as Ctrl-C does, once a validation shows this step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, progress: Any) -> None:
        if progress.stage == "train" and progress.done >= self.step:
            os.kill(os.getpid(), 2)


def splits(inputs: Any, targets: Any, labels: tuple[str, ...] = (), seed: int = 0):
    """Return a dataset of 70 % and 15 %, and a test split of the rest."""
    order = np.random.default_rng(seed).permutation(len(targets)).astype(np.int64)
    first, second = len(order) * 70 // 100, len(order) * 85 // 100
    parts = {"train": order[:first], "validation": order[first:second], "test": order[second:]}
    made = {name: Split(name, inputs, rows, targets[rows]) for name, rows in parts.items()}
    return Dataset(made["train"], made["validation"], labels), made["test"]


def settings(**changes: Any) -> TrainSpec:
    known = {"batch_size": 64, "precision": "fp32", "compile": "off"}
    return TrainSpec.model_validate({**known, **changes})


def learn(folder, start: Candidate, spec: TrainSpec, data: Dataset, task: Task, *, observe=silent):
    return fit(start, spec, data, run_in(folder, observe=observe), task=task, augment=AugmentSpec())


def answer(network: nn.Module, *inputs: Any) -> Any:
    with torch.no_grad():
        return network.eval()(*(torch.from_numpy(np.array(array)) for array in inputs)).numpy()


def packed(folder: Path, trained: Candidate, **more: Any) -> modelfile.Model:
    """Write a file, verify it and load it."""
    path = folder / "model.mw"
    report = modelfile.write_model(path, trained, **more)
    assert report.largest_difference <= CLOSE
    verified = modelfile.verify(path)
    assert verified.digest == report.digest
    assert verified.golden_difference <= CLOSE
    return modelfile.load(path)


# -- a text to one label -----------------------------------------------------------------------

PADDING, UNKNOWN, LONGEST = 0, 1, 24


def label_scores(stats: Any) -> dict[str, float]:
    cells = metrics.confusion(stats["predicted"], stats["targets"], num_classes=20)
    scores = metrics.class_scores(cells)
    averages = metrics.averages(scores.hits, scores.predicted, scores.support)
    return {"accuracy": (stats["ranks"] == 0).mean(), "f1_macro": float(averages["f1_macro"])}


TEXT = Task(
    name="text-to-label",
    select_by="accuracy",
    goal=("accuracy", ">= 0.5"),
    output_kind=OutputKind.SINGLE_LABEL,
    sample_stats=TASKS["image-classification", OutputKind.SINGLE_LABEL].sample_stats,
    compute=label_scores,
    decode=lambda outputs, labels, top: [
        [{"label": labels[k]} for k in row] for row in metrics.top_classes(outputs, top)
    ],
)


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+|[?!.]", text.lower())


def tokeniser(texts: list[str], *, min_count: int = 2) -> Callable[[list[str]], Any]:
    """Return the host step of the corpus: from texts to ids `[N, LONGEST]`, padded with 0."""
    counts = Counter(word for text in texts for word in set(words(text)))
    known = sorted(word for word, count in counts.items() if count >= min_count)
    places = {word: place + 2 for place, word in enumerate(known)}

    def tokenise(given: list[str]) -> Any:
        ids = np.full((len(given), LONGEST), PADDING, dtype=np.int64)
        for row, text in enumerate(given):
            found = [places.get(word, UNKNOWN) for word in words(text)][:LONGEST]
            ids[row, : len(found)] = found
        return ids

    tokenise.size = len(known) + 2  # type: ignore[attr-defined]
    return tokenise


class MeanOfWords(nn.Module):
    """Word vectors, averaged over what isn't padding, and a linear layer."""

    def __init__(self, vocabulary: int, classes: int, width: int = 48) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(width, classes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        held = (ids != PADDING).unsqueeze(-1).to(self.words.weight.dtype)  # [N, T, 1]
        mean = (self.words(ids) * held).sum(1) / held.sum(1).clamp_min(1)
        return self.head(self.dropout(torch.tanh(mean)))


class WordsInOrder(nn.Module):
    """Word vectors, a convolution over their order, and the largest answer of each filter."""

    def __init__(self, vocabulary: int, classes: int, width: int = 32) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        self.filters = nn.Conv1d(width, 2 * width, 3, padding=1)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found = torch.relu(self.filters(self.words(ids).transpose(1, 2)))  # [N, D, T]
        return self.head(found.amax(2))


def text_candidate(network: Callable[..., nn.Module], vocabulary: int, labels, length=LONGEST):
    torch.manual_seed(0)
    return Candidate(
        network=network(vocabulary, len(labels)),
        task=TEXT.name,
        input=Arrays((("ids", "int64", ("N", length)),)),
        labels=labels,
        architecture={"name": network.__name__, "vocabulary": vocabulary},
    )


TONES = ("glad", "sour", "asking")


def small_corpus(size: int = 600) -> tuple[list[str], Any]:
    """Sentences whose class a few of their words give away, among many that say nothing."""
    random = np.random.default_rng(4)
    telling = (("lovely", "bright", "warm"), ("bitter", "dull", "cold"), ("who", "why", "where"))
    plain = [f"word{number}" for number in range(60)]
    texts, tones = [], np.arange(size, dtype=np.int64) % 3
    for tone in tones:
        chosen = list(random.choice(plain, random.integers(3, 12)))
        chosen.insert(int(random.integers(len(chosen))), str(random.choice(telling[tone])))
        texts.append(" ".join(chosen))
    return texts, tones


@pytest.fixture(scope="module")
def corpus():
    texts, tones = small_corpus()
    tokenise = tokeniser(texts)
    return tokenise, *splits(tokenise(texts), tones, TONES)


@pytest.mark.parametrize("network", [MeanOfWords, WordsInOrder])
@pytest.mark.parametrize("length", [LONGEST, "T"])
def test_a_text_becomes_a_label(tmp_path, corpus, network, length):
    tokenise, data, test = corpus
    start = text_candidate(network, tokenise.size, TONES, length)
    spec = settings(
        epochs=20, optimizer={"name": "adamw", "lr": 0.02}, loss={"name": "cross-entropy"}
    )
    trained, report = learn(tmp_path, start, spec, data, TEXT)
    assert {"val_accuracy", "val_f1_macro"} <= set(report.history[-1])
    model = packed(tmp_path, trained, probes=data.train.gather(slice(0, 50)))
    ids = test.gather()
    found = model.outputs(ids)
    np.testing.assert_allclose(found, answer(trained.network, ids), atol=CLOSE)
    assert model.labels == TONES
    assert (model.task, model.spec.output_kind) == ("text-to-label", OutputKind.SINGLE_LABEL)
    assert metrics.accuracy(found, test.targets) > 0.9  # a third by chance
    shorter = tokenise(["lovely word1", "cold"])[:, :5]
    if length == "T":
        np.testing.assert_allclose(
            model.outputs(shorter), answer(trained.network, shorter), atol=CLOSE
        )
    else:
        with pytest.raises(DataError, match=r"the model takes ids: int64 \[N, 24\]"):
            model.outputs(shorter)


def test_a_text_training_goes_on_after_a_stop(tmp_path, corpus):
    tokenise, data, _ = corpus
    spec = settings(
        epochs=6,
        optimizer={"name": "adamw", "lr": 0.01},
        average={"name": "ema", "decay": 0.9},
        loss={"name": "cross-entropy", "label_smoothing": 0.1, "class_weights": "balanced"},
    )
    whole, _ = learn(
        tmp_path / "whole", text_candidate(MeanOfWords, tokenise.size, TONES), spec, data, TEXT
    )
    for step in (6, 18):
        with pytest.raises(StoppedError):
            learn(
                tmp_path / "cut",
                text_candidate(MeanOfWords, tokenise.size, TONES),
                spec,
                data,
                TEXT,
                observe=StopAt(step),
            )
    resumed, _ = learn(
        tmp_path / "cut", text_candidate(MeanOfWords, tokenise.size, TONES), spec, data, TEXT
    )
    assert equal(resumed.network, whole.network)
    digests = [
        modelfile.write_model(tmp_path / f"{number}.mw", trained).digest
        for number, trained in enumerate((whole, resumed))
    ]
    assert digests[0] == digests[1]


def test_evidence_of_a_text_model_has_intervals(tmp_path, corpus):
    tokenise, data, test = corpus
    spec = settings(
        epochs=4, optimizer={"name": "adamw", "lr": 0.01}, loss={"name": "cross-entropy"}
    )
    trained, _ = learn(
        tmp_path, text_candidate(MeanOfWords, tokenise.size, TONES), spec, data, TEXT
    )
    model = packed(tmp_path, trained)
    scored = measure(model, test, TEXT, fingerprint="texts", place=Place("here"))
    records = {record.metric: record for record in scored.evidence}
    for metric in ("accuracy", "f1_macro"):
        record = records[metric]
        assert record.low < record.value < record.high
        assert (record.n, record.model) == (len(test), model.digest)


def test_a_file_of_an_unknown_task_says_so_when_asked_to_decode(tmp_path, corpus):
    tokenise, _, test = corpus
    model = packed(tmp_path, text_candidate(MeanOfWords, tokenise.size, TONES))
    with pytest.raises(ModelFileError, match="the task `text-to-label` isn't known"):
        model.predict(test.gather())
    with pytest.raises(ModelFileError, match="takes arrays"):
        _ = model.input


def test_a_loss_that_does_not_fit_the_task_is_refused(tmp_path, corpus):
    tokenise, data, _ = corpus
    start = text_candidate(MeanOfWords, tokenise.size, TONES)
    spec = settings(epochs=1, loss={"name": "mse"})
    with pytest.raises(RecipeError, match=r"train\.loss"):
        learn(tmp_path, start, spec, data, TEXT)


def test_real_questions_become_their_kind(tmp_path):
    """TREC: 5,452 questions of six kinds; a bag of words reaches 0.85 to 0.9."""
    folder = Path(os.environ.get("MODELWRIGHT_DATA", "")) / "sentence_cls"
    if not os.environ.get("MODELWRIGHT_DATA") or not folder.is_dir():
        pytest.skip("needs MODELWRIGHT_DATA/sentence_cls (TREC)")
    texts, kinds = {}, {}
    for part in ("train", "test"):
        packed_lines = (folder / f"TREC.{part}.all.gz").read_bytes()
        lines = gzip.decompress(packed_lines).decode("latin-1")
        pairs = [line.partition(" ")[::2] for line in lines.splitlines() if line.strip()]
        texts[part] = [text for _, text in pairs]
        kinds[part] = np.array([int(kind) for kind, _ in pairs], dtype=np.int64)
    labels = ("description", "entity", "abbreviation", "human", "number", "place")
    tokenise = tokeniser(texts["train"])
    inputs, targets = tokenise(texts["train"]), kinds["train"]
    rows = np.random.default_rng(0).permutation(len(targets)).astype(np.int64)
    held = len(rows) // 10
    data = Dataset(
        Split("train", inputs, rows[held:], targets[rows[held:]]),
        Split("validation", inputs, rows[:held], targets[rows[:held]]),
        labels,
    )
    start = text_candidate(MeanOfWords, tokenise.size, labels)
    spec = settings(
        epochs=8, optimizer={"name": "adamw", "lr": 0.01}, loss={"name": "cross-entropy"}
    )
    trained, _ = learn(tmp_path, start, spec, data, TEXT)
    model = packed(tmp_path, trained)
    ids = tokenise(texts["test"])
    found = model.outputs(ids)
    np.testing.assert_allclose(found, answer(trained.network, ids), atol=CLOSE)
    majority = np.bincount(kinds["test"]).max() / len(kinds["test"])
    assert metrics.accuracy(found, kinds["test"]) > majority + 0.4


# -- an image to a number ----------------------------------------------------------------------


def number_scores(stats: Any) -> dict[str, float]:
    columns = metrics.number_columns(stats["predicted"], stats["targets"])
    return {name: float(value) for name, value in metrics.number_metrics(columns.sum(0)).items()}


NUMBER = Task(
    name="image-to-number",
    select_by="mae",
    goal=("r2", ">= 0.5"),
    output_kind=OutputKind.REGRESSION,
    sample_stats=TASKS["regression", OutputKind.REGRESSION].sample_stats,
    compute=number_scores,
    decode=lambda outputs, labels, top: [[{"value": float(row[0])}] for row in outputs],
)


class Gauge(nn.Module):
    """Pixels `[N, H, W, 1]` to one number, through a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.hidden = nn.Linear(8 * 16, 32)
        self.head = nn.Linear(32, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        scaled = pixels.permute(0, 3, 1, 2).to(self.head.weight.dtype) / 255
        found = torch.relu(self.norm(self.filters(scaled)))
        pooled = nn.functional.avg_pool2d(found, 2).flatten(1)
        return self.head(torch.relu(self.hidden(pooled)))


def gauge() -> Candidate:
    torch.manual_seed(1)
    return Candidate(
        network=Gauge(),
        task=NUMBER.name,
        input=ImageInput(8, 8, 1),
        labels=(),
        architecture={"name": "Gauge"},
        output_kind=OutputKind.REGRESSION,
    )


@pytest.fixture(scope="module")
def leaning():
    """Handwritten digits, and how far the ink's middle stands from the left, in pixels."""
    images = load_digits().images
    pixels = np.rint(images * (255 / 16)).astype(np.uint8)[..., None]
    ink = images.sum((1, 2))
    middle = (images * np.arange(8)).sum((1, 2)) / ink
    upper = images[:, :4].sum((1, 2)) / ink
    numbers = (middle + 4 * upper).astype(np.float32)
    return splits(pixels, numbers)


@pytest.mark.parametrize("loss", [{"name": "mse"}, {"name": "huber", "delta": 0.5}])
@pytest.mark.parametrize("column", [False, True])
def test_an_image_becomes_a_number(tmp_path, leaning, loss, column):
    data, test = leaning
    if column:  # Targets [N, 1] are the same as [N].
        data = Dataset(
            *(
                Split(part.name, part.inputs, part.rows, part.targets[:, None])
                for part in (data.train, data.validation)
            ),
            (),
        )
    spec = settings(epochs=12, optimizer={"name": "adamw", "lr": 0.01}, loss=loss)
    trained, report = learn(tmp_path, gauge(), spec, data, NUMBER)
    errors = [record["val_mae"] for record in report.history]
    assert report.chosen == errors.index(min(errors))
    model = packed(tmp_path, trained, probes=data.train.gather(slice(0, 50)))
    assert (model.labels, model.spec.output_kind) == ((), OutputKind.REGRESSION)
    found = model.outputs(test.gather())
    assert found.shape == (len(test), 1)
    np.testing.assert_allclose(found, answer(trained.network, test.gather()), atol=CLOSE)
    scored = measure(model, test, NUMBER, fingerprint="digits", place=Place("here"))
    records = {record.metric: record for record in scored.evidence}
    assert records["r2"].value > 0.8
    assert records["r2"].low < records["r2"].value < records["r2"].high
    assert records["r2"].high - records["r2"].low < 0.2
    assert records["mae"].n == len(test)


def test_views_of_a_number_are_averaged(tmp_path, leaning):
    _, test = leaning
    start = gauge()
    mirrored = replace(start, architecture={}, inference=Inference(tta="flip"))
    model = packed(tmp_path, mirrored)
    pixels = test.gather(slice(0, 20))
    both = (answer(start.network, pixels) + answer(start.network, pixels[:, :, ::-1])) / 2
    np.testing.assert_allclose(model.outputs(pixels), both, atol=CLOSE)


def test_classes_are_no_loss_for_numbers(tmp_path, leaning):
    data, _ = leaning
    spec = settings(epochs=1, loss={"name": "cross-entropy"})
    with pytest.raises(RecipeError, match="isn't for predicting numbers"):
        learn(tmp_path, gauge(), spec, data, NUMBER)


def test_a_number_augmented_stays_a_number(tmp_path, leaning):
    """Mixing images mixes their numbers by the same shares."""
    data, _ = leaning
    augment = AugmentSpec.model_validate({"translate": 1, "mixup": 0.2})
    trained, report = fit(
        gauge(),
        settings(epochs=2, loss={"name": "huber"}),
        data,
        run_in(tmp_path),
        task=NUMBER,
        augment=augment,
    )
    assert np.isfinite(report.history[-1]["train_loss"])
    assert not equal(trained.network, gauge().network)


# -- two inputs, one output --------------------------------------------------------------------

BOTH = Task(
    name="picture-and-side-to-number",
    select_by="mae",
    goal=("r2", ">= 0.5"),
    output_kind=OutputKind.REGRESSION,
    sample_stats=TASKS["regression", OutputKind.REGRESSION].sample_stats,
    compute=number_scores,
    decode=NUMBER.decode,
)
SIDES = Arrays((("pixels", "uint8", ("N", 8, 8)), ("side", "int64", ("N", 2))))


class TwoInputs(nn.Module):
    """Pixels `[N, H, W]` and two numbers `[N, 2]` of a small table, to one number."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = nn.Embedding(2, 4)
        self.hidden = nn.Linear(64 + 8, 32)
        self.head = nn.Linear(32, 1)

    def forward(self, pixels: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
        scaled = pixels.flatten(1).to(self.head.weight.dtype) / 255
        joined = torch.cat([scaled, self.sides(side).flatten(1)], 1)
        return self.head(torch.relu(self.hidden(joined)))


def two_inputs() -> Candidate:
    torch.manual_seed(2)
    return Candidate(
        TwoInputs(),
        BOTH.name,
        SIDES,
        (),
        {"name": "TwoInputs"},
        output_kind=OutputKind.REGRESSION,
    )


@pytest.fixture(scope="module")
def records():
    """Digits with a pair of bits; the number wanted is the ink in the half that they ask for."""
    images = load_digits().images.astype(np.float32)
    bits = np.random.default_rng(3).integers(0, 2, (len(images), 2))
    inputs = np.empty(len(images), dtype=[("pixels", "u1", (8, 8)), ("side", "i8", (2,))])
    inputs["pixels"] = np.rint(images * (255 / 16))
    inputs["side"] = bits
    left, right = images[:, :, :4].sum((1, 2)), images[:, :, 4:].sum((1, 2))
    wanted = np.where(bits[:, 0] == 0, left, right) / 100 + bits[:, 1]
    return splits(inputs, wanted.astype(np.float32))


def test_a_network_may_take_several_inputs(tmp_path, records):
    data, test = records
    spec = settings(
        epochs=25,
        optimizer={"name": "adamw", "lr": 0.01},
        loss={"name": "mse"},
        gradient_accumulation=2,
    )
    trained, _ = learn(tmp_path, two_inputs(), spec, data, BOTH)
    model = packed(tmp_path, trained, probes=data.train.gather(slice(0, 50)))
    samples = test.gather()
    found = model.outputs(samples)
    expected = answer(trained.network, samples["pixels"], samples["side"])
    np.testing.assert_allclose(found, expected, atol=CLOSE)
    by_name = {"pixels": samples["pixels"], "side": samples["side"]}
    np.testing.assert_array_equal(model.outputs(by_name), found)
    scored = measure(model, test, BOTH, fingerprint="records", place=Place("here"))
    assert {record.metric: record.value for record in scored.evidence}["r2"] > 0.8


def test_a_training_of_several_inputs_goes_on_after_a_stop(tmp_path, records):
    data, _ = records
    spec = settings(epochs=3, loss={"name": "huber"})
    whole, _ = learn(tmp_path / "whole", two_inputs(), spec, data, BOTH)
    with pytest.raises(StoppedError):
        learn(tmp_path / "cut", two_inputs(), spec, data, BOTH, observe=StopAt(20))
    resumed, _ = learn(tmp_path / "cut", two_inputs(), spec, data, BOTH)
    assert equal(resumed.network, whole.network)


def test_several_inputs_must_be_all_there(tmp_path, records):
    _, test = records
    model = packed(tmp_path, two_inputs())
    for wrong in (
        test.gather()["pixels"],
        test.gather()[["pixels"]],
        {"pixels": test.gather()["pixels"], "side": test.gather()["side"][:3]},
    ):
        with pytest.raises(DataError, match="the model takes pixels: uint8"):
            model.outputs(wrong)
