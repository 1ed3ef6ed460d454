"""The recipe itself: the one document in which all that the user asks for stands."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PrivateAttr

from modelwright.files import json_digest
from modelwright.recipe.data import AugmentSpec, DataSpec, TransformsSpec
from modelwright.recipe.evaluate import EvaluateSpec, ResourcesSpec, Target
from modelwright.recipe.model import CnnModel, ModelSpec
from modelwright.recipe.spec import Spec
from modelwright.recipe.train import TrainSpec

Task = Literal["image-classification"]


class Recipe(Spec):
    """All that a run is asked for. `modelwright config` prints every default."""

    version: Literal[1]
    """The version of this format."""
    data: DataSpec
    """Which samples."""
    task: Task = "image-classification"
    """What is predicted from what."""
    transforms: TransformsSpec = TransformsSpec()
    """How a sample becomes the network's input."""
    augment: AugmentSpec = AugmentSpec()
    """Random variation of the training samples."""
    model: ModelSpec = CnnModel(name="cnn")
    """The network."""
    train: TrainSpec = TrainSpec()
    """How it learns."""
    evaluate: EvaluateSpec = EvaluateSpec()
    """How it is measured."""
    targets: dict[str, Target] = {}
    """What must be reached, by metric: `accuracy: ">= 0.93"`."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides every random choice of training."""
    resources: ResourcesSpec = ResourcesSpec()
    """Where the run takes place."""

    _placed: frozenset[str] = PrivateAttr(frozenset())

    def placed(self, paths: frozenset[str]) -> Self:
        """Return the recipe, knowing which settings beside `resources` a site file gave."""
        if paths == self._placed:
            return self
        copy = self.model_copy()
        copy._placed = paths
        return copy

    def document(self) -> dict[str, object]:
        """Return the recipe as plain JSON values, every default written out."""
        return self.model_dump(mode="json")

    def result_digest(self) -> str:
        """Return the digest of what decides the result: all but `resources` and a site's settings."""
        document = self.document()
        del document["resources"]
        for path in self._placed:
            section, _, key = path.partition(".")
            held = document[section]
            assert isinstance(held, dict)
            del held[key]
        return json_digest(document)
