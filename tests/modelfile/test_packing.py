"""From a candidate to a file: the graph answers as the network, and nothing else gets in."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelwright import modelfile, models
from modelwright.errors import DataError, ModelFileError, RequestError
from modelwright.metrics import softmax
from modelwright.models.candidate import Candidate
from modelwright.models.timm_networks import TimmNetwork
from modelwright.recipe.model import LinearModel
from modelwright.recipe.networks import (
    DetectorModel,
    EfficientNetLite0Model,
    MlpModel,
    ResnetModel,
    RnnModel,
    SpeednetModel,
)
from modelwright.transforms.text import TextInput
from modelwright.transforms.tokenizing import train_tokenizer
from tests.modelfile.making import CNN, LABELS, arrays_candidate, candidate, fill

PROBABILITY = 1e-4  # what the project promises of an export in fp32


SPECS = {
    "mlp": (MlpModel(name="mlp", hidden=(7, 5)), 8, 1),
    "cnn": (CNN, 8, 3),
    "resnet": (ResnetModel(name="resnet", depth=20, width=0.5), 16, 3),
    "speednet": (SpeednetModel(name="speednet", widths=(8, 16, 16)), 32, 3),
    "linear": (LinearModel(name="linear", features="hog"), 16, 3),
    "efficientnet-lite0": (
        EfficientNetLite0Model(name="efficientnet-lite0", pretrained=False),
        32,
        3,
    ),
}


def pixels(count: int, size: int, channels: int) -> np.ndarray:
    generator = np.random.default_rng(3)
    return generator.integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def test_every_family_has_its_battery() -> None:
    families = {family for family in models.BUILDERS if "image" in family.inputs}
    # Boxes are packed in `tests/whole/test_boxes.py`, networks of timm's in `test_timm.py` there.
    families -= {DetectorModel, TimmNetwork}
    assert {spec.__class__ for spec, _, _ in SPECS.values()} == families


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "efficientnet-lite0" else ())
        for name in SPECS
    ],
)
def test_the_graph_answers_as_the_network(family: str, tmp_path: Path) -> None:
    spec, size, channels = SPECS[family]
    made = candidate(spec, size=size, channels=channels)
    torch.manual_seed(0)
    made.network.load_state_dict(
        {
            name: torch.randn_like(item) * 0.2 + (1.0 if "running_var" in name else 0.0)
            if item.is_floating_point() and not name.startswith("steps.")
            else item
            for name, item in made.network.state_dict().items()
        }
        | {
            name: item.abs() + 0.5
            for name, item in made.network.state_dict().items()
            if "running_var" in name
        }
    )
    if (
        family == "linear"
    ):  # It takes pixels in 0…1: what falls below would be cut at a root's edge.
        made.network.steps.mean.zero_()  # type: ignore[operator, union-attr]
        made.network.steps.std.fill_(1.0)  # type: ignore[operator, union-attr]
    report = modelfile.write_model(tmp_path / "m.mw", made)
    shown = pixels(40, size, channels)
    found = modelfile.load(tmp_path / "m.mw").outputs(shown)
    made.network.eval()
    with torch.no_grad():
        expected = made.network(torch.from_numpy(shown)).numpy()
    assert np.abs(softmax(found) - softmax(expected)).max() <= PROBABILITY
    assert (found.argmax(1) == expected.argmax(1)).all()
    assert report.largest_difference <= PROBABILITY
    described = models.summary(made.network, (size, size, channels))
    assert (report.parameters, report.multiply_adds) == (
        described.parameters,
        described.multiply_adds,
    )
    rebuilt = modelfile.rebuild(tmp_path / "m.mw")
    with torch.no_grad():
        assert torch.equal(rebuilt.network(torch.from_numpy(shown)), torch.from_numpy(expected))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_layers_count_as_in_the_summary(cell: Any, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a b c d"], kind="word", size=20, lowercase=True)
    input = TextInput(tokenizer, 12)
    spec = RnnModel(name="rnn", cell=cell, width=8, hidden=8)
    made = Candidate(
        network=models.build_network(spec, input=input, num_outputs=3).eval(),
        task="text-classification",
        input=input,
        labels=("a", "b", "c"),
        architecture=models.architecture(spec, input=input, num_outputs=3),
        assets=input.assets(),
    )
    report = modelfile.write_model(tmp_path / "m.mw", made)
    golden = modelfile.read(tmp_path / "m.mw").golden.inputs["tokens"]
    sample = np.zeros(1, [("tokens", np.int64, golden.shape[1:]), ("length", np.int64)])
    sample["length"] = golden.shape[1]
    assert report.multiply_adds == models.summarise_sample(made.network, sample).multiply_adds
    assert report.multiply_adds > golden.shape[1] * 8 * 16


def test_packing_changes_no_candidate(tmp_path: Path) -> None:
    made = candidate(CNN, channels=3)
    made.network.train()
    made.network.body.head.weight.requires_grad = False
    before = copy.deepcopy(made.network.state_dict())
    modelfile.write_model(tmp_path / "m.mw", made)
    assert all(module.training for module in made.network.modules())
    after = made.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    flags = {name: item.requires_grad for name, item in made.network.named_parameters()}
    assert [name for name, flag in flags.items() if not flag] == ["body.head.weight"]
    assert made.lineage == ()


def test_the_same_candidate_gives_the_same_bytes(
    cnn: Candidate, packed: Path, tmp_path: Path
) -> None:
    modelfile.write_model(tmp_path / "again.mw", copy.deepcopy(cnn), recipe="version: 1\n")
    assert (tmp_path / "again.mw").read_bytes() == packed.read_bytes()


def test_writing_what_was_read_gives_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    modelfile.write(tmp_path / "again.mw", modelfile.read(packed))
    assert (tmp_path / "again.mw").read_bytes() == packed.read_bytes()


def test_the_file_tells_nothing_of_this_machine(packed: Path) -> None:
    raw = packed.read_bytes()
    for trace in (b".py", b"site-packages", str(Path.home()).encode(), b"torch.", b"aten", b"tmp"):
        assert trace not in raw.replace(b'"torch"', b"")


def test_golden_samples_are_synthetic_unless_given(cnn: Candidate, tmp_path: Path) -> None:
    mine = pixels(20, 8, 3)
    path = tmp_path / "m.mw"
    report = modelfile.write_model(path, cnn, probes=mine)
    raw = path.read_bytes()
    assert not any(sample.tobytes() in raw for sample in mine)
    assert report.golden_samples == 8
    step = modelfile.read(path).lineage[-1]
    assert (step["step"], step["samples"]) == ("export", 28)
    assert step["largest_difference"] == report.largest_difference <= PROBABILITY
    modelfile.write_model(path, cnn, golden_inputs=mine[:3])
    assert np.array_equal(modelfile.read(path).golden.inputs["pixels"], mine[:3])
    assert modelfile.verify(path).golden_samples == 3
    with pytest.raises(DataError, match="at least 2"):
        modelfile.write_model(path, cnn, golden_inputs=mine[:1])
    with pytest.raises(DataError, match="the model takes"):
        modelfile.write_model(path, cnn, probes=mine.astype(np.float32))


class Moody(nn.Module):
    """Answers otherwise each time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(64, len(LABELS)))
        self.calls = 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.calls += 1
        return pixels.flatten(1).float() / 255 @ self.weight * self.calls


class Choosy(nn.Module):
    """Looks at its data before it decides."""

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.flatten(1).float()
        return x[:, :4] if x.sum() > 0 else x[:, 4:8]


class Broken(nn.Module):
    """Answers with what is no number."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1).float()[:, :4] * float("nan")


class Narrow(nn.Module):
    """Has fewer outputs than there are labels."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1).float()[:, :3]


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (Moody(), "otherwise than the network"),
        (Choosy(), "can't be exported"),
        (Broken(), "finite"),
        (Narrow(), "4 labels"),
    ],
)
def test_a_network_that_cannot_be_shipped_leaves_no_file(
    network: nn.Module, why: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match=why):
        modelfile.write_model(tmp_path / "m.mw", replace(candidate(), network=network))
    assert not any(tmp_path.iterdir())


class Tied(nn.Module):
    """Token ids and three facts to two numbers; one table of weights stands under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.back = nn.Linear(6, 11, bias=False)
        self.back.weight = self.table.weight
        self.head = nn.Linear(11 + 3, 2)

    def forward(self, ids: Tensor, facts: Tensor) -> Tensor:
        mean = self.table(ids).mean(1)
        return self.head(torch.cat([self.back(mean), facts], 1))


def tied() -> Candidate:
    network = Tied()
    fill(network)
    return arrays_candidate(
        network,
        {"name": "ids", "dtype": "int64", "shape": ["N", "T"]},
        {"name": "facts", "dtype": "float32", "shape": ["N", 3]},
    )


def test_other_inputs_and_outputs_go_the_same_way(tmp_path: Path) -> None:
    made, path = tied(), tmp_path / "m.mw"
    report = modelfile.write_model(path, made)
    assert report.largest_difference <= PROBABILITY
    assert modelfile.verify(path).golden_difference <= PROBABILITY
    model = modelfile.load(path)
    ids, facts = np.arange(35).reshape(5, 7) % 11, np.linspace(-1, 1, 15, dtype=np.float32)
    batch = {"ids": ids, "facts": facts.reshape(5, 3)}
    with torch.no_grad():
        expected = made.network(*(torch.from_numpy(array) for array in batch.values())).numpy()
    np.testing.assert_allclose(model.outputs(batch), expected, atol=1e-5)
    shorter = {"ids": ids[:, :2], "facts": batch["facts"]}
    assert model.outputs(shorter).shape == (5, 2)
    assert model.labels == ()
    with pytest.raises(ModelFileError, match="takes arrays"):
        _ = model.input


def test_weights_that_are_one_are_held_once(tmp_path: Path) -> None:
    made, path = tied(), tmp_path / "m.mw"
    modelfile.write_model(path, made)
    contents = modelfile.read(path)
    assert contents.spec.shared == {"back.weight": "table.weight"}
    assert "back.weight" not in contents.weights
    held = modelfile.read_weights(path)
    assert held.keys() == made.network.state_dict().keys()
    assert np.array_equal(held["back.weight"], held["table.weight"])


def test_weights_are_stored_encoded_where_that_is_asked_for(tmp_path: Path) -> None:
    made, path = tied(), tmp_path / "m.mw"
    made.network.table.weight.data.round_(decimals=1)
    plain = modelfile.write_model(tmp_path / "plain.mw", made)
    report = modelfile.write_model(path, made, codecs={"table.weight": "zstd"})
    assert report.size_bytes < plain.size_bytes
    contents = modelfile.read(path)
    assert contents.spec.encoded["table.weight"].to_json() == {
        "codec": "zstd",
        "dtype": "F32",
        "shape": [11, 6],
    }
    assert contents.weights["table.weight"].nbytes < 11 * 6 * 4
    assert modelfile.verify(path).golden_difference <= PROBABILITY
    batch = {
        "ids": np.arange(35).reshape(5, 7) % 11,
        "facts": np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3),
    }
    models_of = [modelfile.load(tmp_path / name) for name in ("plain.mw", "m.mw")]
    assert np.array_equal(*(model.outputs(batch) for model in models_of))
    held = modelfile.read_weights(path)
    assert np.array_equal(held["back.weight"], made.network.table.weight.detach().numpy())
    modelfile.write(tmp_path / "again.mw", contents)
    assert (tmp_path / "again.mw").read_bytes() == path.read_bytes()
    with pytest.raises(RequestError, match="can't be encoded"):
        modelfile.write_model(tmp_path / "none.mw", made, codecs={"table": "zstd"})
    assert not (tmp_path / "none.mw").exists()


class Scaled(nn.Module):
    """A network with a number beside its weights, which no one sees from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, len(LABELS))
        self.factor = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.factor


def test_a_traced_graph_serves_the_trained_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = candidate(CNN, size=8, channels=3)
    before = modelfile.write_model(tmp_path / "before.mw", made)
    with torch.no_grad():
        for parameter in made.network.parameters():
            parameter.add_(0.05)
    fresh = modelfile.write_model(tmp_path / "fresh.mw", made)

    def fail(*args: Any, **options: Any) -> None:
        raise AssertionError("traced anew")

    monkeypatch.setattr("modelwright.modelfile.export._export", fail)
    again = modelfile.write_model(tmp_path / "again.mw", made, traced=before.traced)
    assert again.digest == fresh.digest != before.digest


def test_a_graph_is_traced_anew_where_more_than_the_weights_has_changed(tmp_path: Path) -> None:
    made = arrays_candidate(Scaled(), {"name": "x", "dtype": "float32", "shape": ["N", 4]})
    before = modelfile.write_model(tmp_path / "before.mw", made)
    made.network.factor = 3.0  # type: ignore[assignment]
    modelfile.write_model(tmp_path / "after.mw", made, traced=before.traced)
    model = modelfile.load(tmp_path / "after.mw")
    x = np.ones((2, 4), dtype=np.float32)
    with torch.no_grad():
        expected = made.network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(model.outputs(x), expected, atol=1e-5)
    made.network.linear = nn.Linear(4, len(LABELS), bias=False)
    modelfile.write_model(tmp_path / "other.mw", made, traced=before.traced)
    assert "linear.bias" not in modelfile.read(tmp_path / "other.mw").weights
