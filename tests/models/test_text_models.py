"""What every classifier of texts must do, over one table of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modelwright import models
from modelwright.models.bow import Bow
from modelwright.models.network import TextFrame
from modelwright.models.rnn import RnnClassifier
from modelwright.models.text_cnn import TextCnn
from modelwright.models.transformer import TransformerClassifier
from modelwright.recipe.networks import BowModel, RnnModel, TextCnnModel, TransformerModel

SAME = 1e-5
"""Padding changes the order of summing, in fp32."""
EXPORTED = 1e-4
VOCABULARY, LABELS = 12, 3
TOKENS = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 0, 0, 0], [9, 0, 0, 0, 0]])
LENGTH = torch.tensor([5, 2, 1])
FRAME = TextFrame(VOCABULARY, max_length=12, num_outputs=LABELS)


def bow(**settings: object) -> nn.Module:
    options = {"width": 4, "ngrams": 3, "buckets": 64, **settings}
    network = Bow(BowModel(name="bow", **options), FRAME)
    with torch.no_grad():
        network.embedding.weight[1:].normal_()  # fresh ones are too near zero to tell apart
    return network


def text_cnn(**settings: object) -> nn.Module:
    options = {"width": 4, "filters": 3, "kernels": (1, 2, 5), "dropout": 0.0, **settings}
    return TextCnn(TextCnnModel(name="text-cnn", **options), FRAME)


def rnn(cell: str, pooling: str, **settings: object) -> nn.Module:
    options = {"width": 4, "hidden": 5, "layers": 2, "bidirectional": True, "dropout": 0.0}
    options |= {"cell": cell, "pooling": pooling, **settings}
    return RnnClassifier(RnnModel(name="rnn", **options), FRAME)


def transformer(**settings: object) -> nn.Module:
    options = {"width": 8, "layers": 2, "heads": 2, "dropout": 0.0, **settings}
    return TransformerClassifier(TransformerModel(name="transformer", **options), FRAME)


Build = Callable[..., nn.Module]
NETWORKS: dict[str, tuple[type, Build]] = {
    "bow": (BowModel, bow),
    "bow of words": (BowModel, lambda **more: bow(ngrams=1, **more)),
    "text-cnn": (TextCnnModel, text_cnn),
    **{
        f"rnn {cell} {pooling}": (
            RnnModel,
            lambda cell=cell, pooling=pooling, **more: rnn(cell, pooling, **more),
        )
        for cell in ("lstm", "gru")
        for pooling in ("last", "max", "mean", "attention")
    },
    "rnn in one direction": (
        RnnModel,
        lambda **more: rnn("lstm", "last", bidirectional=False, **more),
    ),
    "transformer": (TransformerModel, transformer),
}
"""Small networks, with the section of the recipe that asks for their family."""


def built(name: str, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name][1](**settings)


def test_the_table_holds_every_classifier_of_texts():
    # They have suites of their own.
    others = {"DecoderModel", "Seq2SeqModel", "PretrainedModel", "LinearModel"}
    families = {section for section in models.BUILDERS if "text" in section.inputs}
    assert {kind for kind, _ in NETWORKS.values()} == {
        kind for kind in families if kind.__name__ not in others
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_neither_padding_nor_neighbours_matter(name):
    network = built(name).eval()
    with torch.no_grad():
        whole = network(TOKENS, LENGTH)
        more = network(F.pad(TOKENS, (0, 4)), LENGTH)
        single = torch.cat(
            [network(row[None, :n], n[None]) for row, n in zip(TOKENS, LENGTH, strict=True)]
        )
    assert whole.shape == (3, LABELS)
    torch.testing.assert_close(whole, more, rtol=0, atol=SAME)
    torch.testing.assert_close(whole, single, rtol=0, atol=SAME)


@pytest.mark.parametrize("name", NETWORKS)
def test_bf16_trains_and_every_parameter_gets_a_gradient(name):
    network = built(name, dropout=0.1)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(TOKENS, LENGTH)
    outputs.float().square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        gradient = parameter.grad.to_dense()  # That of a table of n-grams is sparse.
        assert torch.isfinite(gradient).all(), key
        assert gradient.abs().sum() > 0, key
    network.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = network(TOKENS, LENGTH).float()
    with torch.no_grad():
        assert (rough - network(TOKENS, LENGTH)).abs().max() < 0.05


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients(name):
    network = built(name).double()
    for module in network.modules():
        if isinstance(module, torch.nn.Embedding):
            module.sparse = False
    names = [key for key, _ in network.named_parameters()]
    weights = tuple(item.detach().requires_grad_() for item in network.parameters())

    def run(*weights: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(network, named, (TOKENS, LENGTH))

    assert torch.autograd.gradcheck(run, weights, fast_mode=True)


CAPTURED = [name for name in NETWORKS if not name.startswith("rnn")]
"""A recurrent layer calls its kernel by name, and isn't captured whole."""


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_whole_for_compiling(name):
    network = built(name)
    torch.compiler.reset()
    captured = torch.compile(network, backend="eager", fullgraph=True, dynamic=True)
    expected = network(TOKENS, LENGTH)
    torch.testing.assert_close(captured(TOKENS, LENGTH), expected, rtol=1e-4, atol=1e-5)


# -- export ----------------------------------------------------------------------------------

TO_EXPORT = [
    *("bow", "text-cnn", "rnn lstm max", "rnn gru attention", "rnn in one direction"),
    "transformer",
]
"""Those that are exported in different ways."""


def exported(network: nn.Module) -> onnx.ModelProto:
    count, steps = torch.export.Dim("N", min=1), torch.export.Dim("T", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own exporter
        program = torch.onnx.export(
            network.eval(),
            (TOKENS, LENGTH),
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=20,
            input_names=["tokens", "length"],
            dynamic_shapes=({0: count, 1: steps}, {0: count}),
        )
    onnx.checker.check_model(program.model_proto)
    return program.model_proto


@pytest.mark.parametrize("name", TO_EXPORT)
def test_exported_with_weights_under_their_names(name):
    network = built(name)
    model = exported(network)
    held = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    for key, value in network.state_dict().items():
        assert np.array_equal(held[key], value.numpy()), key
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for count, steps in ((1, 1), (1, 6), (4, 9)):
        length = torch.randint(1, steps + 1, (count,))
        length[0] = steps
        is_real = torch.arange(steps) < length[:, None]
        tokens = torch.randint(1, VOCABULARY, (count, steps)) * is_real
        (found,) = session.run(None, {"tokens": tokens.numpy(), "length": length.numpy()})
        with torch.no_grad():
            assert np.abs(found - network(tokens, length).numpy()).max() < EXPORTED
