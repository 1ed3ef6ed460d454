"""The sections `evaluate` and `resources`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelwright.kinds import VECTOR_OUTPUTS, InputKind, OutputKind
from modelwright.recipe.spec import For, Spec


class LanguageModelSpec(Spec):
    """How the training texts are spelled, letter by letter, helps to hear new ones.

    N-grams of letters, smoothed (Witten and Bell 1991), in a search over prefixes (Hannun et al.
    2014). Where a few words are all that is ever said, it knows them.
    """

    order: Annotated[int, Field(ge=1, le=12)] = 5
    """Letters of an n-gram."""
    weight: Annotated[float, Field(gt=0, le=10)] = 0.5
    """How much its say counts beside the network's."""


class RecallSpec(Spec):
    """From which probability on a class is called, so that few of it are missed.

    The highest such probability is chosen on the validation split; what it comes to on the test
    split is measured as `recall_at_threshold` and `precision_at_threshold`.
    """

    label: str
    """The class that is not to be missed."""
    at_least: Annotated[float, Field(gt=0, le=1)] = 0.95
    """The share of it that is to be found in the validation split."""


class EvaluateSpec(Spec):
    """How the shipped file is measured."""

    views: Annotated[
        Literal["none", "flip", 6, "speeds"],
        For(
            input=InputKind.IMAGE,
            output=VECTOR_OUTPUTS,
            values=("flip", 6),
        ),
        For(
            input=InputKind.AUDIO,
            output=VECTOR_OUTPUTS,
            values=("speeds",),
        ),
    ] = "none"
    """Test-time augmentation: the answers to several views are averaged. `flip`: the image and its
    mirror image; `6`: shifted by one pixel as well; `speeds`: played a tenth slower and faster."""
    baselines: bool = True
    """Also measure simple models: majority, nearest centroid, hand-crafted features."""
    latency: bool = True
    """Also measure time per prediction."""
    language_model: Annotated[LanguageModelSpec | None, For(output=OutputKind.CTC)] = None
    """Let a model of the training texts' letters have its say."""
    recall: Annotated[RecallSpec | None, For(output=OutputKind.SINGLE_LABEL)] = None
    """Choose a threshold for a class that is not to be missed."""


class ResourcesSpec(Spec):
    """Where the run takes place; never part of what is computed."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """The processor; `auto` takes a GPU where there is one."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Processor threads; all cores where not said."""
