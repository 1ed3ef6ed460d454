"""Weights in 16 bits: rounded once, stored exactly, decoded at load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
import pytest
import torch

from modelwright import modelfile
from modelwright.compression import sensitivity, step_of
from modelwright.errors import CompressionError, RequestError
from modelwright.recipe.compression import PruneStep, QuantizeStep
from tests.compression.making import Said, compress
from tests.compression.networks import small

Dtype = Literal["float16", "bfloat16"]
DTYPES: tuple[Dtype, ...] = ("float16", "bfloat16")


def step(dtype: Dtype) -> QuantizeStep:
    return QuantizeStep(name="quantize", dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_are_rounded_once_and_come_back_and_the_graph_is_that_of_fp32(
    dtype: Dtype, tmp_path: Path
) -> None:
    before, said = small("cnn"), Said()
    after, facts = compress(before, step(dtype), tmp_path, observe=said)
    name = "body.hidden.0.weight"
    old, new = (item.network.state_dict()[name] for item in (before, after))
    assert torch.equal(new, old.to(getattr(torch, dtype)).float())
    assert not torch.equal(new, old)
    assert facts["kept"] == []
    assert any("answers come no faster" in note for note in said.notes)
    for key, item in (("before", before), ("after", after)):
        modelfile.write_model(tmp_path / f"{key}.mw", item)
    whole, halved = (modelfile.read(tmp_path / f"{key}.mw") for key in ("before", "after"))
    assert whole.graphs == halved.graphs  # So onnxruntime computes the same, in the same time.
    assert halved.weights[name].nbytes == 2 * new.numel()
    again = modelfile.rebuild(tmp_path / "after.mw").network.state_dict()
    assert all(torch.equal(item, again[key]) for key, item in after.network.state_dict().items())


def test_numbers_beyond_float16_keep_their_tensor_in_fp32(tmp_path: Path) -> None:
    candidate, said = small("cnn"), Said()
    large, tiny = "body.hidden.0.weight", "body.blocks.1.conv1.weight"
    with torch.no_grad():
        candidate.network.get_parameter(large)[0, 0] = 1e6
        candidate.network.get_parameter(tiny).mul_(1e-9)
    after, facts = compress(candidate, step("bfloat16"), tmp_path / "b")
    assert facts["kept"] == []
    with pytest.raises(RequestError, match="no tensor of this network fits"):
        compress(candidate, step("float16"), tmp_path / "f", observe=said)
    with torch.no_grad():
        candidate.network.get_parameter(tiny).mul_(1e9)
    after, facts = compress(candidate, step("float16"), tmp_path / "f", observe=said)
    assert facts["kept"] == [large]
    assert any("stay in fp32" in note and large in note for note in said.notes)
    modelfile.write_model(tmp_path / "m.mw", after)
    again = modelfile.rebuild(tmp_path / "m.mw")
    assert again.network.state_dict()[large][0, 0] == 1e6


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_refused_where_it_would_change_nothing(dtype: Dtype, tmp_path: Path) -> None:
    check, _ = step_of(step(dtype))
    after, _ = compress(small("cnn"), step(dtype), tmp_path)
    modelfile.write_model(tmp_path / "m.mw", after)
    for candidate in (after, modelfile.rebuild(tmp_path / "m.mw")):
        with pytest.raises(RequestError, match="would change no weight"):
            check(candidate, step(dtype))


def test_zeros_and_16_bits_go_together(tmp_path: Path) -> None:
    pruned, _ = compress(small("mlp"), PruneStep(name="prune", sparsity=0.9), tmp_path / "p")
    both, _ = compress(pruned, step("bfloat16"), tmp_path / "q")
    sizes = [
        modelfile.write_model(tmp_path / f"{name}.mw", item).size_bytes
        for name, item in (("pruned", pruned), ("both", both))
    ]
    assert sizes[1] < 0.75 * sizes[0]
    assert modelfile.read(tmp_path / "both.mw").spec.encoded["body.hidden.0.weight"].codec == (
        "bfloat16+zstd"
    )
    # Plain graphs hold the weights decoded.
    folder = tmp_path / "onnx"
    modelfile.export_onnx(tmp_path / "both.mw", folder)
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (plain,) = session.run(None, {session.get_inputs()[0].name: pixels})
    assert np.allclose(plain, modelfile.load(tmp_path / "both.mw").outputs(pixels), atol=1e-4)
    # A file that is compressed further keeps its zeros compressed.
    assert modelfile.rebuild(tmp_path / "both.mw").codecs["body.hidden.0.weight"] == "zstd"


def test_scales_of_few_bits_are_stored_in_16_bits_too(tmp_path: Path) -> None:
    few = QuantizeStep(name="quantize", weights="int4", group_size=16)
    grouped, _ = compress(small("decoder"), few, tmp_path / "g")
    both, _ = compress(grouped, step("float16"), tmp_path / "q")
    scales = {name for name in both.codecs if name.endswith("weight_scale")}
    assert scales
    state = both.network.state_dict()
    assert all(torch.equal(state[name], state[name].half().float()) for name in scales)


def test_a_drop_beyond_what_is_allowed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.9, 0.8])
    monkeypatch.setattr(
        sensitivity, "validation_scores", lambda *_, **__: {"accuracy": next(scores)}
    )
    candidate = small("mlp")
    with pytest.raises(CompressionError, match=r"worse by 0\.1 .*0\.005 is allowed"):
        compress(candidate, step("float16"), tmp_path, has_validation=True)
    assert replace(candidate).codecs == {}


def test_the_filters_of_a_spectrum_are_stored_so_too(tmp_path: Path) -> None:
    before = small("audio-cnn")
    after, facts = compress(before, step("float16"), tmp_path)
    stored = {name for name, codec in after.codecs.items() if codec == "float16"}
    large = {
        name
        for name, item in before.network.state_dict().items()
        if item.dtype == torch.float32 and item.numel() >= 1024
    }
    assert stored | set(facts["kept"]) == large
    assert any("filters" in name for name in large)
    modelfile.write_model(tmp_path / "after.mw", after)
    modelfile.verify(tmp_path / "after.mw", sandbox=False)
