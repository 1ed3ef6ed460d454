from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from modelwright.errors import RequestError
from modelwright.models.network import TextFrame
from modelwright.models.rnn import Gru, Lstm, RnnClassifier
from modelwright.recipe.networks import RnnModel

SAME = 1e-5
"""torch's kernels for packed and for padded sequences sum in other orders, in fp32."""
EXPORTED = 1e-4
LENGTHS = torch.tensor([5, 1, 7, 3])
OURS = {"lstm": Lstm, "gru": Gru}
THEIRS = {"lstm": nn.LSTM, "gru": nn.GRU}
ORDER = {"lstm": (0, 2, 3, 1), "gru": (1, 0, 2)}
"""Which of ONNX's gates, i o f c and z r h, stands at each of torch's, i f g o and r z n."""


def pair(cell, *, layers=1, bidirectional=False, width=3, hidden=4):
    """Return our layers and torch's with the same weights."""
    torch.manual_seed(0)
    ours = OURS[cell](width, hidden, layers=layers, bidirectional=bidirectional, dropout=0.0)
    theirs = THEIRS[cell](
        width, hidden, num_layers=layers, bidirectional=bidirectional, batch_first=True
    )
    with torch.no_grad():
        for at, layer in enumerate(ours.layers):
            for direction, ending in enumerate(("", "_reverse")[: ours.directions]):
                held = (
                    ("weight_ih", layer.input_weight[direction]),
                    ("weight_hh", layer.state_weight[direction]),
                    ("bias_ih", layer.bias[direction].chunk(2)[0]),
                    ("bias_hh", layer.bias[direction].chunk(2)[1]),
                )
                for name, value in held:
                    gates = value.chunk(len(ORDER[cell]))
                    getattr(theirs, f"{name}_l{at}{ending}").copy_(
                        torch.cat([gates[gate] for gate in ORDER[cell]])
                    )
    return ours, theirs


def packed(theirs, x, length, state=None):
    held = nn.utils.rnn.pack_padded_sequence(x, length, batch_first=True, enforce_sorted=False)
    outputs, last = theirs(held, state)
    outputs, _ = nn.utils.rnn.pad_packed_sequence(
        outputs, batch_first=True, total_length=x.shape[1]
    )
    return outputs, last


def each(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("cell", OURS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("is_training", [False, True])
def test_outputs_states_and_gradients_are_those_of_packed_sequences(
    cell, bidirectional, layers, is_training
):
    ours, theirs = pair(cell, layers=layers, bidirectional=bidirectional)
    ours.train(is_training)
    x = torch.randn(4, 7, 3)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, last = ours(one, LENGTHS)
    expected, ends = packed(theirs, other, LENGTHS)
    torch.testing.assert_close(found, expected, rtol=0, atol=SAME)
    for ending, end in zip(each(last), each(ends), strict=True):
        torch.testing.assert_close(ending, end, rtol=0, atol=SAME)
    probe = torch.randn_like(found)
    for outputs, state in ((found, last), (expected, ends)):
        ((outputs * probe).sum() + sum(item.square().sum() for item in each(state))).backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=10 * SAME)
    sums = [sum(p.grad.sum() for p in network.parameters()) for network in (ours, theirs)]
    squares = [sum(p.grad.square().sum() for p in net.parameters()) for net in (ours, theirs)]
    torch.testing.assert_close(sums[0], sums[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(squares[0], squares[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cell", OURS)
def test_state_carries_a_sequence_on(cell):
    ours, theirs = pair(cell, layers=2)
    x = torch.randn(4, 7, 3)
    states = [torch.randn(2, 4, 4) for _ in range(2 if cell == "lstm" else 1)]
    found, last = ours(x, LENGTHS, tuple(states))
    expected, ends = packed(theirs, x, LENGTHS, tuple(states) if cell == "lstm" else states[0])
    torch.testing.assert_close(found, expected, rtol=0, atol=SAME)
    for ending, end in zip(each(last), each(ends), strict=True):
        torch.testing.assert_close(ending, end, rtol=0, atol=SAME)
    whole, _ = ours(x, torch.full((4,), 7))
    begun, middle = ours(x[:, :4], torch.full((4,), 4))
    rest, _ = ours(x[:, 4:], torch.full((4,), 3), middle)
    torch.testing.assert_close(torch.cat([begun, rest], 1), whole, rtol=0, atol=SAME)


@pytest.mark.parametrize("cell", OURS)
def test_a_state_for_both_directions_is_refused(cell):
    ours, _ = pair(cell, bidirectional=True)
    state = torch.zeros(2, 4, 4)
    with pytest.raises(RequestError, match="one direction"):
        ours(torch.randn(4, 7, 3), LENGTHS, (state, state) if cell == "lstm" else (state,))


@pytest.mark.parametrize("cell", OURS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients(cell, bidirectional):
    torch.manual_seed(0)
    ours = OURS[cell](2, 3, layers=2, bidirectional=bidirectional, dropout=0.0).double()
    x = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    names = list(dict(ours.named_parameters()))

    def run(inputs, *weights):
        named = dict(zip(names, weights, strict=True))
        outputs, last = torch.func.functional_call(ours, named, (inputs, torch.tensor([2, 4])))
        return outputs, *each(last)

    weights = tuple(item.detach().requires_grad_() for item in ours.parameters())
    assert torch.autograd.gradcheck(run, (x, *weights), fast_mode=True)


def test_forget_gates_begin_open():
    bias = Lstm(3, 4, layers=1, bidirectional=True, dropout=0.0).layers[0].bias
    input_bias = bias.detach()[:, :16]
    assert (input_bias[:, 8:12] == 1).all()
    assert (input_bias[:, :8].abs() <= 0.5).all()


# -- the classifier --------------------------------------------------------------------------


TOKENS = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 0, 0, 0], [9, 0, 0, 0, 0]])
COUNTS = torch.tensor([5, 2, 1])


def test_pooling_is_that_of_a_hand_worked_case():
    outputs = {}
    for pooling in ("last", "max", "mean"):
        torch.manual_seed(0)
        sizes = {"width": 4, "hidden": 5, "bidirectional": False, "dropout": 0.0}
        spec = RnnModel(name="rnn", cell="gru", pooling=pooling, **sizes)
        network = RnnClassifier(spec, TextFrame(12, max_length=5, num_outputs=3))
        network.head = nn.Identity()
        with torch.no_grad():
            outputs[pooling] = network(TOKENS, COUNTS)
            states, _ = network.recurrent(network.embedding(TOKENS), COUNTS)
    torch.testing.assert_close(outputs["last"][1], states[1, 1])
    torch.testing.assert_close(outputs["max"][1], states[1, :2].amax(0))
    torch.testing.assert_close(outputs["mean"][0], states[0].mean(0))


# -- export ----------------------------------------------------------------------------------


def exported(network, arguments, *, names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own exporter
        program = torch.onnx.export(
            network.eval(),
            arguments,
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=20,
            input_names=names,
        )
    onnx.checker.check_model(program.model_proto)
    return program.model_proto


def ran(model, **inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})


class WithState(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.inner, _ = pair(cell, layers=2)

    def forward(self, x, length, *state):
        outputs, last = self.inner(x, length, state)
        return outputs, *each(last)


@pytest.mark.parametrize("cell", OURS)
def test_layers_export_as_the_operator_and_give_zeros_at_padding(cell):
    network = WithState(cell).eval()
    names = ["x", "length", "h", "c"] if cell == "lstm" else ["x", "length", "h"]
    given = (torch.randn(4, 7, 3), LENGTHS, *(torch.randn(2, 4, 4) for _ in names[2:]))
    model = exported(network, given, names=names)
    nodes = [node for node in model.graph.node if node.op_type == cell.upper()]
    weights = ("input_weight", "state_weight", "bias")
    for at, node in enumerate(nodes):
        assert list(node.input[1:4]) == [f"inner.layers.{at}.{name}" for name in weights]
        assert node.input[4]  # the lengths
    assert len(nodes) == 2
    with torch.no_grad():
        expected = network(*given)
    answers = ran(model, **dict(zip(names, given, strict=True)))
    for found, wanted in zip(answers, expected, strict=True):
        assert np.abs(found - wanted.numpy()).max() < EXPORTED
