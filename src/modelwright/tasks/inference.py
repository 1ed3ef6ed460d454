"""All that decides an answer beyond the weights, as a model file keeps it in `spec.json`.

The character model of a speech recogniser is an asset of its own, since it is large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

from modelwright.errors import ModelFileError, ModelwrightError
from modelwright.files import Json, JsonObject
from modelwright.kinds import OutputKind
from modelwright.tasks.beam_search import BeamSearchConfig
from modelwright.tasks.sampling import SamplingConfig

TEMPERATURES = (0.05, 20.0)
"""The least and the largest temperature of logits."""
_PRIVATE = ("stop_ids", "barred")
"""Fields that follow from the tokenizer."""
_MOST = {"max_new_tokens": 100_000, "num_beams": 64}
"""What the recipe allows at most, so that a file can't ask for endless work."""


def generation_config(kind: OutputKind) -> type[SamplingConfig | BeamSearchConfig] | None:
    """Return how texts are generated: texts from texts are searched for, others are sampled."""
    if not kind.is_generative:
        return None
    return BeamSearchConfig if kind == OutputKind.SEQ2SEQ else SamplingConfig


@dataclass(frozen=True, slots=True)
class Threshold:
    """A class that is predicted wherever its probability reaches a bound, and nowhere else."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Inference:
    """What decides an answer beyond the weights."""

    tta: str = "none"
    """Test-time augmentation: whose answers are averaged."""
    threshold: Threshold | None = None
    temperature: tuple[float, ...] = ()
    """What logits are divided by, so that probabilities are what they say: one number, or of
    several labels one each; empty where nothing is divided."""
    generate: SamplingConfig | BeamSearchConfig | None = None
    """How texts are generated, for the kinds of output that are texts."""

    def completed(self, output_kind: OutputKind) -> Inference:
        """Return it with the default generation settings where a kind needs some and has none."""
        config = generation_config(output_kind)
        if config is None or self.generate is not None:
            return self
        return replace(self, generate=config())

    def to_json(self) -> JsonObject:
        """Return it as plain JSON values."""
        generate = None
        if self.generate is not None:
            generate = {
                name: _plain(getattr(self.generate, name), annotation)
                for name, annotation in _annotations(type(self.generate)).items()
            }
        threshold = None if self.threshold is None else asdict(self.threshold)
        return {
            "tta": self.tta,
            "threshold": threshold,
            "temperature": list(self.temperature),
            "generate": generate,
        }

    @staticmethod
    def from_json(value: Json, *, output_kind: OutputKind, labels: tuple[str, ...]) -> Inference:
        """Read what `to_json` returned.

        Raises:
            ModelFileError: it isn't that, or it doesn't fit the kind of output and the labels.
        """
        match value:
            case {
                "tta": str(tta),
                "threshold": threshold,
                "temperature": list() | tuple() as temperature,
                "generate": generate,
                **others,
            } if not others:
                return Inference(
                    tta,
                    _threshold(threshold, output_kind, labels),
                    _temperature(temperature, output_kind, labels),
                    _generate(generate, output_kind),
                )
        raise ModelFileError(
            "the section `inference` isn't `tta`, `threshold`, `temperature` and `generate`"
        )


def _threshold(value: Json, output_kind: OutputKind, labels: tuple[str, ...]) -> Threshold | None:
    match value:
        case None:
            return None
        case {"label": str(label), "probability": float(probability), **others} if not others:
            is_single = output_kind == OutputKind.SINGLE_LABEL
            if is_single and label in labels and 0.0 <= probability <= 1.0:
                return Threshold(label, probability)
    raise ModelFileError("the threshold isn't one of a label of the model")


def _temperature(
    value: Sequence[Json], output_kind: OutputKind, labels: tuple[str, ...]
) -> tuple[float, ...]:
    sizes = {OutputKind.SINGLE_LABEL: 1, OutputKind.MULTI_LABEL: len(labels)}
    low, high = TEMPERATURES
    if value and (
        len(value) != sizes.get(output_kind)
        or not all(type(item) is float and low <= item <= high for item in value)
    ):
        raise ModelFileError("the temperature isn't one for this kind of output")
    return tuple(float(item) for item in value)


def _generate(value: Json, output_kind: OutputKind) -> SamplingConfig | BeamSearchConfig | None:
    config = generation_config(output_kind)
    if (value is None) != (config is None):
        raise ModelFileError(f"`inference.generate` doesn't fit the output kind `{output_kind}`")
    if config is None:
        return None
    types = _annotations(config)
    if not isinstance(value, Mapping) or set(value) != set(types):
        raise ModelFileError(f"`inference.generate` isn't {', '.join(sorted(types))}")
    given: JsonObject = {
        key: tuple(item) if isinstance(item, list) else item for key, item in value.items()
    }
    for key, item in given.items():
        is_too_large = isinstance(item, int) and item > _MOST.get(key, item)
        if not _is_of(item, types[key]) or is_too_large:
            raise ModelFileError(f"`inference.generate.{key}` is {item!r:.40}")
    try:
        return config(**given)
    except ModelwrightError as error:
        raise ModelFileError(f"`inference.generate`: {error.what}", fix=error.fix) from error


def _annotations(config: type[SamplingConfig | BeamSearchConfig]) -> dict[str, str]:
    """Return the types of the fields that a file keeps, as they are written in the class."""
    return {item.name: str(item.type) for item in fields(config) if item.name not in _PRIVATE}


def _plain(value: Json, annotation: str) -> Json:
    """Return a field's value as JSON has it; a float is one, also where an int was given."""
    if isinstance(value, tuple):
        return list(value)
    return float(value) if annotation.startswith("float") and value is not None else value


def _is_of(value: object, annotation: str) -> bool:
    """Say whether a JSON value is of a field's type: int, float, text, a list of texts, or null."""
    match annotation:
        case "int":
            return type(value) is int
        case "float":
            return type(value) is float
        case "int | None":
            return value is None or type(value) is int
        case "float | None":
            return value is None or type(value) is float
        case _:
            return isinstance(value, tuple) and all(type(item) is str for item in value)
