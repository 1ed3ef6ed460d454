from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.models.bow import Bow

SAME = 1e-5
"""Padding changes the order of summing, in fp32."""
EXPORTED = 1e-4
TOKENS = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 0, 0, 0], [9, 0, 0, 0, 0]])
LENGTH = torch.tensor([5, 2, 1])


VOCABULARY, BUCKETS = 12, 64


def built(**settings):
    torch.manual_seed(0)
    options = {"width": 4, "ngrams": 3, "buckets": BUCKETS, **settings}
    network = Bow(VOCABULARY, 3, **options)
    with torch.no_grad():
        network.embedding.weight[1:].normal_()  # fresh ones are too near zero to tell apart
    return network


def by_hand(network, tokens):
    """Return the outputs for one text, with Python's integers."""
    rows = list(tokens)
    for size in range(2, network.ngrams + 1):
        for at in range(len(tokens) - size + 1):
            code = tokens[at]
            for number in range(1, size):
                code = (code * 1_540_483_477 + tokens[at + number] * 668_265_263 + number + 1) % (
                    2**31 - 1
                )
            rows.append(VOCABULARY + code % BUCKETS)
    total = network.embedding.weight[rows].sum(0)
    return network.head(total / len(rows) ** 0.5)


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=6), min_size=1),
    ngrams=st.integers(1, 4),
    is_training=st.booleans(),
)
def test_outputs_are_those_of_plain_integers(texts, ngrams, is_training):
    network = built(ngrams=ngrams).train(is_training)
    length = torch.tensor([len(text) for text in texts])
    tokens = torch.zeros(len(texts), int(length.max()), dtype=torch.int64)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    with torch.no_grad():
        expected = torch.stack([by_hand(network, text) for text in texts])
        torch.testing.assert_close(network(tokens, length), expected, rtol=0, atol=SAME)


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


def test_fresh_vectors_are_near_zero_and_padding_has_none():
    torch.manual_seed(0)
    weight = Bow(VOCABULARY, 2, width=4, ngrams=2, buckets=1000).embedding.weight
    assert weight.shape == (VOCABULARY + 1000, 4)
    assert (weight[0] == 0).all()
    assert 0.005 < weight.std() < 0.02


def test_without_runs_there_are_no_buckets():
    assert Bow(VOCABULARY, 2, width=4, ngrams=1).embedding.weight.shape == (VOCABULARY, 4)


def test_order_matters_to_runs_alone():
    one, other = torch.tensor([[5, 6, 7]]), torch.tensor([[7, 5, 6]])
    length = torch.tensor([3])
    for ngrams, is_same in ((1, True), (2, False)):
        network = built(ngrams=ngrams).eval()
        assert torch.allclose(network(one, length), network(other, length)) == is_same


def test_runs_scatter_over_the_buckets():
    network = built(ngrams=2, buckets=1 << 14)
    first, second = torch.meshgrid(torch.arange(4, 104), torch.arange(4, 104), indexing="ij")
    pairs = torch.stack([first.flatten(), second.flatten()], 1)
    rows = network.rows(pairs, torch.full((10_000,), 2))[:, 2]
    # Thrown at random, 10,000 pairs take 16,384·(1 − e^(−10,000/16,384)) = 7,485 buckets.
    assert abs(rows.unique().numel() - 7485) < 300


def test_dropout_leaves_out_words_in_training_alone():
    network = built(dropout=0.5, ngrams=1)
    tokens, length = torch.full((2000, 1), 5), torch.ones(2000, dtype=torch.int64)
    with torch.no_grad():
        outputs = network(tokens, length)
        is_bare = (outputs - network.head.bias).abs().amax(1) < SAME
        assert 0.45 < is_bare.float().mean() < 0.55
        assert network.eval()(tokens, length).unique(dim=0).shape[0] == 1


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
    network = built(ngrams=3)
    agrees(network, exported(network, TOKENS, LENGTH), vocabulary=VOCABULARY)
