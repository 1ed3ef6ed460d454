"""Static int8: which layers, which values, and what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from modelwright import modelfile
from modelwright.compression.quantize import plan
from modelwright.errors import ModelFileError
from modelwright.modelfile.tracing import layer_of, trace
from modelwright.models.quantized import QuantizedLayer, rounded_weights
from modelwright.recipe.compression import QuantizeStep
from tests.compression.making import Said, compress
from tests.compression.networks import small

STEP = QuantizeStep(name="quantize", dtype="int8")


@given(st.integers(0, 2**31), st.sampled_from([7, 8]))
def test_weights_are_rounded_to_the_nearest_step_of_each_output(seed: int, bits: int) -> None:
    weight = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
    weight[1] = 0
    integers, scale = rounded_weights(weight, bits)
    steps = scale.reshape(-1, 1, 1, 1)
    assert float((weight - integers * steps).abs().max()) <= float(scale.max()) * 0.5 + 1e-7
    assert int(integers.abs().max()) == 2 ** (bits - 1) - 1
    assert not integers[1].any()


class Ends(nn.Module):
    """Two convolutions, of which the second one's mean is the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        x = torch.relu(self.first(pixels.permute(0, 3, 1, 2) / 255.0))
        return self.last(x).mean((2, 3))


def test_layers_that_are_kept_and_the_last_convolution_stay_in_fp32() -> None:
    graph = trace(small("resnet 18"))
    layers = [layer_of(node) for node in plan(graph).layers]
    left = [layer_of(node) for node in plan(graph, layers[2:3]).layers]
    assert left == layers[:2] + layers[3:]
    ends = trace(replace(small("cnn"), network=Ends().eval()))
    assert [layer_of(node) for node in plan(ends).layers] == ["first"]


def test_parts_and_result_of_a_sum_are_rounded() -> None:
    chosen = plan(trace(small("resnet")))
    sums = [node for node in chosen.rounded if node.name.startswith("relu") and _adds(node)]
    assert len(sums) == 9  # Depth 20: each block ends with a sum.


def _adds(node: torch.fx.Node) -> bool:
    return str(node.args[0]).startswith("add")


def test_what_is_pooled_takes_the_range_of_what_it_is_chosen_from() -> None:
    chosen = plan(trace(small("speednet")))
    assert {node.name for node in chosen.like} == {"max_pool2d", "max_pool2d_1", "max_pool2d_2"}


def test_the_facts_tell_what_was_done(tmp_path: Path) -> None:
    candidate = small("cnn")
    after, facts = compress(candidate, STEP, tmp_path)
    layers = [item for item in after.network.modules() if isinstance(item, QuantizedLayer)]
    assert facts["layers"] == len(layers) == 3
    assert (facts["samples"], facts["weight_bits"]) in {(8, 7), (8, 8)}
    assert after.architecture["modifications"] == [{"kind": "int8", "kept": []}]
    assert candidate.network.state_dict()["body.hidden.0.weight"].dtype == torch.float32


def test_a_file_of_int8_layers_is_no_start_for_training(tmp_path: Path) -> None:
    after, _ = compress(small("cnn"), STEP, tmp_path)
    modelfile.write_model(tmp_path / "m.mw", after)
    with pytest.raises(ModelFileError, match="int8"):
        modelfile.rebuild(tmp_path / "m.mw")


def test_samples_that_are_all_black_are_said(tmp_path: Path) -> None:
    said, black = Said(), np.zeros((6, 32, 32, 3), np.uint8)
    after, _ = compress(small("cnn"), STEP, tmp_path, samples=black, observe=said)
    assert any("have one value for all 6 samples" in note for note in said.notes) or all(
        torch.isfinite(item.float()).all() for item in after.network.state_dict().values()
    )
    modelfile.write_model(tmp_path / "m.mw", after)


def test_one_sample_is_enough(tmp_path: Path) -> None:
    one = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    after, facts = compress(small("cnn"), STEP, tmp_path, samples=one)
    assert facts["samples"] == 1
    modelfile.write_model(tmp_path / "m.mw", after)
