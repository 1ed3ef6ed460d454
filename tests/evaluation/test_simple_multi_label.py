"""Simple answers with any number of labels: by hand, and against scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.naive_bayes import MultinomialNB

from modelwright.data.dataset import Split
from modelwright.data.ragged import Ragged
from modelwright.evaluation import label_set_baselines, simple
from modelwright.run import Progress
from modelwright.tasks import LABEL_SETS

TASK = LABEL_SETS["text-classification"]
LABELS = ("a", "b", "c")


def split_of(texts: list[list[int]], targets: np.ndarray, name: str = "train") -> Split:
    rows = [np.array(text, dtype=np.int64) for text in texts]
    inputs = Ragged.of("tokens", rows, "int64")
    return Split(name, inputs, np.arange(len(rows)), np.asarray(targets, dtype=np.bool_))


def drawn(seed: int, count: int = 60) -> tuple[list[list[int]], np.ndarray]:
    """Return token ids 1 to 12 and labels that some of them go with."""
    random = np.random.default_rng(seed)
    targets = random.random((count, 3)) < 0.4
    texts = []
    for row in targets:
        own = [1 + 3 * at for at in np.flatnonzero(row).tolist()]
        texts.append([*own, *random.integers(1, 13, random.integers(1, 6)).tolist()])
    return texts, targets


def test_the_most_frequent_labels_by_hand() -> None:
    train = [[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0], [1, 1, 0]]
    test = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=np.bool_)
    evidence = label_set_baselines(
        split_of([[1]] * 6, np.array(train)),
        split_of([[1]] * 3, test, "test"),
        TASK,
        LABELS,
        fingerprint="data",
    )
    found = {item.metric: item for item in evidence if item.subject == "baseline:frequent"}
    # 9 labels of 6 samples: the 2 most frequent; 3 of the 6 that are answered are right.
    assert "2 of them: `a`, `b`" in found["f1_micro"].method
    assert found["f1_micro"].value == pytest.approx(2 * 3 / (6 + 3))
    assert found["exact_match"].value == pytest.approx(1 / 3)
    chance = (np.array([4, 4, 1]) + 0.5) / 7
    loss = -np.where(test, np.log(chance), np.log(1 - chance)).mean()
    assert found["log_loss"].value == pytest.approx(loss)
    assert (found["log_loss"].split, found["log_loss"].data) == ("test", "data")


def test_counting_words_is_scikit_learns_naive_bayes_of_each_label() -> None:
    (texts, targets), (asked, wanted) = drawn(1), drawn(2, 25)
    counts, others = (
        np.stack([np.bincount(text, minlength=13)[1:] for text in each]) for each in (texts, asked)
    )
    chances = (targets.sum(axis=0) + 0.5) / (len(targets) + 1)
    logits = np.empty(wanted.shape)
    for at, chance in enumerate(chances):
        reference = MultinomialNB(class_prior=[1 - chance, chance]).fit(counts, targets[:, at])
        without, having = reference.predict_joint_log_proba(others).T
        logits[:, at] = having - without
    evidence = label_set_baselines(
        split_of(texts, targets), split_of(asked, wanted, "test"), TASK, LABELS, fingerprint="data"
    )
    found = {item.metric: item for item in evidence if item.subject == "baseline:words"}
    for metric, value in TASK.scores(logits, wanted, LABELS).items():
        assert found[metric].value == pytest.approx(value, rel=1e-9), metric
    assert found["f1_macro"].value > 0.6


def test_too_many_labels_for_the_words_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simple, "_COUNTS", 5)
    texts, targets = drawn(1)
    notes: list[str] = []

    def observe(progress: Progress) -> None:
        notes.append(progress.note)

    evidence = label_set_baselines(
        split_of(texts, targets),
        split_of(texts, targets, "test"),
        TASK,
        LABELS,
        fingerprint="data",
        observe=observe,
    )
    assert {item.subject for item in evidence} == {"baseline:frequent"}
    assert any("`words` is left out: 3 labels are too many" in note for note in notes)


def test_unknown_labels_count_as_missed() -> None:
    (texts, targets), (asked, wanted) = drawn(1), drawn(2, 25)
    more = np.arange(25)[:, None] % 3 == 0
    samples = split_of(asked, np.concatenate([wanted, more], axis=1), "test")
    train = split_of(texts, targets)
    plain = label_set_baselines(
        train, split_of(asked, wanted, "test"), TASK, LABELS, fingerprint="data"
    )
    found = label_set_baselines(
        train, replace(samples, unknown=("new",)), TASK, LABELS, fingerprint="data"
    )
    assert [item.subject for item in found] == [item.subject for item in plain]
    for one, other in zip(found, plain, strict=True):
        if one.metric == "f1_macro":  # Of a fourth label nothing is found.
            assert one.value == pytest.approx(other.value * 3 / 4)
        if one.metric == "log_loss":
            assert one.n == 16
