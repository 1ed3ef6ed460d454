"""Weights in codebooks: which layers, how many bytes, what ships, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modelwright import modelfile
from modelwright.compression import check_step, step_of
from modelwright.compression.vector_quantize import (
    importance_of,
    plan,
    second_moments,
)
from modelwright.errors import ModelFileError, RequestError, StoppedError
from modelwright.modelfile import torch_runtime
from modelwright.modelfile.session import Session
from modelwright.models.coded import codebooks_of
from modelwright.models.modifications import Code
from modelwright.recipe.compression import DistillStep, PruneStep, QuantizeStep, VectorQuantizeStep
from tests.compression.making import Said, compress, split_of
from tests.compression.networks import small
from tests.training.small import StopAt, equal


def step(**settings: object) -> VectorQuantizeStep:
    return VectorQuantizeStep.model_validate(
        {"name": "vector-quantize", "epochs": 1, "block_size": 8, "codebook_size": 16, **settings}
    )


def automatic(ratio: float) -> VectorQuantizeStep:
    return VectorQuantizeStep.model_validate({"name": "vector-quantize", "ratio": ratio})


def wide() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 64, 7),
        nn.Conv2d(64, 64, 3),
        nn.BatchNorm2d(64),
        nn.Conv2d(64, 256, 1),
        nn.Linear(256, 7),
        nn.LSTM(64, 64),
    )


def test_what_other_layers_and_small_ones_have_stays_and_is_listed() -> None:
    codes, kept = plan(wide(), step(block_size=4))
    assert [code.layer for code in codes] == ["1", "3"]
    assert {name: why.partition(" ")[0] for name, why in kept.items()} == {
        "0": "it",
        "4": "small",
        "5": "a",
    }


def test_a_larger_ratio_takes_more_of_large_layers_and_is_met() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(64, 256, 3), nn.Conv2d(256, 64, 1), nn.Linear(64, 64))
    rates = {}
    for ratio in (4, 10, 20):
        codes, _ = plan(network, automatic(ratio))
        rates[ratio] = [(code.codebook_size.bit_length() - 1) / code.block_size for code in codes]
        assert rates[ratio] == sorted(rates[ratio])  # From the largest layer to the smallest.
        stored = sum(
            len(network[int(code.layer)].weight)
            * code.blocks
            * (code.codebook_size - 1).bit_length()
            / 8
            + 2 * code.codebook_size * code.block_size
            for code in codes
        )
        before = sum(item.numel() * 4 for item in network.parameters())
        assert stored < before / ratio
    assert rates[4][0] > rates[10][0] > rates[20][0]


def test_a_ratio_out_of_reach_is_refused_with_the_largest() -> None:
    with pytest.raises(RequestError, match=r"at most \d+\.\d times smaller, and `ratio` asks"):
        plan(wide(), automatic(90))


def test_a_codebook_as_large_as_its_layer_has_fewer_entries_or_the_layer_stays() -> None:
    linear = nn.Sequential(nn.Linear(64, 64))
    (code,), _ = plan(linear, step(codebook_size=256))
    assert code.codebook_size == 256
    (code,), _ = plan(linear, step(codebook_size=256, codebooks=4))
    assert code.codebook_size == 64
    with pytest.raises(RequestError, match="no weights that codebooks make smaller"):
        plan(nn.Sequential(nn.Linear(64, 64)), step(block_size=1, codebook_size=256, codebooks=4))


def test_the_moments_are_those_of_the_inputs() -> None:
    candidate = small("resnet 18")
    codes, _ = plan(candidate.network, step())
    split = split_of(candidate)
    found = second_moments(candidate.network, codes, split, 8)
    seen = {}
    layer = candidate.network.get_submodule(codes[0].layer)
    layer.register_forward_pre_hook(lambda _, x: seen.update(x=x[0]))
    candidate.network(torch.from_numpy(split.inputs))
    expected = seen["x"].double().square().sum((0, 2, 3))
    torch.testing.assert_close(found[codes[0].layer], expected, rtol=1e-6, atol=0)
    weights = importance_of(layer, found[codes[0].layer])
    assert weights.shape == layer.weight.shape
    ratio = (expected / expected.mean()).clamp_min(0.01).float()
    torch.testing.assert_close(weights[3, :, 1, 2], ratio)


def test_words_that_come_often_count_more_and_none_counts_nothing() -> None:
    importance = importance_of(nn.Embedding(3, 2), torch.tensor([6.0, 0.0, 3.0]))
    assert importance[:, 0].tolist() == [3, 1, 2]
    assert importance_of(nn.Embedding(3, 2), None).eq(1).all()


def test_channels_of_groups_count_where_they_are_read() -> None:
    layer = nn.Conv1d(4, 6, 3, groups=2)
    importance = importance_of(layer, torch.tensor([1.0, 2.0, 3.0, 2.0]))
    assert importance[0, :, 0].tolist() == [0.5, 1.0]
    assert importance[5, :, 2].tolist() == [1.5, 1.0]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A network before and after, the facts, and the file."""
    folder = tmp_path_factory.mktemp("coded")
    before, said = small("cnn"), Said()
    after, facts = compress(before, step(), folder, observe=said)
    modelfile.write_model(folder / "m.mw", after)
    return before, after, facts, folder / "m.mw", said.notes


def test_the_file_is_built_again_to_the_same_bits(shipped) -> None:
    before, after, facts, path, notes = shipped
    again = modelfile.rebuild(path)
    assert equal(again.network, after.network)
    samples = torch.from_numpy(split_of(before).inputs)
    with torch.no_grad():
        assert torch.equal(again.network(samples), after.network(samples))
    assert facts["layers"] == 1
    assert facts["weights_ratio"] > 5
    assert any("layers stay as they are" in note for note in notes)
    assert any("times smaller" in note for note in notes)


def test_codes_are_packed_and_onnxruntime_decodes_them_once(shipped) -> None:
    before, _, _, path, _ = shipped
    contents = modelfile.read(path)
    name = next(name for name in contents.weights if name.endswith(".codes"))
    assert contents.spec.encoded[name].codec == "zstd"
    weights = modelfile.read_weights(path)
    assert weights[name].dtype == np.uint8
    assert weights[name.replace(".codes", ".codebook")].dtype == np.float16
    session = Session(contents.graphs["main"], weights, threads=1)
    plain = path.with_name("plain.mw")
    modelfile.write_model(plain, before)
    plain_weights = modelfile.read_weights(plain)
    was = Session(modelfile.read(plain).graphs["main"], plain_weights, threads=1)
    kinds = [[operator for operator, _ in item.operators()] for item in (session, was)]
    assert "Gather" not in kinds[0]
    assert kinds[0] == kinds[1]


def test_a_graph_with_codes_beside_its_codebook_is_refused(shipped) -> None:
    contents = modelfile.read(shipped[3])
    weights = dict(modelfile.read_weights(shipped[3]))
    name = next(name for name in weights if name.endswith(".codes"))
    weights[name] = np.full_like(weights[name], 255)
    session = Session(contents.graphs["main"], weights, threads=1)
    with pytest.raises(ModelFileError, match="gave up"):
        session.run({"pixels": split_of(shipped[0]).inputs})


def test_codebooks_learn_and_codes_stand_still(tmp_path: Path) -> None:
    before = small("mlp")
    few, _ = compress(before, step(lr=1e-9), tmp_path / "few")
    more, _ = compress(before, step(epochs=4), tmp_path / "more")
    (one,), (other,) = codebooks_of(few.network), codebooks_of(more.network)
    assert torch.equal(one.codes, other.codes)
    assert not torch.equal(one.codebook, other.codebook)


def test_a_stop_is_gone_on_from_to_the_same_bits(tmp_path: Path) -> None:
    settings = step(epochs=6)
    whole, _ = compress(small("mlp"), settings, tmp_path / "whole")
    with pytest.raises(StoppedError, match="stopped"):
        compress(small("mlp"), settings, tmp_path / "cut", observe=StopAt(4))
    again, _ = compress(small("mlp"), settings, tmp_path / "cut")
    assert equal(again.network, whole.network)


def test_the_row_of_padding_stays_zero(tmp_path: Path) -> None:
    after, _ = compress(small("bow"), step(lr=0.1), tmp_path)
    assert not after.network.embedding.weight[0].any()
    assert after.network.embedding.weight[1:].any()


@pytest.mark.parametrize(
    "other",
    [
        QuantizeStep(name="quantize", dtype="int8"),
        QuantizeStep(name="quantize", dtype="float16"),
        QuantizeStep(name="quantize", weights="int8"),
        PruneStep(name="prune"),
        PruneStep(name="prune", kind="structured", multiply_adds=0.5),
        DistillStep(name="distill"),
        step(),
    ],
    ids=lambda item: f"{item.name} {getattr(item, 'dtype', '') or getattr(item, 'kind', '')}",
)
def test_no_step_changes_codebooks(shipped, other) -> None:
    with pytest.raises(RequestError, match="looked up in codebooks"):
        check_step(shipped[1], other)


def test_weights_of_few_bits_and_pruned_ones_are_no_start() -> None:
    candidate = small("mlp")
    changed = {**candidate.architecture, "modifications": [{"kind": "int8", "kept": []}]}
    with pytest.raises(RequestError, match="few bits already"):
        check_step(replace(candidate, architecture=changed), step())
    with pytest.raises(RequestError, match="zeros of a pruned network"):
        step_of(step())[0](replace(candidate, codecs={"body.hidden.0.weight": "zstd"}), step())


def test_what_code_says_is_what_the_layer_has(shipped) -> None:
    (change,) = shipped[1].architecture["modifications"]
    code = Code.model_validate(change)
    (coded,) = codebooks_of(shipped[1].network)
    assert coded.codes.shape == (code.codebooks, coded.shape[0], code.blocks)
    assert coded.codebook.shape == (code.codebooks, code.codebook_size, code.block_size)


def test_codes_that_stand_for_far_more_than_the_file_holds_are_refused(
    shipped, monkeypatch
) -> None:
    monkeypatch.setattr(torch_runtime, "_MOST_CODED", 0)
    modelfile.rebuild(shipped[3])
    monkeypatch.setattr(torch_runtime, "MOST_RATIO", 1)
    with pytest.raises(ModelFileError, match="stand for weights of"):
        modelfile.rebuild(shipped[3])
