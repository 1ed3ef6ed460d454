"""Adapters of low rank, beside any network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modelwright.errors import RecipeError
from modelwright.models.decoder import Decoder
from modelwright.models.lora import LoraLinear, adapt, merged
from modelwright.models.network import TextFrame
from modelwright.models.seq2seq import TransformerSeq2Seq
from modelwright.models.transformer import TransformerClassifier
from modelwright.recipe.networks import DecoderModel, Seq2SeqModel, TransformerModel

FRAME = TextFrame(20, max_length=8, num_outputs=20)
SAME = 1e-5
"""Merged weights are rounded once more, in sums of some dozens of terms of fp32."""


def classifier():
    torch.manual_seed(0)
    spec = TransformerModel(name="transformer", width=16, heads=2, dropout=0.0)
    network = TransformerClassifier(spec, TextFrame(20, max_length=8, num_outputs=3))
    return network.eval(), (torch.randint(1, 20, (4, 6)), torch.tensor([6, 2, 5, 1]))


def decoder():
    torch.manual_seed(0)
    sizes = {"width": 16, "layers": 2, "heads": 2, "kv_heads": 1, "hidden": 32}
    network = Decoder(DecoderModel(name="decoder", tied=False, **sizes), FRAME)
    return network.eval(), (torch.randint(0, 20, (4, 6)),)


def seq2seq():
    torch.manual_seed(0)
    spec = Seq2SeqModel(name="seq2seq", width=16, layers=1, heads=2, dropout=0.0)
    network = TransformerSeq2Seq(spec, FRAME)
    tokens = torch.randint(4, 20, (3, 5))
    return network.eval(), (tokens, torch.tensor([5, 2, 4]), tokens[:, :3])


NETWORKS = {"classifier": classifier, "decoder": decoder, "seq2seq": seq2seq}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_the_start_is_unchanged_and_what_is_learnt_is_merged(make):
    network, inputs = make()
    before = network(*inputs)
    names = set(network.state_dict())
    found = adapt(network, rank=3, alpha=6.0, match=("*",), head=True)
    assert len(found.layers) == sum(isinstance(item, LoraLinear) for item in network.modules())
    assert torch.equal(network(*inputs), before)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, LoraLinear):
                module.lora_b.normal_(std=0.1)
    after, plain = network(*inputs), merged(network)
    assert (after - before).abs().max() > 100 * SAME
    torch.testing.assert_close(plain(*inputs), after, rtol=SAME, atol=SAME)
    assert set(plain.state_dict()) == names
    assert any(isinstance(item, LoraLinear) for item in network.modules())


def test_layers_with_transposed_weights_are_merged_too():
    library = pytest.importorskip("transformers.pytorch_utils")
    torch.manual_seed(0)
    network = nn.Sequential(library.Conv1D(6, 4), library.Conv1D(3, 6)).eval()
    x, names = torch.randn(5, 4), set(network.state_dict())
    before = network(x)
    assert adapt(network, rank=2, alpha=4.0, match=("*",), head=False).layers == ("0", "1")
    torch.testing.assert_close(network(x), before, rtol=SAME, atol=SAME)
    with torch.no_grad():
        for layer in network:
            layer.lora_b.normal_()
    after, plain = network(x), merged(network)
    assert (after - before).abs().max() > 100 * SAME
    assert [type(layer) for layer in plain] == [library.Conv1D] * 2
    assert set(plain.state_dict()) == names
    torch.testing.assert_close(plain(x), after, rtol=SAME, atol=SAME)
    # Beside the plain weights, what the layer computes is the same as its transposed twin's.
    twin = nn.Linear(4, 6)
    twin.load_state_dict({"weight": plain[0].weight.T, "bias": plain[0].bias})
    torch.testing.assert_close(twin(x), plain[0](x), rtol=SAME, atol=SAME)


def test_the_product_is_scaled_as_in_the_paper():
    network = nn.Sequential(nn.Linear(2, 2, bias=False))
    adapt(network, rank=1, alpha=3.0, match=("*",), head=False)
    layer = network[0]
    with torch.no_grad():
        layer.weight.zero_()
        layer.lora_a.copy_(torch.tensor([[1.0, 2.0]]))
        layer.lora_b.copy_(torch.tensor([[1.0], [-1.0]]))
    # 3/1 · B·A·x, by hand: A·x = 1·5 + 2·7 = 19.
    assert network(torch.tensor([[5.0, 7.0]])).tolist() == [[57.0, -57.0]]


def test_nothing_learns_but_adapters_and_the_last_layer():
    network, _ = classifier()
    found = adapt(network, rank=2, alpha=2.0, match=("*.projection",), head=True)
    learns = {name for name, item in network.named_parameters() if item.requires_grad}
    assert all(".lora_" in name or name.startswith("head.") for name in learns)
    assert found.layers == (
        "encoder.layers.0.attention.projection",
        "encoder.layers.1.attention.projection",
    )
    assert found.trained == 2 * 2 * (16 + 48) + 16 * 3 + 3


def test_the_output_of_a_network_that_writes_stands_still():
    network, _ = decoder()
    adapt(network, rank=2, alpha=2.0, match=("*",), head=False)
    assert not network.head.weight.requires_grad
    assert not isinstance(network.head, LoraLinear)


def test_frozen_weights_get_no_gradient_and_do_not_move():
    network, inputs = classifier()
    adapt(network, rank=2, alpha=2.0, match=("*",), head=True)
    before = {name: item.clone() for name, item in network.named_parameters()}
    learns = [item for item in network.parameters() if item.requires_grad]
    optimizer = torch.optim.SGD(learns, lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        network(*inputs).square().sum().backward()
        optimizer.step()
    for name, item in network.named_parameters():
        moved = ".lora_" in name or name.startswith("head.")
        assert torch.equal(item, before[name]) != moved, name
        assert (item.grad is None) != moved


def test_a_network_without_adapters_is_returned_as_it_is():
    network, _ = classifier()
    assert merged(network) is network


@pytest.mark.parametrize("match", [("encodre.*",), ("*.projection", "head")])
def test_a_pattern_without_a_layer_is_refused(match):
    network, _ = classifier()
    with pytest.raises(RecipeError) as caught:
        adapt(network, rank=2, alpha=2.0, match=match, head=True)
    assert "matches no fully connected layer" in str(caught.value)
    assert "encoder.layers.0.attention.projection" in str(caught.value)
