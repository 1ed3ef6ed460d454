"""From a model file back to a torch network, to train it further."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modelwright.errors import require
from modelwright.modelfile.container import open_container
from modelwright.modelfile.contents import digest, parse_lineage, whole_weights
from modelwright.modelfile.inputs import image_input
from modelwright.modelfile.manifest import LINEAGE, SPEC, WEIGHTS
from modelwright.modelfile.spec import FileSpec
from modelwright.modelfile.tensors import read_arrays

__all__ = ["declared_input", "digest", "rebuild"]

if TYPE_CHECKING:
    from modelwright.models.candidate import Candidate
    from modelwright.transforms import ImageInput


def declared_input(path: Path | str) -> ImageInput:
    """Return how a model file takes images.

    Raises:
        ModelFileError: it isn't a model file, is damaged, or takes something else.
    """
    with open_container(Path(path)) as container:
        return image_input(FileSpec.from_bytes(container.read(SPEC)).input)


def rebuild(path: Path | str) -> Candidate:
    """Build the network of a model file again, in evaluation mode, with its weights.

    Raises:
        ModelFileError: it isn't a model file, is damaged, or its architecture isn't known here.
        MissingExtraError: torch isn't installed.
    """
    require("torch", extra="train", purpose="to train a model file further")
    import torch

    from modelwright import models
    from modelwright.models.candidate import Candidate

    path = Path(path)
    with open_container(path) as container:
        spec = FileSpec.from_bytes(container.read(SPEC))
        arrays = whole_weights(spec, read_arrays(container.read(WEIGHTS), name=WEIGHTS))
        lineage = parse_lineage(container.read(LINEAGE))
        weights = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        return Candidate(
            network=models.rebuild(spec.architecture, weights, steps=spec.graph_steps),
            task=spec.task,
            input=image_input(spec.input),
            labels=spec.labels,
            architecture=spec.architecture,
            views=spec.views,
            lineage=lineage,
        )
