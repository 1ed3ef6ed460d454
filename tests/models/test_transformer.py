from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modelwright.errors import RecipeError
from modelwright.models.transformer import (
    TransformerClassifier,
    TransformerEncoder,
    TransformerLayer,
    sines,
)

SAME = 1e-5
"""Padding changes the order of summing, in fp32."""
EXPORTED = 1e-4
TOKENS = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 0, 0, 0], [9, 0, 0, 0, 0]])
LENGTH = torch.tensor([5, 2, 1])


def built(**settings):
    torch.manual_seed(0)
    options = {"width": 8, "layers": 2, "heads": 2, "max_length": 12, "dropout": 0.0, **settings}
    return TransformerClassifier(12, 3, **options)


@pytest.mark.parametrize("is_training", [True, False])
def test_layer_is_torchs_own(is_training):
    torch.manual_seed(0)
    ours = TransformerLayer(8, heads=2, dropout=0.0)
    theirs = nn.TransformerEncoderLayer(
        8, 2, dim_feedforward=32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).train(is_training)
    with torch.no_grad():
        for one, other in (
            (ours.attention.projection.weight, theirs.self_attn.in_proj_weight),
            (ours.attention.projection.bias, theirs.self_attn.in_proj_bias),
        ):
            other.copy_(one)
        theirs.self_attn.out_proj.load_state_dict(ours.attention.out.state_dict())
        theirs.norm1.load_state_dict(ours.attention_norm.state_dict())
        theirs.norm2.load_state_dict(ours.feed_norm.state_dict())
        theirs.linear1.load_state_dict(ours.feed[0].state_dict())
        theirs.linear2.load_state_dict(ours.feed[2].state_dict())
    x = torch.randn(3, 5, 8)
    is_real = torch.arange(5) < LENGTH[:, None]
    found = ours(x, is_real)
    expected = theirs(x, src_key_padding_mask=~is_real)
    torch.testing.assert_close(found[is_real], expected[is_real], rtol=0, atol=SAME)


def test_sines_are_those_of_the_paper():
    found = sines(7, 6, torch.device("cpu"))
    for place in range(7):
        for pair in range(3):
            angle = place / 10000 ** (2 * pair / 6)
            assert found[place, 2 * pair].item() == pytest.approx(np.sin(angle), abs=1e-6)
            assert found[place, 2 * pair + 1].item() == pytest.approx(np.cos(angle), abs=1e-6)
    assert sines(3, 5, torch.device("cpu")).shape == (3, 5)


def test_neither_padding_nor_neighbours_matter():
    network = built().eval()
    with torch.no_grad():
        whole = network(TOKENS, LENGTH)
        more = network(F.pad(TOKENS, (0, 4)), LENGTH)
        single = torch.cat(
            [network(row[None, :n], n[None]) for row, n in zip(TOKENS, LENGTH, strict=True)]
        )
    torch.testing.assert_close(whole, more, rtol=0, atol=SAME)
    torch.testing.assert_close(whole, single, rtol=0, atol=SAME)


def test_bf16_trains_and_every_parameter_gets_a_gradient():
    network = built(dropout=0.1)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(TOKENS, LENGTH)
    outputs.float().square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    network.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = network(TOKENS, LENGTH).float()
    with torch.no_grad():
        assert (rough - network(TOKENS, LENGTH)).abs().max() < 0.05


def test_gradients():
    network = built().double()
    names = [name for name, _ in network.named_parameters()]
    weights = tuple(item.detach().requires_grad_() for item in network.parameters())

    def run(*weights):
        named = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(network, named, (TOKENS, LENGTH))

    assert torch.autograd.gradcheck(run, weights, fast_mode=True)


def test_captured_whole_for_compiling():
    network = built()
    torch.compiler.reset()
    captured = torch.compile(network, backend="eager", fullgraph=True, dynamic=True)
    expected = network(TOKENS, LENGTH)
    torch.testing.assert_close(captured(TOKENS, LENGTH), expected, rtol=1e-4, atol=1e-5)


def test_order_matters():
    network = built().eval()
    length = torch.tensor([3])
    one, other = (network(torch.tensor([tokens]), length) for tokens in ([5, 6, 7], [7, 6, 5]))
    assert (one - other).abs().max() > 1e-4


def test_encoder_does_not_care_for_order():
    torch.manual_seed(0)
    encoder = TransformerEncoder(8, layers=1, heads=4, dropout=0.0)
    x, length = torch.randn(2, 4, 8), torch.tensor([4, 4])
    found = encoder(x.flip(1), length).flip(1)
    torch.testing.assert_close(found, encoder(x, length), rtol=0, atol=SAME)


def test_heads_must_share_the_width_evenly():
    with pytest.raises(RecipeError, match="3 heads") as caught:
        built(heads=3)
    assert "width of 9" in caught.value.fix


def exported(network, tokens, length):
    count, steps = torch.export.Dim("N", min=1), torch.export.Dim("T", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own exporter
        program = torch.onnx.export(
            network.eval(),
            (tokens, length),
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=20,
            input_names=["tokens", "length"],
            dynamic_shapes=({0: count, 1: steps}, {0: count}),
        )
    onnx.checker.check_model(program.model_proto)
    return program.model_proto


def agrees(network, model, *, vocabulary, sizes=((1, 1), (1, 6), (4, 9))):
    held = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    for name, value in network.state_dict().items():
        assert np.array_equal(held[name], value.numpy()), name
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for count, steps in sizes:
        length = torch.randint(1, steps + 1, (count,))
        length[0] = steps
        is_real = torch.arange(steps) < length[:, None]
        tokens = torch.randint(1, vocabulary, (count, steps)) * is_real
        (found,) = session.run(None, {"tokens": tokens.numpy(), "length": length.numpy()})
        with torch.no_grad():
            assert np.abs(found - network(tokens, length).numpy()).max() < EXPORTED


def test_exported_with_weights_under_their_names():
    network = built(layers=1)
    agrees(network, exported(network, TOKENS, LENGTH), vocabulary=12)
