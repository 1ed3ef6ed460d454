"""The recipe itself, in which all that the user asks for stands, and its smallest sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr

from modelwright.files import json_digest
from modelwright.kinds import ANY_OUTPUT, TASK_KINDS, InputKind, OutputKind
from modelwright.recipe.compression import CompressionStep
from modelwright.recipe.data import DataSpec, TableData
from modelwright.recipe.inference import GenerateSpec, InferenceSpec
from modelwright.recipe.model import ModelSpec
from modelwright.recipe.preparation import AudioSpec, AugmentSpec, TextSpec, TransformsSpec
from modelwright.recipe.spec import For, FromList, Rare, Spec
from modelwright.recipe.targets import TargetExpression
from modelwright.recipe.train import TrainSpec

Task = Literal[
    "image-classification",
    "text-classification",
    "audio-classification",
    "regression",
    "language-modeling",
    "translation",
    "summarization",
    "speech-recognition",
    "object-detection",
]


class EvaluateSpec(Spec):
    """How the shipped file is measured."""

    baselines: Annotated[bool, For(outputs=ANY_OUTPUT - {OutputKind.CTC})] = True
    """Also measure simple methods: the most frequent answer, a linear model of simple features."""
    latency: bool = True
    """Also measure time per prediction."""
    profile: str | None = None
    """The profile of the machine that will serve, as `modelwright profile --save FILE` writes it
    there: times count as on that machine. `--on FILE` is short for it."""


class ResourcesSpec(Spec):
    """Where the run takes place; never part of what is computed."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """The processor; `auto` takes a GPU where there is one."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Processor threads; all cores where not said."""
    identity: Annotated[tuple[str, ...], FromList, Rare()] = ()
    """What opens sealed data and models: `file:PATH`, `env:NAME`, `plugin:NAME` or
    `passphrase:env:NAME`. It stands in a site file, never in a recipe."""


def _whole(value: object) -> object:
    return value if type(value) is int else None  # `true` and 1.0 equal 1, and aren't meant


def _in_full(value: object) -> object:
    """Return the section that a short form of `model` stands for."""
    if isinstance(value, str) and value.startswith("transformers:"):
        return {"name": "transformers", "path": value.removeprefix("transformers:")}
    if isinstance(value, str) and value.startswith("timm:"):
        return {"name": "timm", "model": value.removeprefix("timm:")}
    return value


class Recipe(Spec):
    """All that a run is asked for. `modelwright config` prints every default."""

    version: Annotated[Literal[1], BeforeValidator(_whole)]
    """The version of this format."""
    data: DataSpec
    """Which samples."""
    task: Task = "image-classification"
    """What is predicted from what."""
    transforms: TransformsSpec = TransformsSpec()
    """How an image becomes the network's input."""
    text: TextSpec = TextSpec()
    """How a text becomes the network's input."""
    audio: AudioSpec = AudioSpec()
    """How a recording becomes the network's input."""
    augment: AugmentSpec = AugmentSpec()
    """Random variation of the training samples."""
    model: Annotated[ModelSpec | Literal["auto"], BeforeValidator(_in_full)] = "auto"
    """The network; `auto` takes one that suits the task. For labels and numbers it fits a linear
    model first. Where a published network is installed and suits the data, it fits one of its
    features too, and then trains it further in place of the default family, if the time that is
    left holds two epochs of it; the better one on validation ships. Short for a folder of Hugging
    Face's transformers is `transformers:FOLDER`, for a network of timm's `timm:NAME`."""
    train: TrainSpec = TrainSpec()
    """How it learns."""
    compress: Annotated[tuple[CompressionStep, ...], FromList] | Literal["auto"] = ()
    """What makes the trained network smaller and faster, step by step; `auto` searches for the
    network and the steps that meet `targets`, within `train.budget`. Where no target limits size or
    time, it looks for the smallest and fastest that is hardly worse."""
    inference: InferenceSpec = InferenceSpec()
    """What decides an answer beyond the weights."""
    generate: GenerateSpec = GenerateSpec()
    """How texts are generated."""
    evaluate: EvaluateSpec = EvaluateSpec()
    """How it is measured."""
    targets: dict[str, TargetExpression] = Field(default_factory=dict)
    """What must be reached, by metric: `accuracy: ">= 0.93"`."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides every random choice of training."""
    resources: ResourcesSpec = ResourcesSpec()
    """Where the run takes place."""

    _places: Mapping[str, str] = PrivateAttr({})
    _from_site: frozenset[str] = PrivateAttr(frozenset())

    def read_from(self, places: Mapping[str, str], *, site: frozenset[str]) -> Self:
        """Return the recipe, knowing where its settings stand and which a site file gave.

        Args:
            places: the place of each setting that was written down, by its dotted path.
            site: the paths, beside `resources`, that say where this run takes place.
        """
        copy = self.model_copy()
        copy._places, copy._from_site = places, site
        return copy

    def place_of(self, path: str) -> str:
        """Return where a setting, or else the section around it, stands: `recipe.yaml:7`."""
        while path and path not in self._places:
            path = path.rpartition(".")[0]
        return self._places.get(path, "")

    @property
    def input_kind(self) -> InputKind:
        """What one sample is: the task says it, or else the data."""
        kinds = TASK_KINDS[self.task].inputs
        if len(kinds) > 1 and isinstance(self.data, TableData):
            return InputKind(self.data.input_kind)
        return kinds[0]

    @property
    def output_kind(self) -> OutputKind:
        """What is predicted of one sample: the task says it, or else the data."""
        kinds = TASK_KINDS[self.task].outputs
        if self.data.is_multi_label and OutputKind.MULTI_LABEL in kinds:
            return OutputKind.MULTI_LABEL
        return kinds[0]

    @property
    def steps(self) -> tuple[CompressionStep, ...]:
        """The steps of `compress`; none where a search finds them."""
        return () if self.compress == "auto" else self.compress

    def has_place(self, path: str) -> bool:
        """Say whether this setting was written down."""
        return path in self._places

    def __eq__(self, other: object) -> bool:
        """Compare what is asked for, not where it was written."""
        return isinstance(other, Recipe) and self.document() == other.document()

    __hash__ = None  # type: ignore[assignment]

    def document(self) -> dict[str, object]:
        """Return the recipe as plain JSON values, every default written out."""
        return self.model_dump(mode="json")

    def result_digest(self) -> str:
        """Return the digest of what decides the result: not `resources`, nor what a site gave."""
        document = self.document()
        del document["resources"]
        for path in self._from_site:
            section, _, key = path.partition(".")
            settings = document[section]
            assert isinstance(settings, dict)
            settings.pop(key, None)
        return json_digest(document)
