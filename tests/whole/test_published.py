"""Published weights from a recipe to a model file, where the extra `[pretrained]` is installed."""

from __future__ import annotations

import contextlib
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from modelwright import modelfile
from modelwright.data import prepare
from modelwright.files import read_json
from modelwright.initialization.published import PUBLISHED, is_installed, published_files
from modelwright.initialization.published_networks import frozen_network
from modelwright.ledger import Ledger
from modelwright.pipeline import run
from modelwright.pipeline.network_choice import choose_network
from modelwright.pipeline.request import read_request
from modelwright.run import Decisions, Run, silent
from modelwright.transforms import ImageInput

MAKE = Path(__file__).parents[2] / "examples" / "small" / "make_data.py"
SETTINGS = """\
evaluate: {baselines: false, latency: false}
resources: {threads: 1}
"""
TRAIN = "train: {epochs: 4, batch_size: 8, precision: fp32, compile: off"
ADAMW = ", optimizer: {name: adamw, lr: 0.002}"
PICTURES = "version: 1\ndata: {source: folder, path: shapes}\n"

pytestmark = pytest.mark.skipif(
    not all(map(is_installed, PUBLISHED)), reason="`modelwright[pretrained]` isn't installed"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Grey pictures of bars that stand or lie, a table of how bright they are, and sentences."""
    here = tmp_path_factory.mktemp("published")
    random, rows = np.random.default_rng(0), ["image,brightness"]
    for number in range(60):
        label = ("standing", "lying")[number % 2]
        pixels = random.integers(0, 60, (48, 48), dtype=np.uint8)
        at = int(random.integers(8, 32))
        pixels[:, at : at + 6] += np.uint8(100 + number)
        pixels = pixels if label == "standing" else pixels.T.copy()
        path = here / "shapes" / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        rows.append(f"shapes/{label}/{number}.png,{pixels.mean():.2f}")
    (here / "bright.csv").write_text("\n".join(rows) + "\n")
    meals = [
        f"{word} {meal} {end},{label}"
        for word, label in (
            ("delicious", "good"),
            ("awful", "bad"),
            ("fine", "good"),
            ("bad", "bad"),
        )
        for meal in ("soup", "tea", "bread", "rice", "fish")
        for end in ("today", "again", "here", "at noon")
    ]
    (here / "meals.csv").write_text("\n".join(["text,label", *meals]) + "\n")
    sayings = [
        f"the {meal} that we had was {word} and it is {end},{label}"
        for word, label in (("delicious", "good"), ("awful", "bad"), ("bad", "bad"))
        for meal in ("soup", "tea", "bread", "rice", "fish")
        for end in ("here", "gone", "cold", "hot")
    ]
    (here / "sayings.csv").write_text("\n".join(["text,label", *sayings]) + "\n")
    return here


def finished(place, name, text):
    (place / f"{name}.yaml").write_text(text + SETTINGS)
    return run(place / f"{name}.yaml", out=place / "runs").folder / "model.mw"


def test_of_grey_images_in_one_line(place):
    path = finished(
        place,
        "shapes",
        PICTURES + "transforms: {size: 64}\nmodel: {name: efficientnet-lite0}\n"
        f"{TRAIN}{ADAMW}, unfreeze: {{at: 0.5}}, layer_decay: 0.9}}\n",
    )
    model, candidate = modelfile.load(path), modelfile.rebuild(path)
    assert model.input == ImageInput(height=64, width=64, channels=3)
    # As the weights were trained: (x - 127) / 128.
    normalize = candidate.network.steps.to_json()[1]
    assert normalize["mean"] == pytest.approx([127 / 255] * 3)
    assert normalize["std"] == pytest.approx([128 / 255] * 3)
    first = candidate.lineage[0]
    weights = PUBLISHED["efficientnet-lite0"]
    assert (first["step"], first["model"]) == ("pretrained", "efficientnet-lite0")
    assert first["weights"] == f"sha256:{weights.sha256[weights.weights]}"
    assert model.predict(place / "shapes/lying/1.png")[0]["label"] in ("standing", "lying")
    assert model.ledger.find("accuracy").value > 0.7


@pytest.fixture(scope="module")
def reads():
    """Count how often each file is opened, while it is asked to."""
    counted: dict[str, int] | None = None

    def hook(event, arguments):
        if counted is not None and event == "open" and isinstance(arguments[0], str):
            counted[arguments[0]] = counted.get(arguments[0], 0) + 1

    sys.addaudithook(hook)  # It can't be removed, so it is switched.

    @contextlib.contextmanager
    def counting():
        nonlocal counted
        counted = {}
        try:
            yield counted
        finally:
            counted = None

    return counting


def test_auto_trains_an_english_encoder_further_and_reads_its_weights_once(place, reads):
    pytest.importorskip("transformers")
    notes = []
    (place / "auto.yaml").write_text(
        "version: 1\ntask: text-classification\n"
        "data: {source: table, path: sayings.csv}\ntext: {max_length: 12}\nmodel: auto\n"
        "train: {epochs: 1, budget: 30m, precision: fp32, compile: off}\n" + SETTINGS
    )
    with reads() as opened:
        result = run(
            place / "auto.yaml", out=place / "runs", observe=lambda item: notes.append(item.note)
        )
    files = published_files("minilm")
    for file in files.content:
        assert opened[str(files.folder / file)] == 1
    decided = read_json(result.folder / "decisions.json")
    assert set(decided["linear_scores"]) == {"linear", "published"}
    # The second linear model gets what the first has left of half the budget.
    assert 0 < decided["published_s"]["left"] < 900
    assert decided["network"]["chosen"] == "minilm"
    assert decided["network"]["left_s"] < 1800 - decided["linear_s"]
    assert any("published `minilm`, trained further" in note for note in notes)
    # It leaves time for the default family, which is trained as well.
    assert any("The default family is trained too" in note for note in notes)
    assert (result.folder / "stages/train-2/metrics.jsonl").exists()
    assert set(decided["network_scores"]) == {"published", "default"}
    tuned = modelfile.rebuild(result.model).lineage
    chosen = next(step for step in tuned if step["step"] == "choose")
    assert chosen["metric"] == "accuracy"
    page = result.report.read_text("utf-8")
    linear_ships = chosen["chosen"] == "linear"
    assert ("Published weights and a network of the default family" in page) != linear_ships

    # A run that goes on comes to the same choice, however little time is left by then.
    request = read_request(place / "auto.yaml")
    decisions = Decisions(result.folder / "decisions.json")
    context = Run(result.folder, 0, "cpu", 1, decisions, Ledger())
    prepared = prepare(request.recipe, base=place, observe=silent)
    again = choose_network(request, prepared, context, left_s=61.0)
    assert again.is_published
    train = again.request.recipe.train
    own_s = decided["network"]["left_s"] - decided["network"]["reserved_s"]
    assert (train.epochs, train.unfreeze.at, train.budget) == (1.0, 0.1, f"{own_s:.3f}s")


@pytest.mark.slow
def test_of_numbers(place):
    path = finished(
        place,
        "bright",
        "version: 1\ntask: regression\n"
        "data: {source: table, path: bright.csv, target_columns: [brightness]}\n"
        "transforms: {size: 32}\nmodel: {name: efficientnet-lite0}\n"
        f"{TRAIN}{ADAMW}}}\n",
    )
    ledger = modelfile.load(path).ledger
    assert ledger.find("mae").value < 20  # They lie some 40 apart.
    assert modelfile.rebuild(path).lineage[0]["model"] == "efficientnet-lite0"


@pytest.mark.slow
def test_of_a_detectors_backbone(place):
    (place / "data").mkdir()
    runpy.run_path(str(MAKE))["shapes"](place / "data", count=24)
    path = finished(
        place,
        "boxes",
        "version: 1\ntask: object-detection\n"
        "data: {source: boxes, path: data/shapes, leaks: allow}\ntransforms: {size: 64}\n"
        "model: {name: detector, backbone: efficientnet-lite0, neck: 8}\n"
        f"{TRAIN.replace('epochs: 4', 'epochs: 1')}, unfreeze: {{at: 0.9, lr: 1.0e-6}}}}\n",
    )
    candidate = modelfile.rebuild(path)
    start = frozen_network("efficientnet-lite0", ImageInput(height=64, width=64, channels=3))
    found, before = candidate.network.body.backbone, start.body.trunk
    # At most one step moved what was published, by next to nothing.
    torch.testing.assert_close(
        found.blocks[3].expand.conv.weight, before.blocks[3].expand.conv.weight, rtol=0, atol=1e-4
    )
    assert candidate.lineage[0]["step"] == "pretrained"


@pytest.mark.slow
def test_of_english_texts_in_one_line(place):
    pytest.importorskip("transformers")
    path = finished(
        place,
        "meals",
        "version: 1\ntask: text-classification\ndata: {source: table, path: meals.csv}\n"
        "text: {max_length: 16}\nmodel: {name: minilm}\n"
        f"{TRAIN}, optimizer: {{name: adamw, lr: 0.0003}}}}\n",
    )
    model, candidate = modelfile.load(path), modelfile.rebuild(path)
    assert candidate.lineage[0]["package"] == PUBLISHED["minilm"].package
    assert model.predict("delicious rice")[0]["label"] == "good"
