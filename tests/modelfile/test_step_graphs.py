"""The graphs for single steps of networks that write, as they are before their export."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelwright.modelfile.generation import ENCODE, STEP
from modelwright.modelfile.step_graphs import NetworkGraph, step_graphs
from modelwright.models import build_network
from modelwright.recipe.networks import BowModel, DecoderModel, Seq2SeqModel
from modelwright.transforms.text import TextInput
from modelwright.transforms.tokenizing import train_tokenizer

TOKENIZER = train_tokenizer(["a b c d e f g"], kind="word", size=30, lowercase=True)
SPECS = {
    "decoder": DecoderModel(name="decoder", width=16, layers=2, heads=2),
    "transformer": Seq2SeqModel(name="seq2seq", kind="transformer", width=16, layers=2, heads=2),
    "lstm": Seq2SeqModel(name="seq2seq", kind="lstm", width=16, layers=1),
}


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    input = TextInput(TOKENIZER, 12, "prompt" if name == "decoder" else "source")
    return build_network(SPECS[name], input=input, num_outputs=TOKENIZER.size).eval()


def run(graph: NetworkGraph) -> list[np.ndarray]:
    arguments = [torch.from_numpy(graph.samples[tensor.name]) for tensor in graph.inputs]
    with torch.no_grad():
        found = graph.module(*arguments)
    return [item.numpy() for item in (found if isinstance(found, tuple) else (found,))]


@pytest.mark.parametrize("name", SPECS)
def test_samples_and_outputs_are_what_is_declared(name: str) -> None:
    whole = network(name)
    graphs = step_graphs(whole)
    assert [graph.name for graph in graphs] == ([STEP] if name == "decoder" else [ENCODE, STEP])
    for graph in graphs:
        for tensor in graph.inputs:
            sample = graph.samples[tensor.name]
            assert sample.dtype.name == tensor.dtype
            assert sample.ndim == len(tensor.shape)
            sizes = zip(tensor.shape, sample.shape, strict=True)
            assert all(size == own for size, own in sizes if isinstance(size, int))
        assert graph.samples.keys() == {tensor.name for tensor in graph.inputs}
        assert len({len(sample) for sample in graph.samples.values()}) == 1
        found = run(graph)
        assert len(found) == len(graph.outputs)
        assert [form.dtype for form in graph.outputs] == [array.dtype.name for array in found]
        assert graph.module.get_submodule(graph.within) is whole


@pytest.mark.parametrize("name", SPECS)
def test_a_step_gives_the_next_token_and_a_grown_state(name: str) -> None:
    graph = step_graphs(network(name))[-1]
    assert [form.name for form in graph.outputs] == ["next", "grown"]
    logits, grown = run(graph)
    assert logits.shape == (3, TOKENIZER.size)
    state = graph.samples[graph.inputs[-1].name]
    assert grown.ndim == state.ndim
    taken = graph.samples["tokens"].shape[1] if name != "lstm" else 0
    assert grown.size == state.size + taken * state.size // (state.shape[4] if taken else 1)


def test_a_network_that_writes_nothing_has_none() -> None:
    input = TextInput(TOKENIZER, 12)
    spec = BowModel(name="bow", width=4, buckets=64)
    assert step_graphs(build_network(spec, input=input, num_outputs=2)) == []
