"""Between arrays and torch: a network is built again, with its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from modelwright import modelfile
from modelwright.errors import ModelFileError
from modelwright.kinds import OutputKind
from modelwright.modelfile.tensors import BF16
from modelwright.modelfile.torch_runtime import from_torch, to_torch
from modelwright.models.candidate import Candidate
from tests.modelfile.making import FROZEN, LABELS, arrays_candidate, text_candidate


def test_rebuilding_gives_a_network_of_its_own(packed: Path, cnn: Candidate) -> None:
    first, second = modelfile.rebuild(packed), modelfile.rebuild(packed)
    assert (first.task, first.labels, first.input) == (cnn.task, cnn.labels, cnn.input)
    assert first.architecture == cnn.architecture
    assert [step["step"] for step in first.lineage] == ["export"]
    with torch.no_grad():
        next(first.network.parameters()).add_(1)
    name = next(iter(first.network.state_dict()))
    assert all(item.requires_grad for item in second.network.parameters())
    held = modelfile.read_weights(packed)[name]
    assert np.array_equal(second.network.state_dict()[name].numpy(), held)
    assert modelfile.rebuild(FROZEN).labels == LABELS


def test_encoded_weights_are_decoded_for_training() -> None:
    state = modelfile.rebuild(FROZEN.read_bytes()).network.state_dict()
    held = modelfile.read_weights(FROZEN)
    assert {name: array.tolist() for name, array in held.items()} == {
        name: item.tolist() for name, item in state.items()
    }


def test_what_a_file_says_of_itself_without_its_network(tmp_path: Path) -> None:
    found = modelfile.declared(FROZEN)
    assert (found.input.height, found.task, found.output_kind) == (
        4,
        "image-classification",
        OutputKind.SINGLE_LABEL,
    )
    made = text_candidate()
    modelfile.write_model(tmp_path / "text.mw", made)
    assert modelfile.declared(tmp_path / "text.mw").input == made.input
    network = torch.nn.Linear(3, 2)
    shape = {"name": "x", "dtype": "float32", "shape": ["N", 3]}
    modelfile.write_model(tmp_path / "arrays.mw", arrays_candidate(network, shape))
    with pytest.raises(ModelFileError, match="takes arrays") as caught:
        modelfile.declared(tmp_path / "arrays.mw")
    assert caught.value.where == str(tmp_path / "arrays.mw")


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "bfloat16", "float64", "int8", "uint8", "int64", "bool"]
)
def test_tensors_and_arrays_are_each_others(dtype: str) -> None:
    tensor = (torch.arange(12).reshape(3, 4) - 5).to(getattr(torch, dtype))
    for item in (tensor, tensor.T, tensor[0, 0], tensor[:0]):
        array = from_torch(item, name="x")
        assert array.shape == tuple(item.shape)
        assert (array.dtype == BF16) == (dtype == "bfloat16")
        again = to_torch(array)
        assert again.dtype == item.dtype
        assert torch.equal(again, item)
    array = from_torch(tensor, name="x")
    before = array.tobytes()
    to_torch(array).zero_()
    assert array.tobytes() == before  # its own memory


def test_kinds_of_number_that_no_file_holds() -> None:
    with pytest.raises(ModelFileError, match=r"can't hold `w`, a tensor of torch\.float8_e5m2"):
        from_torch(torch.zeros(2).to(torch.float8_e5m2), name="w")
    assert from_torch(torch.zeros(2), name="w").dtype == np.float32
