"""What a model's features and weights come from, in sentences, by its lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_FEATURES = {
    "tfidf": "the TF-IDF weights of {count} n-grams of words and characters",
    "hog": "histograms of oriented gradients ({count} numbers an image)",
    "logmel": "the mean, deviation and change of the bands of a log-mel spectrogram ({count} "
    "numbers a recording)",
}
"""The features of a linear model that aren't a published network's."""


def describe_origin(lineage: Sequence[Mapping[str, object]]) -> list[str]:
    """Return what a linear model's features are, and which published weights a model began with.

    Args:
        lineage: the steps that led to the model.
    """
    began: Mapping[str, object] = next((x for x in lineage if x.get("step") == "pretrained"), {})
    # The last one in which anything was learnt; of a linear model it has a `C`.
    trained = next((x for x in reversed(lineage) if "C" in x or "steps" in x), {})
    source = _published(began)
    if "C" not in trained:
        return [f"Training began with {source}."] if source else []
    name, number = str(trained.get("features")), trained.get("num_features")
    count = f"{number:,}" if isinstance(number, int) else "some"
    if source:
        return [f"The model is linear, on {count} features of {source}."]
    if name not in _FEATURES:
        return []
    return [f"The model is linear, on {_FEATURES[name].format(count=count)}."]


def _published(step: Mapping[str, object]) -> str:
    """Return published weights with what is known of them; empty where there are none."""
    if "package" not in step:
        return ""
    known = {name: str(step.get(name, "unknown")) for name in _KNOWN}
    digest = known["weights"].removeprefix("sha256:")
    return (
        f"the published network `{known['model']}` (package {known['package']} "
        f"{known['version']}, licence {known['licence']}, trained on {known['trained_on']}; "
        f"SHA-256 of its weights {digest[:16]}…)"
    )


_KNOWN = ("model", "package", "version", "licence", "trained_on", "weights")
"""What a step of lineage says of published weights."""
