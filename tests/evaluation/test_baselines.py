"""Simple methods: what they learn, what they leave out, and how the model file compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist
from sklearn.linear_model import Ridge, RidgeCV

from modelwright.data.dataset import Split
from modelwright.data.ragged import Joined, Ragged
from modelwright.errors import DataError, MissingExtraError
from modelwright.evaluation import (
    DIFFERENCE,
    GAIN,
    Measurement,
    Place,
    Problem,
    baselines,
    measure,
    measure_baselines,
)
from modelwright.evaluation.baselines import BASELINES
from modelwright.evaluation.least_squares import STRENGTHS, least_squares, sparse_least_squares
from modelwright.kinds import InputKind, OutputKind
from modelwright.ledger import Evidence
from modelwright.models.linear import simple_features
from modelwright.recipe.preparation import AudioSpec
from modelwright.run import Progress, silent
from modelwright.tasks import TASKS, Task
from modelwright.transforms import ImageInput
from modelwright.transforms.audio import AudioInput
from modelwright.transforms.ngrams import fit_ngrams
from tests.evaluation.small import Remembered, striped

IMAGES, TEXTS, RECORDINGS = (
    TASKS[f"{kind}-classification", OutputKind.SINGLE_LABEL] for kind in InputKind
)
MULTI_LABEL = TASKS["text-classification", OutputKind.MULTI_LABEL]
EXACT = 1e-9
"""Both are worked out in double precision."""
SINGLE = 1e-4
"""Features are in single precision."""


def no_texts(rows: NDArray[np.int64]) -> list[str]:
    raise AssertionError("no texts are asked for")


def features_of(split: Split) -> Any:
    """Return what computes the features that a linear model sees of a split's samples."""
    if isinstance(split.inputs, Ragged):
        return simple_features(AudioInput(8000, 30.0), AudioSpec())
    shape = split.inputs.shape[1:]
    if len(shape) != 3:
        return None
    size = ImageInput(*shape, "stretch", "bilinear", 0)
    return simple_features(size, AudioSpec())


def problem(
    train: Split, samples: Split, task: Task = IMAGES, labels: Sequence[str] = "ab", **more: Any
) -> Problem:
    given = {"input_kind": "image", "num_outputs": len(labels), "texts": no_texts}
    given["features"] = features_of(train)
    return Problem(
        task=task, train=train, samples=samples, labels=tuple(labels), **{**given, **more}
    )


def measured(asked: Problem, observe: Any = silent) -> dict[tuple[str, str], Evidence]:
    """Return the figures of all baselines, beside a model that is always right."""
    hits = np.zeros(len(asked.samples), np.int64)
    model = None
    if asked.task.output_kind == OutputKind.SINGLE_LABEL:
        model = Measurement((), "sha256:model", {"ranks": hits}, asked.labels)
    found = measure_baselines(asked, model, fingerprint="data", observe=observe)
    return {
        (item.subject.removeprefix("baseline:"), item.metric): item
        for item in found
        if item.subject != "model"
    }


# -- images ------------------------------------------------------------------------------------


def test_each_baseline_learns_what_it_can() -> None:
    train, test = striped(400, seed=1), striped(200, seed=2, name="test")
    found = measured(problem(train, test))
    names = list(dict.fromkeys(name for name, _ in found))
    assert (
        names
        == list(BASELINES[OutputKind.SINGLE_LABEL, InputKind.IMAGE])
        == ["majority", "centroid", "hog"]
    )
    most_frequent = np.bincount(train.targets).argmax()
    assert found["majority", "accuracy"].value == (test.targets == most_frequent).mean()
    hog = found["hog", "accuracy"]
    assert hog.value > 0.95  # orientations tell all
    assert found["centroid", "accuracy"].value < 0.7  # and mean pixels next to nothing
    assert (hog.split, hog.data, hog.n, hog.subject) == ("test", "data", 200, "baseline:hog")
    assert hog.low < hog.value
    for said in ("oriented gradients", "ridge regression", "leaving out each training sample once"):
        assert said in hog.method
    assert found["hog", "f1_macro"].value == pytest.approx(hog.value, abs=0.02)


def test_the_same_answers_every_time_and_never_by_the_measured_targets() -> None:
    train, test = striped(100, seed=1), striped(50, seed=2, name="test")
    other = replace(test, targets=1 - test.targets)
    for baseline in BASELINES[OutputKind.SINGLE_LABEL, InputKind.IMAGE].values():
        first, again, turned = (
            baseline(problem(train, split)).stats["predicted"] for split in (test, test, other)
        )
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(first, turned)


def test_the_nearest_centroid_by_hand() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 4, 60)
    targets[targets == 2] = 3  # class 2 never occurs
    pixels = random.integers(0, 256, (60, 4, 4, 1)).astype(np.uint8)
    pixels[..., 0, 0, 0] = 7  # what never varies is no reason to warn
    split = Split("test", pixels, np.arange(60), targets)
    flat = pixels.reshape(60, -1) / 255
    means = np.stack([flat[targets == label].mean(axis=0) for label in (0, 1, 3)])
    nearest = np.array([0, 1, 3])[cdist(flat, means).argmin(axis=1)]
    answers = baselines.centroid(problem(split, split, labels="abcd"))
    np.testing.assert_array_equal(answers.stats["predicted"], nearest)


@pytest.mark.parametrize("shape", [(60, 7), (20, 50)])
def test_the_ridge_and_its_penalty_are_scikit_learns(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    known, given = (random.normal(3, 1, shape).astype(np.float32) for _ in range(2))
    targets = (known[:, :3] + random.normal(size=(len(known), 3)) > 3).astype(np.float32)
    centred = known - known.mean(axis=0)
    penalties = STRENGTHS * float((centred**2).sum()) / shape[1]
    reference = RidgeCV(alphas=penalties).fit(known, targets)  # leaves one out
    found = least_squares(known.copy(), targets, given)
    np.testing.assert_allclose(found, reference.predict(given), atol=1e-3)
    for strength, alpha in zip(STRENGTHS[4:], penalties[4:], strict=True):
        expected = Ridge(alpha=alpha).fit(known, targets).predict(given)
        found = least_squares(known.copy(), targets, given, np.array([strength]))
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_penalty_of_few_samples_is_scikit_learns() -> None:
    # Each sample's own weight in the intercept, 1/N, decides where there are few.
    for seed in range(20):
        random = np.random.default_rng(seed)
        known, given = (random.normal(3, 1, (7, 3)).astype(np.float32) for _ in range(2))
        targets = (known[:, :1] + random.normal(size=(7, 1)) > 3).astype(np.float32)
        centred = known - known.mean(axis=0)
        penalties = STRENGTHS * float((centred**2).sum()) / 3
        reference = RidgeCV(alphas=penalties).fit(known, targets).predict(given).reshape(7, 1)
        found = least_squares(known.copy(), targets, given)
        np.testing.assert_allclose(found, reference, atol=1e-3)


def test_scores_are_of_indicators_and_of_several_labels_logits() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 40)
    known, given = (
        (random.normal(size=(size, 5)) + targets[:size, None]).astype(np.float32)
        for size in (40, 10)
    )
    asked = problem(striped(2, seed=0), striped(2, seed=0), labels="abc")
    scores = baselines._ridge(asked, known.copy(), targets, given)
    indicators = np.eye(3, dtype=np.float32)[targets]
    np.testing.assert_array_equal(scores, least_squares(known.copy(), indicators, given))
    labels = targets[:, None] == np.arange(3)
    several = replace(asked, task=MULTI_LABEL)
    logits = baselines._ridge(several, known.copy(), labels, given)
    chances = np.clip(scores, 0.01, 0.99)
    np.testing.assert_allclose(logits, np.log(chances / (1 - chances)), atol=1e-6)


def test_textures_are_told_wherever_they_are() -> None:
    """Fine and coarse stripes in all directions, shifted at random."""
    random = np.random.default_rng(0)

    def drawn(count: int, name: str) -> Split:
        targets = random.integers(0, 2, count)
        angles, phases = random.uniform(0, np.pi, count), random.uniform(0, 6, count)
        rows, columns = np.mgrid[:48, :48]
        along = np.cos(angles)[:, None, None] * rows + np.sin(angles)[:, None, None] * columns
        waves = np.sin(along * np.where(targets, 1.8, 0.6)[:, None, None] + phases[:, None, None])
        noise = random.normal(0, 40, waves.shape)
        pixels = np.clip(128 + 60 * waves + noise, 0, 255).astype(np.uint8)[..., None]
        return Split(name, pixels, np.arange(count), targets)

    answers = baselines.hog(problem(train := drawn(120, "train"), test := drawn(100, "test")))
    assert (answers.stats["predicted"] == test.targets).mean() > 0.95
    assert len(train) == 120


def test_many_targets_of_few_sparse_samples_have_the_ridge_of_scikit_learn() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    linear = pytest.importorskip("sklearn.linear_model")
    train, test = (
        sparse.random(count, 90, 0.1, format="csr", random_state=seed)
        for seed, count in enumerate((120, 30))
    )
    classes = np.random.default_rng(0).integers(0, 50, 120)
    targets = (classes[:, None] == np.arange(60)).astype(np.float32)  # Of ten there is none.
    expected = linear.Ridge(alpha=1.0, solver="sparse_cg", tol=1e-12).fit(train, targets)
    found = sparse_least_squares(train, targets, test)
    np.testing.assert_allclose(found, expected.predict(test), atol=1e-8)


def test_features_that_do_not_vary_answer_the_majority() -> None:
    grey = np.full((30, 8, 8, 1), 99, np.uint8)
    split = Split("test", grey, np.arange(30), np.repeat([0, 1], [10, 20]))
    answers = baselines.hog(problem(split, split))
    assert answers.stats["predicted"].tolist() == [1] * 30


def test_another_kind_of_input_has_the_majority_only() -> None:
    table = Split("train", np.zeros((3, 8), np.int64), np.arange(3), np.array([1, 1, 0]))
    found = measured(problem(table, table, input_kind="table"))
    assert {name for name, _ in found} == {"majority"}
    assert found["majority", "accuracy"].value == pytest.approx(2 / 3)


def test_the_model_is_compared_on_the_same_samples() -> None:
    train, test = striped(200, seed=1), striped(200, seed=2, name="test")
    numbered = replace(test, inputs=np.arange(200).reshape(-1, 1))
    perfect = Remembered(np.eye(2, dtype=np.float32)[test.targets] * 9, ("a", "b"))
    model = measure(perfect, numbered, IMAGES, fingerprint="data", place=Place("here"))
    evidence = measure_baselines(
        problem(train, numbered, input_kind="table"), model, fingerprint="data"
    )
    record = next(item for item in evidence if item.metric == DIFFERENCE)
    share = float((test.targets == np.bincount(train.targets).argmax()).mean())
    assert record.value == pytest.approx(1 - share)
    assert 0 < record.low < record.value < record.high
    assert (record.subject, record.model) == ("baseline:majority", "sha256:model")


def test_tiny_images_leave_hog_out_and_say_so() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (20, 3, 3, 1)).astype(np.uint8)
    split = Split("test", pixels, np.arange(20), np.arange(20) % 2)
    notes: list[Progress] = []
    found = measured(problem(split, split), notes.append)
    assert {name for name, _ in found} == {"majority", "centroid"}
    said = [item.note for item in notes if item.note]
    assert said == [
        "The baseline `hog` is left out: images of 3×3 pixels are too small "
        "for this `linear`. Histograms of oriented gradients need 4 pixels a side."
    ]


def test_without_scikit_learn_the_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, *, extra: str, purpose: str) -> Any:
        raise MissingExtraError(f"{purpose} needs the library `{module}`, which isn't installed")

    monkeypatch.setattr("modelwright.evaluation.least_squares.require", missing)
    notes: list[Progress] = []
    found = measured(text_problem(*told_by_words(" ", count=20)), notes.append)
    assert {name for name, _ in found} == {"majority"}
    assert [item.note[:25] for item in notes if item.note] == ["The baseline `words` is l"]


def test_more_than_the_budget_is_drawn_from_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_VALUES", (396 + 4) * 60)
    train, test = striped(200, seed=1), striped(100, seed=2, name="test")
    answers = baselines.hog(problem(train, test))
    assert answers.positions is not None
    assert len(answers.stats["predicted"]) == len(set(answers.positions.tolist())) == 60
    assert "fitted on 60 of 200 samples" in answers.method
    assert "measured on 60 of 100 samples" in answers.method
    np.testing.assert_array_equal(answers.stats["targets"], test.targets[answers.positions])
    assert (answers.stats["predicted"] == answers.stats["targets"]).mean() > 0.8
    assert measured(problem(train, test))["hog", DIFFERENCE].n == 60


def test_a_draw_of_one_class_leaves_the_centroid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_VALUES", 1)
    split = striped(20, seed=0)
    with pytest.raises(DataError, match="all of one class"):
        baselines.centroid(problem(split, split))


def test_very_many_classes_leave_the_features_out() -> None:
    split = striped(10, seed=0)
    many = replace(split, targets=split.targets + 99_998)
    notes: list[Progress] = []
    labels = [f"class {number}" for number in range(100_000)]
    found = measured(problem(many, many, labels=labels), notes.append)
    assert {name for name, _ in found} == {"majority", "centroid"}
    assert any("100,000 classes are too many" in item.note for item in notes)


def test_classes_that_training_has_none_of_count_as_wrong() -> None:
    train, samples = striped(200, seed=0), striped(80, seed=1, name="test")
    targets = samples.targets.copy()
    targets[:20] = 3
    asked = replace(samples, targets=targets, unknown=("emu", "owl"))
    plain, found = measured(problem(train, samples)), measured(problem(train, asked))
    assert found.keys() == plain.keys()
    hog = found["hog", "accuracy"]
    assert hog.n == 80
    assert hog.value == pytest.approx(0.75, abs=0.05)
    assert plain["hog", "accuracy"].value > 0.95


def test_images_with_several_labels() -> None:
    train, test = striped(200, seed=1), striped(100, seed=2, name="test")
    sets = [
        replace(split, targets=np.stack([split.targets == 1, np.arange(len(split)) % 2 == 0], 1))
        for split in (train, test)
    ]
    found = measured(problem(*sets, MULTI_LABEL))
    assert {name for name, _ in found} == {"frequent", "hog"}
    stats = baselines.hog(problem(*sets, MULTI_LABEL)).stats
    assert (stats["predicted"][:, 0] == stats["targets"][:, 0]).mean() > 0.95
    assert 0.3 < (stats["predicted"][:, 1] == stats["targets"][:, 1]).mean() < 0.7


# -- recordings ------------------------------------------------------------------------------------


def test_sounds_are_told_apart_by_their_spectrum() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 90)
    recordings = [
        (3000 * np.sin(np.arange(1000 + 7 * at) * (0.2 + 0.5 * target)) + random.normal(0, 300))
        for at, target in enumerate(targets)
    ]
    inputs = Ragged.of("samples", recordings, "int16")
    train = Split("train", inputs, np.arange(60), targets[:60])
    test = Split("test", inputs, np.arange(60, 90), targets[60:])
    found = measured(problem(train, test, RECORDINGS, "abc", input_kind="audio"))
    assert {name for name, _ in found} == {"majority", "spectrum"}
    assert found["spectrum", "accuracy"].value > 0.95


# -- texts -------------------------------------------------------------------------------------


def text_problem(
    texts: list[str], targets: NDArray[Any], task: Task = TEXTS, labels: Sequence[str] = "ab"
) -> Problem:
    """Return a problem whose first half is learnt from; nothing but rows is asked of its splits."""
    half = len(texts) // 2
    rows = np.arange(len(texts))
    inputs = rows[:, None]
    train = Split("train", inputs, rows[:half], targets[:half])
    test = Split("test", inputs, rows[half:], targets[half:])
    return problem(
        train,
        test,
        task,
        labels,
        input_kind="text",
        texts=lambda rows: [texts[row] for row in rows.tolist()],
    )


def told_by_words(joint: str, *, count: int = 200) -> tuple[list[str], NDArray[np.int64]]:
    """Return texts of which a pair of signs tells the class, in either order of the signs."""
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, count)
    fillers = list("天地人山水火")
    texts = []
    for target in targets:
        filler = random.choice(fillers, 6).tolist()
        pair = ["好", "坏"] if target else ["坏", "好"]
        texts.append(joint.join([*filler[:3], *pair, *filler[3:]]))
    return texts, targets


@pytest.mark.parametrize("joint", ["", " "])
def test_texts_with_and_without_blanks_are_told_by_pairs(joint: str) -> None:
    asked = text_problem(*told_by_words(joint))
    answers = baselines.words(asked)
    assert (answers.stats["predicted"] == answers.stats["targets"]).mean() > 0.95
    assert "weights of 1- to 3-grams of characters with" in answers.method
    found = measured(asked)
    assert {name for name, _ in found} == {"majority", "words"}


def test_words_are_weighed_as_a_linear_model_weighs_them() -> None:
    texts = ["red red blue", "blue sky", "red sky at night", "sky", "red", "blue blue night"]
    targets = np.array([0, 1, 0, 1, 0, 1])
    asked = text_problem([*texts, *texts], np.tile(targets, 2))
    encoder = fit_ngrams(texts)
    weighted = np.zeros((len(texts), encoder.size))
    for row, ngrams in zip(weighted, encoder.encode(texts), strict=True):
        row[ngrams["f0"]] = ngrams["f1"]
    expected = baselines._ridge(asked, csr_matrix(weighted), targets, csr_matrix(weighted))
    stats = baselines.words(asked).stats
    np.testing.assert_array_equal(stats["predicted"], expected.argmax(axis=1))
    # The confidence is what the scores would be as logits.
    shares = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(stats["confidence"], shares.max(axis=1), atol=1e-3)


def test_texts_beyond_the_budget_are_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, targets = told_by_words(" ")
    monkeypatch.setattr(baselines, "_CHARACTERS", 40 * len(texts[0]))
    answers = baselines.words(text_problem(texts, targets))
    assert "fitted on 40 of 100 samples" in answers.method
    assert answers.positions is not None
    assert len(answers.positions) == 40
    np.testing.assert_array_equal(answers.stats["targets"], targets[100:][answers.positions])


def test_texts_of_nothing_leave_words_out() -> None:
    targets = np.array([0, 0, 1, 0, 1, 1, 0, 0])
    for blank in ("", " \n "):
        with pytest.raises(DataError, match="no text"):
            baselines.words(text_problem([blank] * 8, targets))


def test_several_labels_of_texts() -> None:
    random = np.random.default_rng(0)
    targets = random.random((400, 3)) < 0.4
    names = ["soup", "bed", "price"]
    texts = [
        " ".join(["the", *(name for name, there in zip(names, row, strict=True) if there), "end"])
        for row in targets
    ]
    found = measured(text_problem(texts, targets, MULTI_LABEL, names))
    assert {name for name, _ in found} == {"frequent", "words"}
    assert found["words", "f1_macro"].value > 0.95
    assert found["words", "log_loss"].value < found["frequent", "log_loss"].value
    assert "never narrower than the exact interval" in found["words", "f1_micro"].method


def test_one_label_there_or_not() -> None:
    targets = (np.arange(40) % 3 == 0)[:, None]
    texts = ["yes indeed" if there else "no never" for there in targets[:, 0]]
    stats = baselines.words(text_problem(texts, targets, MULTI_LABEL, ["only"])).stats
    np.testing.assert_array_equal(stats["predicted"], stats["targets"])


def test_the_most_frequent_labels_by_hand() -> None:
    train = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0], [1, 1, 0]])
    test = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    asked = text_problem(["a"] * 12, np.concatenate([train, test]).astype(bool), MULTI_LABEL, "abc")
    found = measured(asked)
    # 9 labels of 6 samples: the 2 most frequent; 3 of the 12 that are answered are right.
    assert "2 of them: `a`, `b`" in found["frequent", "f1_micro"].method
    assert found["frequent", "f1_micro"].value == pytest.approx(2 * 3 / (12 + 3))
    assert found["frequent", "exact_match"].value == pytest.approx(1 / 6)
    chance = (np.array([4, 4, 1]) + 0.5) / 7
    loss = -np.where(test, np.log(chance), np.log(1 - chance)).mean()
    assert found["frequent", "log_loss"].value == pytest.approx(loss, rel=EXACT)


@pytest.mark.parametrize("count", [5, 6])
def test_of_many_labels_that_are_answered_five_are_named(count: int) -> None:
    targets = np.ones((8, count), bool)
    method = baselines.frequent(
        text_problem(["a"] * 8, targets, MULTI_LABEL, "abcdef"[:count])
    ).method
    more = ", …" if count > 5 else ""
    assert method.endswith(f", {count} of them: `a`, `b`, `c`, `d`, `e`{more}")


def test_unknown_labels_count_as_missed() -> None:
    random = np.random.default_rng(3)
    targets = random.random((80, 2)) < 0.5
    texts = [" ".join(np.array(["soup", "bed"])[row]) or "end" for row in targets]
    plain = text_problem(texts, targets, MULTI_LABEL)
    more = np.arange(40)[:, None] % 4 == 0
    samples = replace(
        plain.samples,
        targets=np.concatenate([plain.samples.targets, more], axis=1),
        unknown=("new",),
    )
    one, other = measured(replace(plain, samples=samples)), measured(plain)
    assert one.keys() == other.keys()
    for name in ("frequent", "words"):  # Of a third label nothing is found.
        assert one[name, "f1_macro"].value == pytest.approx(other[name, "f1_macro"].value * 2 / 3)
        assert one[name, "log_loss"].n == 30


# -- numbers, tokens, texts from texts ---------------------------------------------------------


def test_always_the_average() -> None:
    targets = np.array([[1.0, 10.0], [3.0, 30.0], [2.0, 60.0], [4.0, 20.0]])
    train = Split("train", targets, np.arange(2), targets[:2])
    test = Split("test", targets, np.arange(2, 4), targets[2:])
    task = TASKS["regression", OutputKind.REGRESSION]
    found = measured(problem(train, test, task, input_kind="arrays"))
    assert found["mean", "mae"].value == pytest.approx((0 + 40 + 2 + 0) / 4)
    assert found["mean", "rmse"].value == pytest.approx(((0 + 1600 + 4 + 0) / 4) ** 0.5)


def tokens_of(name: str, *texts: list[int]) -> Split:
    rows = [np.array(text, np.int64) for text in texts]
    ones = [np.ones(len(text), np.int64) for text in texts]
    targets = Joined(
        (
            Ragged.of("next", rows, "int64", length_name=""),
            Ragged.of("bytes", ones, "int64", length_name=""),
        )
    )
    inputs = np.zeros((len(texts), 1))
    return Split(name, inputs, np.arange(len(texts)), targets, texts=np.arange(len(texts)))


def test_how_frequent_each_token_is_by_hand() -> None:
    train, test = tokens_of("train", [1, 1, 2], [1]), tokens_of("test", [1, 2], [3])
    asked = problem(
        train,
        test,
        TASKS["language-modeling", OutputKind.CAUSAL_LM],
        num_outputs=4,
        input_kind="text",
    )
    found = measured(asked)
    # Tokens 1, 2 and 3 occur 3, 1 and 0 times; one is added to each.
    losses = -np.log(np.array([4, 2, 1]) / 7)
    assert found["unigram", "token_loss"].value == pytest.approx(losses.mean(), rel=EXACT)
    assert found["unigram", "perplexity"].value == pytest.approx(np.exp(losses.mean()), rel=EXACT)
    bits = losses.sum() / np.log(2) / 3
    assert found["unigram", "bits_per_byte"].value == pytest.approx(bits, rel=EXACT)
    assert "of the 2 texts" in found["unigram", "token_loss"].method
    # A model that knows each token beforehand, compared text by text.
    stats = dict(baselines.unigram(asked).stats)
    stats["loss"] = np.zeros(2)
    model = Measurement((), "sha256:model", stats, ())
    (*_, gain) = measure_baselines(asked, model, fingerprint="data")
    assert (gain.metric, gain.subject, gain.model) == (GAIN, "model", "sha256:model")
    assert gain.value == pytest.approx(np.exp(losses.mean()) - 1, rel=EXACT)
    assert "of the 2 texts" in gain.method


def test_the_text_itself_and_its_first_sentence() -> None:
    sources = ["A cat sat. It slept!", "Two dogs ran! Then they rested."] * 8
    for task, name, references in (
        ("translation", "copy", sources),
        ("summarization", "lead", ["A cat sat.", "Two dogs ran!"] * 8),
    ):
        split = Split(
            "test",
            np.zeros((16, 1)),
            np.arange(16),
            np.zeros(16),
            pairs=lambda references=references: (sources, references),
        )
        found = measured(problem(split, split, TASKS[task, OutputKind.SEQ2SEQ], input_kind="text"))
        assert {subject for subject, _ in found} == {name}
        assert found[name, "chrf"].value == 100


# -- boxes -------------------------------------------------------------------------------------


def boxed(name: str, *images: list[tuple[int, tuple[float, ...]]]) -> Split:
    """Return a split of images whose boxes are given with their class."""
    boxes = [np.array([box for _, box in image], np.float32).reshape(-1, 4) for image in images]
    labels = [np.array([label for label, _ in image], np.int64) for image in images]
    targets = Joined(
        (
            Ragged.of("boxes", boxes, "float32", length_name="", multiple=1),
            Ragged.of("labels", labels, "int64", length_name="", multiple=1, pad=-1),
        )
    )
    rows = np.arange(len(images), dtype=np.int64)
    return Split(name, np.zeros((len(images), 1, 1, 1), np.uint8), rows, targets)


def average_box(train: Split, samples: Split, labels: Sequence[str]) -> dict[str, Evidence]:
    found = measured(problem(train, samples, TASKS["object-detection", OutputKind.BOXES], labels))
    assert {name for name, _ in found} == {"box"}
    return {metric: item for (_, metric), item in found.items()}


def test_the_average_box_of_each_class_is_answered() -> None:
    train = boxed(
        "train",
        [(0, (0, 0, 8, 8)), (1, (20, 20, 30, 30))],
        [(0, (2, 2, 10, 10))],
        [],
    )
    right = boxed("test", [(0, (1, 1, 9, 9))], [(1, (20, 20, 30, 30)), (0, (1, 1, 9, 9))])
    # All cats are found; of two dogs that are said, surest first, the second is one.
    found = average_box(train, right, ("cat", "dog"))
    assert found["map50"].value == pytest.approx((1.0 + 0.5) / 2)
    wrong = boxed("test", [(0, (40, 40, 50, 50))])
    assert average_box(train, wrong, ("cat", "dog"))["map50"].value == 0.0


def test_boxes_of_an_unknown_class_count_as_missed() -> None:
    train = boxed("train", [(0, (0, 0, 8, 8))])
    samples = boxed("test", [(0, (0, 0, 8, 8))], [(1, (0, 0, 8, 8))])
    asked = average_box(train, replace(samples, unknown=("emu",)), ("cat",))
    known = average_box(train, boxed("test", [(0, (0, 0, 8, 8))], []), ("cat",))
    assert asked.keys() == known.keys()
    for metric, record in asked.items():
        assert record.value == pytest.approx(known[metric].value / 2)


# -- the table ---------------------------------------------------------------------------------


def test_the_table_names_kinds_that_there_are() -> None:
    kinds = set(OutputKind)
    others = {"", *InputKind, *(name for name, _ in TASKS)}
    for kind, other in BASELINES:
        assert kind in kinds
        assert other in others
    # No simple method transcribes speech.
    assert {kind for kind, _ in BASELINES} == kinds - {OutputKind.CTC}


def test_numbers_are_predicted_from_words_and_gradients() -> None:
    random = np.random.default_rng(0)
    task = TASKS["regression", OutputKind.REGRESSION]
    counts = random.integers(0, 5, (240, 2))
    texts = [
        " ".join(["the", *["good"] * good, *["bad"] * bad, f"film{at % 7}"])
        for at, (good, bad) in enumerate(counts.tolist())
    ]
    targets = 1e6 + (counts[:, :1] - counts[:, 1:]).astype(np.float64)
    found = measured(text_problem(texts, targets, task, ["stars"]))
    assert {name for name, _ in found} == {"mean", "words"}
    assert found["words", "rmse"].value < 0.5 * found["mean", "rmse"].value

    train, test = striped(400, seed=1), striped(200, seed=2, name="test")
    slopes = [replace(split, targets=split.targets[:, None] * 3.0 - 7.0) for split in (train, test)]
    found = measured(problem(*slopes, task, ["slope"]))
    assert {name for name, _ in found} == {"mean", "hog"}
    assert found["hog", "rmse"].value < 0.5 * found["mean", "rmse"].value
