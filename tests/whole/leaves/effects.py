"""What a recipe comes to, at several depths: prepared data, a network, a training, answers, a run.

Each depth returns what it made as digests and plain values by name, and nothing that merely repeats
the recipe (its digest, the section `model` in a file, the method's settings in a record), so that
two recipes differ in it only where the settings did something.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.utils import _pytree

from modelwright import data, modelfile
from modelwright.data import Prepared
from modelwright.data.batches import Batches
from modelwright.initialization import initialize_model, pin_network, settled_input
from modelwright.modelfile.export import TracedGraph
from modelwright.models.candidate import Candidate
from modelwright.pipeline.compressing import check_steps
from modelwright.pipeline.compressing import compressed as compress
from modelwright.pipeline.measuring import questions
from modelwright.pipeline.request import Notes, run_in
from modelwright.pipeline.stages import train
from modelwright.recipe import Draft, check_composition
from modelwright.run import Run, RunRequest, silent

Document = Mapping[str, Any]
Effects = dict[str, object]
_TIMES = ("seconds", "_per_s", "_ms")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the data lies, and where the runs of this session do."""

    data: Path
    runs: Path
    prepared: dict[str, tuple[Prepared, tuple[str, ...]]] = field(default_factory=dict)
    """What was prepared, by the part of a recipe that decides it."""
    known: dict[str, Effects] = field(default_factory=dict)
    """The effects of recipes, by depth and recipe."""
    traced: dict[str, Mapping[str, TracedGraph]] = field(default_factory=dict)
    """The graphs of untrained networks, by what decides them."""

    def folder(self) -> Path:
        """Return a new folder."""
        folder = self.runs / str(len(list(self.runs.iterdir())))
        folder.mkdir()
        return folder


def digest(value: object) -> str:
    """Return the digest of an array, a tensor, or a tree of them."""
    held = hashlib.sha256()
    for leaf in _pytree.tree_leaves(value):
        if isinstance(leaf, torch.Tensor):
            leaf = leaf.detach().float().numpy() if leaf.is_floating_point() else leaf.numpy()
        array = np.ascontiguousarray(leaf)
        held.update(f"{array.shape}".encode() + array.tobytes())
    return held.hexdigest()


def request_of(document: Document, place: Place) -> RunRequest:
    """Return the request that a recipe's sections are, after the rules on pairs."""
    recipe = Draft.from_settings(document).recipe()
    check_composition(recipe)
    return RunRequest(recipe, base=place.data)


# -- data ------------------------------------------------------------------------------------


def _prepare(request: RunRequest, place: Place) -> tuple[Prepared, tuple[str, ...]]:
    """Prepare what a request asks for, once for all requests that prepare the same."""
    own = request.recipe.document()
    for name in ("train", "augment", "compress", "inference", "generate", "evaluate", "targets"):
        del own[name]
    del own["resources"]
    key = json.dumps(own, sort_keys=True)
    if key not in place.prepared:
        notes = Notes(silent)
        like = settled_input(request)
        made = data.prepare(
            request.recipe, base=request.base, like=like, run_folder=None, observe=notes
        )
        place.prepared[key] = made, tuple(notes.sentences)
    return place.prepared[key]


def prepared(document: Document, place: Place) -> Effects:
    """Return the splits, what is made of the samples, and what is said of them."""
    found, notes = _prepare(request_of(document, place), place)
    origins, contents = found.store.strings("origin"), found.store.strings("label")
    effects: Effects = {"labels": found.labels, "mean": found.mean, "std": found.std}
    effects["findings"] = [item.message for item in found.report.findings]
    effects["notes"] = notes
    for name, rows in found.rows.items():
        split = found.split(name)
        effects[f"{name} rows"] = [(origins[row], contents[row]) for row in rows.tolist()]
        if split is None:
            continue
        effects[f"{name} inputs"] = digest(_columns(split.gather()))
        effects[f"{name} targets"] = digest(_columns(split.targets[np.arange(len(split))]))
        effects[f"{name} metadata"] = {key: list(held) for key, held in split.metadata.items()}
    return effects


def _columns(array: np.ndarray) -> list[np.ndarray]:
    names = array.dtype.names
    return [array] if names is None else [array[name] for name in names]


# -- networks --------------------------------------------------------------------------------


def _begin(document: Document, place: Place) -> tuple[RunRequest, Prepared, Run, Candidate]:
    request = request_of(document, place)
    context = run_in(request, place.folder(), observe=Notes(silent))
    request = pin_network(request, context)
    found, _ = _prepare(request, place)
    return request, found, context, initialize_model(request, found, context)


def network(document: Document, place: Place) -> Effects:
    """Return a network before training: its weights and its outputs, in training and after."""
    _, found, context, candidate = _begin(document, place)
    made = candidate.network
    batch = Batches(found.dataset().train).at(0, np.arange(min(len(found.dataset().train), 8)))
    effects: Effects = {
        "shapes": {name: tuple(item.shape) for name, item in made.state_dict().items()},
        "weights": digest(list(made.state_dict().values())),
        "still": [name for name, item in made.named_parameters() if not item.requires_grad],
        "device": context.device,
        "threads": torch.get_num_threads(),
    }
    before = {name: item.clone() for name, item in made.state_dict().items()}
    with torch.no_grad():
        effects["answers"] = digest(made.eval()(*batch.inputs))
        torch.manual_seed(0)
        effects["outputs in training"] = digest(made.train()(*batch.inputs))
    made.load_state_dict(before)
    return effects


# -- training --------------------------------------------------------------------------------


def trained(document: Document, place: Place) -> Effects:
    """Return what training makes of the network, and what it keeps of its way."""
    request, found, context, candidate = _begin(document, place)
    stage = context.stage("train")
    with mock.patch.object(torch.nn.Module, "compile") as compiled:
        finished = train(candidate, request.recipe, found.dataset(), stage)
    (report,) = finished.reports
    checkpoints = sorted(path.name for path in (stage.folder / "checkpoints").glob("*"))
    return {
        "weights": digest(list(finished.network.state_dict().values())),
        "epochs": [
            {name: value for name, value in record.items() if not name.endswith(_TIMES)}
            for record in report.history
        ],
        "chosen": report.chosen,
        "checkpoints": checkpoints,
        "compiled": compiled.call_count,
    }


# -- compression -----------------------------------------------------------------------------


def compressed(document: Document, place: Place) -> Effects:
    """Return what the steps of `compress` make of an untrained network."""
    request, found, context, candidate = _begin(document, place)
    check_steps(candidate, request, found, context, is_known=request.recipe.model != "auto")
    finished = compress(candidate, request, found, context)
    return {
        "state": {name: digest(item) for name, item in finished.network.state_dict().items()},
        "kinds": {name: str(item.dtype) for name, item in finished.network.state_dict().items()},
    }


# -- answers ---------------------------------------------------------------------------------


def answered(document: Document, place: Place) -> Effects:
    """Return the answers of an untrained network's file under a recipe's way of answering."""
    request, found, _, candidate = _begin(document, place)
    own = request.recipe.document()
    for name in ("inference", "generate"):
        del own[name]
    key = json.dumps(own, sort_keys=True)
    path = place.folder() / "model.mw"
    packed = modelfile.write_model(path, candidate, traced=place.traced.get(key))
    place.traced[key] = packed.traced
    model = modelfile.load(path, threads=1)
    samples = found.test() or found.dataset().train
    asked = questions(range(min(len(samples), 4)), samples, found)
    return {"answers": [repr(model.predict(question)) for question in asked]}


def write_untrained(document: Document, place: Place, path: Path) -> None:
    """Write a model file with the network that a recipe starts from."""
    modelfile.write_model(path, _begin(document, place)[-1])


# -- runs ------------------------------------------------------------------------------------


def measured(document: Document, place: Place) -> Effects:
    """Return what a whole run delivers: evidence, verdicts, notes and the names of its files."""
    from modelwright.pipeline import run

    (place.data / "recipe.yaml").write_text(json.dumps(document))
    result = run(place.data / "recipe.yaml", out=place.folder())
    evidence = [
        (item.metric, item.subject, item.slice, item.split, item.n, *_value(item))
        for item in result.ledger
        if "bytes" not in item.metric
    ]
    model = modelfile.load(result.model)
    return {
        "evidence": evidence,
        "verdicts": [(item.metric, item.target, item.passed) for item in result.verdicts],
        "files": sorted(path.name for path in result.folder.iterdir()),
        "temperature": model.inference.temperature,
        "threshold": model.inference.threshold,
        "lineage": [step["step"] for step in modelfile.describe(result.model)["lineage"]],
    }


def _value(item: Any) -> tuple[object, ...]:
    is_timed = bool(item.hardware)
    return () if is_timed else (item.value, item.low, item.high)


EFFECTS: dict[str, Callable[[Document, Place], Effects]] = {
    "prepared": prepared,
    "network": network,
    "trained": trained,
    "compressed": compressed,
    "answered": answered,
    "measured": measured,
}
"""The depths by name, the cheapest first."""


def effects(depth: str, document: Document, place: Place) -> Effects:
    """Return what a recipe comes to, which is worked out once."""
    key = f"{depth} {json.dumps(document, sort_keys=True)}"
    if key not in place.known:
        place.known[key] = EFFECTS[depth](document, place)
    return place.known[key]
