"""Sentences about what a model's features and weights come from."""

from __future__ import annotations

import pytest

from modelwright.initialization.published import PUBLISHED, lineage_step
from modelwright.modelfile.origin import describe_origin

NGRAMS = {"step": "linear", "C": 10.0, "features": "tfidf", "num_features": 1234, "samples": 80}
TUNED = {"step": "train", "steps": 100, "precision": "fp32"}


def test_a_linear_model_names_its_features():
    assert describe_origin([NGRAMS, {"step": "pack"}]) == [
        "The model is linear, on the TF-IDF weights of 1,234 n-grams of words and characters."
    ]
    (hog,) = describe_origin([{**NGRAMS, "features": "hog"}])
    assert "histograms of oriented gradients" in hog
    assert describe_origin([TUNED]) == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_are_named_with_version_licence_and_digest(name):
    step, found = lineage_step(name), PUBLISHED[name]
    linear = {**NGRAMS, "features": name, "num_features": found.width}
    for train in (linear, TUNED):
        (said,) = describe_origin([step, train])
        words = (name, found.package, step["version"], found.licence, step["weights"][7:23])
        assert all(word in said for word in words)
    assert describe_origin([step, linear])[0].startswith(
        f"The model is linear, on {found.width:,} features of the published network"
    )


def test_lineage_of_strangers_is_no_traceback():
    strange = [{"step": "pretrained", "package": 3}, {**NGRAMS, "num_features": "many"}]
    assert "unknown" in describe_origin(strange)[0]
