from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F

from modelwright.models.text_cnn import TextCnn

SAME = 1e-5
"""Padding changes the order of summing, in fp32."""
EXPORTED = 1e-4
TOKENS = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 0, 0, 0], [9, 0, 0, 0, 0]])
LENGTH = torch.tensor([5, 2, 1])


def built(**settings):
    torch.manual_seed(0)
    options = {"width": 4, "filters": 3, "kernels": (1, 2, 5), "dropout": 0.0, **settings}
    return TextCnn(12, 3, **options)


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
    network = built().eval()
    torch.compiler.reset()
    captured = torch.compile(network, backend="eager", fullgraph=True, dynamic=True)
    expected = network(TOKENS, LENGTH)
    torch.testing.assert_close(captured(TOKENS, LENGTH), expected, rtol=1e-4, atol=1e-5)


def test_windows_are_those_of_a_hand_worked_case():
    network = built(kernels=(3,), filters=2)
    network.head = torch.nn.Identity()
    weight, bias = network.convolutions[0].weight, network.convolutions[0].bias
    with torch.no_grad():
        words = network.embedding(TOKENS[1, :2])
        zero = torch.zeros(4)
        windows = [(zero, words[0], words[1]), (words[0], words[1], zero)]
        answers = [
            sum(weight[:, :, at] @ word for at, word in enumerate(window)) + bias
            for window in windows
        ]
        expected = torch.stack(answers).amax(0).relu()
        torch.testing.assert_close(network(TOKENS, LENGTH)[1], expected)


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
    network = built()
    agrees(network, exported(network, TOKENS, LENGTH), vocabulary=12)
