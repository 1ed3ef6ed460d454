"""Every family gives its representation of a sample: what its last layer gets."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from tests.models.timm_like import timm_like
from tests.whole.folders import DECODERS, SEQ2SEQ_SIZES, WRITERS
from torch import nn

from modelwright import models
from modelwright.models.detector import PRIOR
from modelwright.models.network import AudioFrame, Frame, NgramFrame, TextFrame
from modelwright.models.padding import mask
from modelwright.models.pretrained import PretrainedModel, own_settings
from modelwright.models.speednet import Speednet
from modelwright.models.steps import PixelSteps
from modelwright.models.timm_networks import TimmNetwork
from modelwright.recipe.model import LinearModel
from modelwright.recipe.networks import (
    AudioCnnModel,
    BowModel,
    CnnModel,
    ConvCtcModel,
    DecoderModel,
    DetectorModel,
    EfficientNetLite0Model,
    MlpModel,
    ResnetModel,
    RnnCtcModel,
    RnnModel,
    Seq2SeqModel,
    SpeednetModel,
    TextCnnModel,
    TransformerModel,
)
from modelwright.transforms.hf_tokenizer import TokenIdMap

SAME = 1e-5
"""A mean is taken before or after the last layer, in fp32."""
SIDE, VOCABULARY, LABELS, RATE = 32, 12, 3, 8000
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8))
TOKENS = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 0, 0, 0], [9, 0, 0, 0, 0]])
LENGTH = torch.tensor([5, 2, 1])
TARGET = torch.tensor([[2, 7, 8, 4], [2, 5, 0, 0], [2, 0, 0, 0]])
SAMPLES = torch.from_numpy(np.random.default_rng(0).integers(-9000, 9000, (3, 4000), np.int16))
SAMPLE_LENGTH = torch.tensor([4000, 2500, 900])


def images(spec):
    frame = Frame(channels=3, height=SIDE, width=SIDE, num_outputs=LABELS)
    body = models.BUILDERS[type(spec)](spec, frame)
    network = models.ImageNetwork(PixelSteps([0.4] * 3, [0.2] * 3), body).train()
    with torch.no_grad():
        network(PIXELS)  # Norms get statistics.
    return network, (PIXELS,)


def texts(spec, *, vocabulary=VOCABULARY, num_outputs=LABELS):
    frame = TextFrame(vocabulary=vocabulary, max_length=16, num_outputs=num_outputs)
    return models.BUILDERS[type(spec)](spec, frame), (TOKENS, LENGTH)


def recordings(spec):
    frame = AudioFrame(sampling_rate=RATE, n_mels=16, normalize="none", num_outputs=LABELS)
    return models.BUILDERS[type(spec)](spec, frame), (SAMPLES, SAMPLE_LENGTH)


TINY = {"vocab_size": VOCABULARY, "max_position_embeddings": 16}
TINY_BERT = {
    **TINY,
    **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
}
TINY_BART = {
    **TINY,
    **{"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "pad_token_id": 0},
    **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
    **{"encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "eos_token_id": 3, "bos_token_id": 2},
}


def from_transformers(model_type, sizes, *, reads=False):
    """Return a tiny network of the library's, whose tokens keep their numbers."""
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(model_type, **sizes).to_dict()
    config = {key: value for key, value in config.items() if key in own_settings(model_type)}
    token_ids = TokenIdMap(padding=0, unknown=1, begin=2, end=3, size=VOCABULARY)
    spec = PretrainedModel(
        name="transformers",
        model_type=model_type,
        config=config,
        pooling="mean" if reads else None,
        dropout=0.1 if reads else None,
        token_ids=None if reads else token_ids.to_json(),
    )
    sizes = {} if reads else {"vocabulary": token_ids.count, "num_outputs": token_ids.count}
    return texts(spec, **sizes)[0]


def pretrained():
    return from_transformers("bert", TINY_BERT, reads=True), (TOKENS, LENGTH)


def timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", timm_like())
    return images(TimmNetwork(name="timm", model="tiny", settings={}))


def ngrams():
    frame = NgramFrame(ngrams=VOCABULARY, num_outputs=LABELS)
    spec = LinearModel(name="linear", features="tfidf")
    weights = torch.tensor([[0.6, 0.8, 0.0], [1.0, 0.0, 0.0], [0.1, 0.2, 0.3]])
    return models.BUILDERS[LinearModel](spec, frame), (TOKENS[:, :3], weights)


FAMILIES = {
    LinearModel: ngrams,
    MlpModel: lambda: images(MlpModel(name="mlp", hidden=(16, 8))),
    CnnModel: lambda: images(CnnModel(name="cnn", dropout=0.5)),
    ResnetModel: lambda: images(ResnetModel(name="resnet", depth=20, width=0.25)),
    SpeednetModel: lambda: images(SpeednetModel(name="speednet", widths=(8, 12, 10))),
    EfficientNetLite0Model: lambda: images(
        EfficientNetLite0Model(name="efficientnet-lite0", pretrained=False)
    ),
    DetectorModel: lambda: images(DetectorModel(name="detector", widths=(4, 8, 8), neck=8)),
    BowModel: lambda: texts(BowModel(name="bow", width=8, buckets=64)),
    TextCnnModel: lambda: texts(TextCnnModel(name="text-cnn", width=8, filters=4)),
    RnnModel: lambda: texts(RnnModel(name="rnn", width=8, hidden=5)),
    TransformerModel: lambda: texts(TransformerModel(name="transformer", width=8, heads=2)),
    AudioCnnModel: lambda: recordings(AudioCnnModel(name="audio-cnn", widths=(4, 8))),
    ConvCtcModel: lambda: recordings(ConvCtcModel(name="conv-ctc", width=8, channels=4)),
    RnnCtcModel: lambda: recordings(RnnCtcModel(name="rnn-ctc", hidden=5, channels=4)),
    DecoderModel: lambda: (texts(DecoderModel(name="decoder", width=8, heads=2))[0], (TOKENS,)),
    Seq2SeqModel: lambda: (
        texts(Seq2SeqModel(name="seq2seq", width=8, heads=2))[0],
        (TOKENS, LENGTH, TARGET),
    ),
    PretrainedModel: pretrained,
    TimmNetwork: timm,
}


def made(family, monkeypatch):
    torch.manual_seed(0)
    build = FAMILIES[family]
    network, inputs = build(monkeypatch) if build is timm else build()
    return network.eval(), inputs


def head_of(network):
    """Return the last layer, as a function."""
    body = network.body if isinstance(network, models.ImageNetwork) else network
    if hasattr(body, "embeddings"):
        return body.embeddings.logits
    head = getattr(body, "head", None)
    return head if head is not None else lambda x: x @ body.embedding.weight.T


def expected(network, inputs):
    """Return what the last layer makes of the features, from the network's own outputs.

    Where there are outputs at many places, it is their mean over those that aren't padding.
    """
    outputs, body = network(*inputs), getattr(network, "body", network)
    if isinstance(body, Speednet):
        return outputs / body.scale
    if hasattr(body, "score_towers"):  # The prior stands outside of the head.
        return outputs[0].mean(1) - PRIOR
    if isinstance(outputs, tuple):
        return mean(*outputs)
    return outputs if outputs.ndim == 2 else mean(outputs, (inputs[-1] != 0).sum(1))


def mean(outputs, length):
    return torch.stack([row[:count].mean(0) for row, count in zip(outputs, length, strict=True)])


def test_the_table_holds_every_family():
    assert set(FAMILIES) == set(models.BUILDERS)


@pytest.mark.parametrize("build", [images, recordings], ids=["images", "recordings"])
def test_features_of_linear_models_are_what_the_last_layer_gets(build):
    torch.manual_seed(0)
    network, inputs = build(LinearModel(name="linear"))
    with torch.no_grad():
        found = head_of(network.eval())(network.features(*inputs))
        torch.testing.assert_close(found, network(*inputs), rtol=SAME, atol=SAME)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_features_are_what_the_last_layer_gets(family, monkeypatch):
    network, inputs = made(family, monkeypatch)
    assert isinstance(network, models.FeatureNetwork)
    with torch.no_grad():
        features = network.features(*inputs)
        assert features.ndim == 2
        assert len(features) == len(inputs[0])
        assert features.std() > 0
        found = head_of(network)(features)
        torch.testing.assert_close(found, expected(network, inputs), rtol=SAME, atol=SAME)


@pytest.mark.parametrize(
    "family",
    [family for family in FAMILIES if "image" not in family.inputs],
    ids=lambda family: family.__name__,
)
def test_neither_padding_nor_neighbours_change_features(family, monkeypatch):
    network, inputs = made(family, monkeypatch)
    with torch.no_grad():
        whole = network.features(*inputs)
        padded = (nn.functional.pad(x, (0, 3)) if x.ndim == 2 else x for x in inputs)
        single = network.features(*(x[1:2] for x in inputs))
        torch.testing.assert_close(network.features(*padded), whole, rtol=SAME, atol=SAME)
        torch.testing.assert_close(single, whole[1:2], rtol=SAME, atol=SAME)


@pytest.mark.parametrize("scaled", [False, True])
def test_those_of_a_network_for_numbers_are_of_its_body(scaled, monkeypatch):
    network, inputs = made(MlpModel, monkeypatch)
    if scaled:
        with torch.no_grad():
            before = network.features(*inputs)
            models.building.scale_output(network, ([5.0] * LABELS, [2.0] * LABELS))
            assert torch.equal(network.features(*inputs), before)
    with torch.no_grad():
        assert torch.equal(network.body.head(network.features(*inputs)), network(*inputs))


# -- networks of the library's that generate -------------------------------------------------


def library_logits(network, features):
    """Return what the library's last layer makes of features, by our numbers."""
    return network._ours(network.network.get_output_embeddings()(features))


TINY_LLAMA = {**TINY_BERT, "num_key_value_heads": 2, "head_dim": 4, "bos_token_id": 2}
TINY_GPT2 = {"vocab_size": VOCABULARY, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}


@pytest.mark.parametrize(("model_type", "sizes"), [("llama", TINY_LLAMA), ("gpt2", TINY_GPT2)])
def test_of_a_causal_lm_from_the_library(model_type, sizes):
    torch.manual_seed(0)
    network = from_transformers(model_type, sizes).eval()
    with torch.no_grad():
        # Of a single token, there is nothing to take the mean of.
        alone = TOKENS[:, :1]
        found = library_logits(network, network.features(alone))
        torch.testing.assert_close(found, network(alone)[:, 0], rtol=SAME, atol=SAME)
        prefixes = [network.features(TOKENS[:1, : at + 1]) for at in range(2)]
        last = library_logits(network, 2 * prefixes[1] - prefixes[0])
        torch.testing.assert_close(last, network(TOKENS[:1, :2])[:, 1], rtol=SAME, atol=SAME)


def test_of_a_seq2seq_from_the_library():
    torch.manual_seed(0)
    network = from_transformers("bart", TINY_BART).eval()
    with torch.no_grad():
        begin = TARGET[:, :1]
        found = library_logits(network, network.features(TOKENS, LENGTH, begin))
        expected = network(TOKENS, LENGTH, begin)[:, 0]
        torch.testing.assert_close(found, expected, rtol=SAME, atol=SAME)
        whole = network.features(TOKENS, LENGTH, TARGET)
        more = network.features(TOKENS, LENGTH, nn.functional.pad(TARGET, (0, 2)))
        torch.testing.assert_close(whole, more, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("model_type", [*DECODERS, *WRITERS])
def test_every_type_of_the_library_gives_features(model_type):
    torch.manual_seed(0)
    sizes = DECODERS[model_type] if model_type in DECODERS else SEQ2SEQ_SIZES[model_type]
    special = WRITERS.get(model_type, {"bos_token_id": 2, "eos_token_id": 3})
    special = {**special, "pad_token_id": 0, "eos_token_id": 3}
    network = from_transformers(model_type, {**sizes, **special, "vocab_size": VOCABULARY}).eval()
    inputs = (TOKENS,) if model_type in DECODERS else (TOKENS, LENGTH, TARGET)
    with torch.no_grad():
        features = network.features(*inputs)
        alone = network.features(*(x[1:2] for x in inputs))
    assert features.ndim == 2
    assert torch.isfinite(features).all()
    torch.testing.assert_close(alone, features[1:2], rtol=SAME, atol=SAME)


def test_masks_mark_what_is_no_padding():
    assert mask(torch.tensor([2, 0]), 3).tolist() == [[True, True, False], [False] * 3]
