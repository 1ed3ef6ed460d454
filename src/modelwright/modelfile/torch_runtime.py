"""Between arrays and torch: from a model file back to a network, to train it further."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from modelwright.arrays import Array
from modelwright.errors import ModelFileError, require
from modelwright.kinds import InputKind, OutputKind
from modelwright.modelfile.container import Container, FileLike, open_container
from modelwright.modelfile.contents import assets_of, digest, parse_lineage, weights_of
from modelwright.modelfile.encoding import MOST_RATIO
from modelwright.modelfile.inputs import open_input
from modelwright.modelfile.manifest import LINEAGE, SPEC, WEIGHTS
from modelwright.modelfile.spec import FileSpec
from modelwright.modelfile.tensors import BF16, Arrays

_MOST_CODED = 1 << 30
"""Bytes of weights that codebooks may stand for, whatever the file's size."""

__all__ = ["declared", "digest", "rebuild"]

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelwright.models.candidate import Candidate


class Declared(NamedTuple):
    """The input, task and kind of output of a model file."""

    input: Any
    """How it takes its samples: `ImageInput` for images."""
    input_kind: InputKind
    task: str
    output_kind: OutputKind


def declared(file: FileLike) -> Declared:
    """Return the input, task and kind of output of a model file, without building its network.

    Raises:
        ModelFileError: it isn't a model file, is damaged, or takes something else.
    """
    with open_container(file) as container:
        spec = FileSpec.from_bytes(container.read(SPEC))
        input = _input(container, spec)
        return Declared(input, input.input_kind, spec.task, spec.output_kind)


def _input(container: Container, spec: FileSpec) -> Any:
    input_spec = open_input(spec.input, assets_of(container)).spec
    if input_spec is None:
        raise ModelFileError(
            "the model takes arrays, and only images, texts and recordings are known"
        )
    return input_spec


def rebuild(file: FileLike) -> Candidate:
    """Build the network of a model file again, in evaluation mode, with its weights.

    Raises:
        ModelFileError: it isn't a model file, is damaged, or its architecture isn't known here.
        MissingExtraError: torch isn't installed.
    """
    require("torch", extra="train", purpose="to train a model file further")
    from modelwright.models.candidate import Candidate

    with open_container(file) as container:
        spec = FileSpec.from_bytes(container.read(SPEC))
        network = network_of(spec, weights_of(container, spec))
        _check_codebooks(network, len(container.read(WEIGHTS)))
        return Candidate(
            network=network,
            task=spec.task,
            input=_input(container, spec),
            assets=assets_of(container),
            labels=spec.labels,
            architecture=spec.architecture,
            output_kind=spec.output_kind,
            inference=spec.inference,
            lineage=parse_lineage(container.read(LINEAGE)),
            codecs={  # Zeros stay worth it; what fits into 16 bits may not do so any more.
                name: "zstd" for name, how in spec.encoded.items() if how.codec.endswith("zstd")
            },
        )


def _check_codebooks(network: nn.Module, stored: int) -> None:
    """Refuse codebooks that stand for far more weights than the file holds bytes."""
    from modelwright.models.coded import codebooks_of

    total = 4 * sum(codebook.stored_parameters for codebook in codebooks_of(network))
    most = _MOST_CODED + MOST_RATIO * stored
    if total > most:
        raise ModelFileError(
            f"codebooks of {stored:,} bytes stand for weights of {total:,} bytes, and at most "
            f"{most:,} are accepted"
        )


def network_of(spec: FileSpec, weights: Arrays) -> nn.Module:
    """Build the network that a file declares, in evaluation mode, with its own copy of the weights.

    Raises:
        ModelFileError: its architecture isn't known here, or the weights don't fit.
        MissingExtraError: torch isn't installed.
    """
    require("torch", extra="train", purpose="to build a model file's network")
    from modelwright import models

    tensors = {name: to_torch(array) for name, array in weights.items()}
    return models.rebuild(spec.architecture, tensors, steps=spec.graph_steps).eval()


def to_torch(array: Array) -> Tensor:
    """Return an array of a model file as a tensor of its own memory."""
    import torch

    if array.dtype == BF16:
        return torch.from_numpy(np.array(array["bfloat16"])).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def from_torch(tensor: Tensor, *, name: str) -> Array:
    """Return a tensor as an array that a model file can hold.

    Raises:
        ModelFileError: it has a kind of number that the format doesn't hold.
    """
    import torch

    whole = tensor.detach().contiguous()
    try:
        if whole.dtype == torch.bfloat16:
            return whole.view(torch.uint16).numpy().view(BF16)
        return whole.numpy()
    except (TypeError, RuntimeError) as error:
        raise ModelFileError(
            f"a model file can't hold `{name}`, a tensor of {whole.dtype}",
            fix="Hold it in one of the kinds of number that docs/modelfile.md lists",
        ) from error
