"""What the steps of `compress` gain and cost on real data, beside the network before.

    python benchmarks/compression.py speednet decoder --runs compressed
    python benchmarks/compression.py speednet --model runs/cifar10/model.mw

A case trains an example recipe once, whose run is kept under `--runs`, then compresses the finished
file. Where OpenVINO and NNCF are installed, networks of images are also
quantized by these, from the same graph and as many training images, and both int8 files answer by
turns.
"""

from __future__ import annotations

import argparse
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from measuring import real_data, spread, tell
from modelwright import data, modelfile, pipeline
from modelwright.cli.launch import restart_tuned
from modelwright.evaluation import headline
from modelwright.evaluation.intervals import paired_bounds
from modelwright.files import read_json
from modelwright.modelfile import torch_runtime
from modelwright.modelfile.inputs import open_input
from modelwright.pipeline.result import RunResult
from modelwright.progress import watching
from modelwright.recipe import parse_recipe
from modelwright.recipe.targets import headline_metric
from modelwright.run import silent

EXAMPLES = Path(__file__).parents[1] / "examples"
INT8: dict[str, Any] = {"name": "quantize", "dtype": "int8"}
_BLOCKS = 20


@dataclass(frozen=True)
class Case:
    """What is trained, what is done to it, and what is asked of it."""

    recipe: str
    steps: tuple[dict[str, Any], ...]
    asked: str
    settings: tuple[str, ...] = ()
    is_timed: bool = False
    """Whether the network is also trained for the time that it and the steps took together."""


RESNET18 = (
    "model={name: resnet, depth: 18}",
    "train={epochs: 12, batch_size: 256, loss: {name: cross-entropy, label_smoothing: 0.1},"
    " optimizer: {name: sgd, lr: 0.2}, schedule: {name: one-cycle}}",
    "inference={}",
    "targets={}",
)

CASES = {
    "resnet18": Case(
        "cifar10",
        (INT8,),
        "<= 0.3 point lost, >= 2.5 times at batch 1 and 64, within 1.2 times of OpenVINO",
        RESNET18,
    ),
    "resnet18-narrow": Case(
        "cifar10",
        (
            {
                "name": "prune",
                "kind": "structured",
                "multiply_adds": 0.476,
                "max_drop": 0.05,
                "rounds": 1,
            },
        ),
        "multiply-adds / 2.1, <= 0.3 point less than the base in the same time, >= 1.6 times",
        RESNET18,
        is_timed=True,
    ),
    "speednet": Case("cifar10", (INT8,), ">= 2 times, <= 0.5 point", ("inference={}",)),
    "efficientnet": Case(
        "cifar10",
        (INT8,),
        ">= 1.8 times, <= 0.5 point",
        (
            "model={name: efficientnet-lite0}",
            "transforms={size: 224}",
            "augment={flip: random}",
            "data.limit=4000",
            "train={epochs: 2, batch_size: 32, optimizer: {name: adamw, lr: 0.001},"
            " schedule: {name: one-cycle}}",
            "inference={}",
            "targets={}",
        ),
    ),
    "decoder": Case(
        "language-modeling",
        ({"name": "quantize", "weights": "int4"},),
        "perplexity <= +3 %, >= 3.5 times smaller",
    ),
    "transformer": Case(
        "text-classification",
        (INT8,),
        "<= 0.5 point, smaller and not slower",
        ("model={name: transformer}", "text.max_length=256"),
    ),
    "minilm": Case(
        "trec-minilm",
        ({"name": "quantize", "weights": "int8"},),
        "<= 0.5 point, smaller and not slower",
    ),
    "fsdd": Case("audio-classification", (INT8,), "<= 0.5 point, smaller and not slower"),
    "multi30k": Case(
        "translation",
        ({"name": "quantize", "weights": "int8"},),
        "<= 0.5 BLEU, smaller and not slower",
    ),
    "codebooks-20": Case(
        "cifar10",
        ({"name": "vector-quantize", "ratio": 20, "epochs": 4, "max_drop": 0.05},),
        ">= 20 times smaller weights, <= 2 points lost",
        RESNET18,
    ),
    "codebooks-30": Case(
        "cifar10",
        ({"name": "vector-quantize", "ratio": 30, "epochs": 4, "max_drop": 0.1},),
        ">= 30 times smaller weights, <= 4 points lost",
        RESNET18,
    ),
    "chain": Case(
        "cifar10",
        (
            {"name": "prune", "kind": "structured", "multiply_adds": 0.25, "max_drop": 0.1},
            {"name": "distill", "max_drop": 0.1},
            INT8,
        ),
        ">= 8 times faster than PyTorch's eager fp32, >= 15 times smaller, <= 1 point lost",
        RESNET18,
    ),
    "neu-det": Case("neu-det-pretrained", (INT8,), "<= 0.5 point mAP, smaller and not slower"),
}


def main() -> None:
    """Measure the cases that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="by default all")
    parser.add_argument("--runs", type=Path, default=Path("compressed"))
    parser.add_argument("--model", type=Path, help="a finished file in place of training")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--epochs", type=float, help="of each step that trains")
    parser.add_argument("--quick", action="store_true", help="one epoch of few samples")
    asked = parser.parse_args()
    real_data()
    for name in asked.cases or CASES:
        measure(name, asked)


def measure(name: str, asked: argparse.Namespace) -> None:
    """Train or take a network, compress it, and print what that changed."""
    case = CASES[name]
    settings = [*case.settings, "evaluate={baselines: false}", *asked.settings]
    if asked.quick:
        settings += ["train.epochs=1", "data.limit=500"]
    with watching() as observe:
        trained, recipe = asked.model, EXAMPLES / f"{case.recipe}.yaml"
        if trained is None:
            run = pipeline.run(
                recipe, out=asked.runs, name=name, overrides=settings, observe=observe
            )
            trained = run.model
        steps = [
            step
            if asked.epochs is None or step["name"] == "quantize"
            else step | {"epochs": asked.epochs}
            for step in case.steps
        ]
        sections = {"compress": steps, "evaluate": {"baselines": False}, "targets": {}}
        resources = [item for item in asked.settings if item.startswith("resources.")]
        result = pipeline.compress(
            trained,
            sections,
            out=asked.runs,
            name=f"{name}-compressed",
            overrides=resources,
            observe=observe,
        )
        longer: dict[str, Any] = {}
        if case.is_timed:
            seconds = sum(map(learning_s, (trained.parent, result.folder)))
            fixed = [item for item in settings if not item.startswith("train.epochs")]
            base = pipeline.run(
                recipe,
                out=asked.runs,
                name=f"{name}-longer",
                overrides=[*fixed, "train.epochs=null", f"train.budget={seconds:.0f}s"],
                observe=observe,
            )
            longer = beside_longer(result, base, seconds)
    eager = eager_speedup(result)
    found = {**figures(result), **eager, **longer, **beside(result)}
    tell("compression", case=name, **found, asked=case.asked)


def figures(result: RunResult) -> dict[str, Any]:
    """Return what a compression changed."""
    found = headline(result.ledger)
    metric = headline_metric(found) or ""
    before = result.ledger.find(metric, subject="parent")
    layers = modelfile.integer_layers(result.model)
    names = ("gain_over_parent", "size_ratio", "speedup_batch_1", "speedup_batch_64", "flipped")
    kept = ("worst_label_drop", "calibration_error")
    return {
        "metric": metric,
        "before": None if before is None else round(before.value, 5),
        "after": round(found[metric]["value"], 5),
        **{
            key: [round(found[key][end], 5) for end in ("value", "low", "high")]
            for key in (*names, *kept)
            if key in found
        },
        "int8_layers": f"{sum(layers.values())} of {len(layers)}" if layers else None,
        "weights_ratio": weights_ratio(result),
        "samples": found[metric]["n"],
    }


def learning_s(run: Path) -> float:
    """Return the seconds that all trainings of a run took, with their validations."""
    last = (path.read_text().splitlines()[-1] for path in run.rglob("metrics.jsonl"))
    return sum(float(json.loads(line)["seconds"]) for line in last)


def beside_longer(result: RunResult, base: RunResult, seconds: float) -> dict[str, Any]:
    """Return by how much a compressed network is better than one trained for the same time."""
    own, other = right_answers(result.model), right_answers(base.model)
    gain = float(own.mean() - other.mean())
    ends = paired_bounds(int((own & ~other).sum()), int((other & ~own).sum()), len(own))
    return {
        "same_time": round(float(other.mean()), 5),
        "gain_over_same_time": [round(gain, 5), *(round(end, 5) for end in ends)],
        "seconds": round(seconds),
    }


def right_answers(path: Path) -> np.ndarray:
    """Return whether each test sample is answered rightly `[N]`."""
    contents, model = modelfile.read(path), modelfile.load(path)
    recipe = parse_recipe(contents.recipe, where="the file")
    prepared = data.prepare(recipe, base=Path.cwd(), like=model.input, observe=silent)
    test = prepared.test()
    assert test is not None
    rows = np.array_split(np.arange(len(test)), max(len(test) // 500, 1))
    answers = [model.outputs(test.gather(part)).argmax(1) for part in rows]
    right: np.ndarray = np.concatenate(answers) == test.targets
    return right


def eager_speedup(result: RunResult) -> dict[str, Any]:
    """Return how many times faster one image is answered than by PyTorch before, eagerly."""
    import torch

    threads = int(read_json(result.folder / "recipe.json")["recipe"]["resources"]["threads"] or 0)
    model = modelfile.load(result.model, threads=threads or None)
    if model.spec.input.get("kind") != "image":
        return {}
    torch.set_num_threads(threads or torch.get_num_threads())
    before = eager(result.folder / "uncompressed.mw")
    pixels = training_pixels(result)[:1]
    ratios = [timed(before) / timed(partial(model.outputs, pixels)) for _ in range(_BLOCKS)]
    return {"eager_speedup": spread(ratios)}


def eager(path: Path) -> Callable[[], object]:
    """Return a call that answers one synthetic sample with PyTorch, eagerly in fp32."""
    import torch

    candidate = torch_runtime.rebuild(path)
    network = candidate.network.eval()
    reader = open_input(candidate.input.to_json(), candidate.assets)
    samples = reader.synthetic(2)
    inputs = [torch.from_numpy(np.array(samples[item.name][:1])) for item in reader.tensors]

    def answer() -> object:
        with torch.inference_mode():
            return network(*inputs)

    return answer


def weights_ratio(result: RunResult) -> float:
    """Return how many times smaller the member with the weights is than before."""
    before, after = (
        zipfile.ZipFile(path).getinfo("model/weights.safetensors").file_size
        for path in (result.folder / "uncompressed.mw", result.model)
    )
    return round(before / after, 3)


def beside(result: RunResult) -> dict[str, Any]:
    """Return how much faster than ours NNCF's int8 answers, from the same graph; or nothing."""
    try:
        import nncf
        import onnxruntime
        import openvino
    except ImportError:
        return {}
    parent = result.folder / "uncompressed.mw"
    model = modelfile.load(parent)
    if model.spec.input.get("kind") != "image":
        return {}
    # Plain graphs on both sides, without views of test-time augmentation.
    folder, int8 = result.folder / "onnx", result.folder / "onnx-int8"
    for file, into in ((parent, folder), (result.model, int8)):
        if not into.exists():
            modelfile.export_onnx(file, into)
    threads = int(read_json(result.folder / "recipe.json")["recipe"]["resources"]["threads"] or 0)
    samples = training_pixels(result)
    core = openvino.Core()
    plain = core.read_model(folder / "model.onnx")
    calibration = nncf.Dataset([sample[None] for sample in samples])
    quantized = nncf.quantize(plain, calibration, subset_size=len(samples))
    options = {"INFERENCE_NUM_THREADS": threads} if threads else {}
    compiled = core.compile_model(quantized, "CPU", options)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    own = onnxruntime.InferenceSession(
        int8 / "model.onnx", settings, providers=["CPUExecutionProvider"]
    )
    name = own.get_inputs()[0].name
    ratios = {}
    for size in (1, 64):
        batch = np.ascontiguousarray(np.resize(samples, (size, *samples.shape[1:])))
        taken = [
            (timed(partial(own.run, None, {name: batch})), timed(partial(compiled, batch)))
            for _ in range(_BLOCKS)
        ]
        ratios[f"openvino_batch_{size}"] = spread([ours / theirs for ours, theirs in taken])
    return ratios


def training_pixels(result: RunResult) -> np.ndarray:
    """Return as many training images as ranges were taken from."""
    contents = modelfile.read(result.model)
    recipe = parse_recipe(contents.recipe, where="the file")
    model = modelfile.load(result.model)
    prepared = data.prepare(recipe, base=Path.cwd(), like=model.input, observe=silent)
    train = prepared.dataset().train
    rows = np.linspace(0, len(train) - 1, min(512, len(train))).astype(np.int64)
    return np.asarray(train.gather(rows))


def timed(call: Callable[[], object], *, seconds: float = 0.1) -> float:
    """Return the median time of a call, over about so many seconds."""
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


if __name__ == "__main__":
    restart_tuned()
    main()
