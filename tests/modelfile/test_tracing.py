"""A network as a graph: the same answers, norms folded, weights of its own for each use."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from modelwright.modelfile.inputs import open_input
from modelwright.modelfile.tracing import CONVOLUTIONS, aten, is_call, layer_of, trace
from modelwright.models.candidate import Candidate
from tests.compression.networks import small


def inputs_of(candidate: Candidate) -> tuple[Tensor, ...]:
    reader = open_input(candidate.input.to_json(), candidate.assets)
    samples = reader.synthetic(5)
    return tuple(torch.from_numpy(samples[tensor.name]) for tensor in reader.tensors)


@pytest.mark.parametrize("name", ["cnn", "resnet", "resnet 18", "speednet", "detector"])
def test_a_graph_answers_as_its_network_and_has_no_norm_left(name: str) -> None:
    candidate = small(name)
    graph, inputs = trace(candidate), inputs_of(candidate)
    with torch.no_grad():
        expected, found = candidate.network(*inputs), graph(*inputs)
        again = copy.deepcopy(graph)(*inputs)
    for own, other, copied in zip(*map(_tuple, (expected, found, again)), strict=True):
        torch.testing.assert_close(other, own, rtol=1e-4, atol=1e-5)
        assert torch.equal(other, copied)
    assert not [node for node in graph.graph.nodes if is_call(node, aten.batch_norm.default)]


def _tuple(answer: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


class Twice(nn.Module):
    """A convolution and a norm that are used twice, and a norm behind a pool."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.last, self.after = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        nn.init.constant_(self.after.weight, scale)
        self.after.running_mean.fill_(0.3)

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.permute(0, 3, 1, 2) / 255.0
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.relu(self.norm(self.conv(x)))
        return self.after(torch.max_pool2d(self.last(x), 2)).mean((2, 3))


@pytest.mark.parametrize(("scale", "norms"), [(2.0, 0), (-2.0, 1)])
def test_each_use_has_weights_of_its_own_and_a_negative_scale_stays_behind_a_pool(
    scale: float, norms: int
) -> None:
    torch.manual_seed(0)
    candidate = replace(small("cnn"), network=Twice(scale).eval(), labels=("a", "b", "c", "d"))
    graph, inputs = trace(candidate), inputs_of(candidate)
    with torch.no_grad():
        torch.testing.assert_close(graph(*inputs), candidate.network(*inputs))
    calls = [node for node in graph.graph.nodes if is_call(node, *CONVOLUTIONS)]
    assert [layer_of(node) for node in calls] == ["conv", "conv_2", "last"]
    left = [node for node in graph.graph.nodes if is_call(node, aten.batch_norm.default)]
    assert len(left) == norms
