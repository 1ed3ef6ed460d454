"""The sections `inference` and `generate`: all that decides an answer beyond the weights."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelwright.kinds import CLASSIFICATION, VECTOR_OUTPUTS, OutputKind
from modelwright.recipe.spec import AUDIO, IMAGES, For, FromList, Spec

_FOR_SEQ2SEQ = For(outputs=(OutputKind.SEQ2SEQ,))
_FOR_CAUSAL_LM = For(outputs=(OutputKind.CAUSAL_LM,))


class LanguageModelSpec(Spec):
    """A character n-gram model of the training transcripts, used while decoding.

    N-grams are smoothed (Witten and Bell 1991), in a search over prefixes (Hannun et al. 2014).
    """

    order: Annotated[int, Field(ge=1, le=12)] = 5
    """Characters of an n-gram."""
    weight: Annotated[float, Field(gt=0, le=10)] = 0.5
    """The factor on its log-probabilities, beside the network's."""


class ThresholdSpec(Spec):
    """The probability from which on a class is predicted, so that few samples of it are missed.

    The highest such probability is chosen on the validation split; what it comes to on the test
    split is measured as `recall_at_threshold` and `precision_at_threshold`.
    """

    label: str
    """The class that is not to be missed."""
    min_recall: Annotated[float, Field(gt=0, le=1)] = 0.95
    """The share of the class that is to be found in the validation split."""


class InferenceSpec(Spec):
    """What decides an answer beyond the weights; it is part of the model file."""

    tta: Annotated[
        Literal["none", "flip", "flip_shift", "speeds"],
        For(inputs=IMAGES, outputs=VECTOR_OUTPUTS, values=("flip", "flip_shift")),
        For(inputs=AUDIO, outputs=VECTOR_OUTPUTS, values=("speeds",)),
    ] = "none"
    """Test-time augmentation: the answers to several views are averaged. `flip`: the image and its
    mirror image; `flip_shift`: both also shifted by a pixel; `speeds`: played a tenth slower and
    faster as well."""
    language_model: Annotated[LanguageModelSpec | None, For(outputs=(OutputKind.CTC,))] = None
    """Decode with a character model of the training transcripts."""
    calibration: Annotated[
        Literal["temperature", "none"],
        For(outputs=CLASSIFICATION),
    ] = "temperature"
    """Divide the logits by a temperature that is fitted on the validation split, so that
    probabilities are as often right as they say (Guo et al. 2017); of several labels one each."""
    threshold: Annotated[ThresholdSpec | None, For(outputs=(OutputKind.SINGLE_LABEL,))] = None
    """Choose a decision threshold for a class that is not to be missed."""


class GenerateSpec(Spec):
    """How texts are generated; it is part of the model file, and `predict` obeys it."""

    outputs = (OutputKind.SEQ2SEQ, OutputKind.CAUSAL_LM)
    max_new_tokens: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = "auto"
    """The most tokens of an answer; `auto`: `text.max_length` for texts from texts, else 200."""
    num_beams: Annotated[int, Field(ge=1, le=64), _FOR_SEQ2SEQ] = 4
    """Beams of the search; 1 takes the most probable token each time."""
    length_penalty: Annotated[float, Field(ge=0, le=10), _FOR_SEQ2SEQ] = 1.0
    """The exponent by which longer texts are favoured (Wu et al. 2016, equation 14)."""
    temperature: Annotated[float, Field(ge=0, le=100), _FOR_CAUSAL_LM] = 0.8
    """What the logits are divided by before a token is drawn; 0 takes the most probable one."""
    top_k: Annotated[Annotated[int, Field(ge=1, le=1 << 20)] | None, _FOR_CAUSAL_LM] = None
    """Draw among this many most probable tokens (Fan et al. 2018)."""
    top_p: Annotated[Annotated[float, Field(gt=0, le=1)] | None, _FOR_CAUSAL_LM] = None
    """Draw among the fewest tokens that have this probability together (Holtzman et al. 2020)."""
    repetition_penalty: Annotated[float, Field(gt=0, le=100), _FOR_CAUSAL_LM] = 1.0
    """What the logits of tokens that occurred are divided by (Keskar et al. 2019)."""
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], FromList, _FOR_CAUSAL_LM] = ()
    """Strings that end an answer; they aren't part of it."""
    seed: Annotated[int, Field(ge=0, lt=2**63), _FOR_CAUSAL_LM] = 0
    """Decides which tokens are drawn."""

    @model_validator(mode="after")
    def _check_search(self) -> Self:
        if self.num_beams == 1 and self._differs("length_penalty"):
            raise ValueError("`length_penalty` has no effect: `num_beams: 1` compares no texts")
        decisive = "temperature" if self.temperature == 0 else "top_k" if self.top_k == 1 else ""
        for name in ("temperature", "top_k", "top_p", "seed"):
            if decisive and name != decisive and self._differs(name):
                raise ValueError(
                    f"`{name}` has no effect: `{decisive}: {getattr(self, decisive):g}` takes the "
                    "most probable token each time"
                )
        return self

    def _differs(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).model_fields[name].default)
