"""What `compress: auto` may do to a network, as settings of a trial and as steps of the recipe.

A trial has one value of each setting. Steps are in the order in which they compose: a smaller
network or fewer channels, learning from the network before, zeros, numbers of fewer bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelwright.kinds import InputKind, OutputKind
from modelwright.planning.front import Point

NONE = "none"
NETWORK, PRUNE, DISTILL, SPARSITY, NUMBERS = "network", "prune", "distill", "sparsity", "numbers"
"""The settings of a trial. `network` names one that is trained, or a smaller one that learns from
it."""
_SHARES = ("0.75", "0.5", "0.35", "0.25", "0.15")
_SPARSITIES = ("0.75", "0.9")
_LESSONS = {"once": 1, "twice": 2, "four times": 4}
"""How often a network that was cut learns from the one before. What it learnt in a shorter chain is
kept, so that the longer one goes on from there."""
_LEAST_DROP = 9.0
"""What a step may cost in a search: its targets say what is allowed."""
LEAST_KEPT_DROP = 0.02
"""With a larger drop `quantize` keeps the layers that hurt most as they are, where targets don't
allow more."""
_NUMBERS: dict[str, dict[str, Any]] = {
    "float16": {"name": "quantize", "dtype": "float16"},
    "int8": {"name": "quantize", "dtype": "int8"},
    "int8 qat": {"name": "quantize", "dtype": "int8", "qat": True},
    "weights int8": {"name": "quantize", "weights": "int8"},
    "weights int4": {"name": "quantize", "weights": "int4", "max_drop": _LEAST_DROP},
    "vector-quantize 16": {"name": "vector-quantize", "ratio": 16.0, "max_drop": _LEAST_DROP},
    "vector-quantize 30": {"name": "vector-quantize", "ratio": 30.0, "max_drop": _LEAST_DROP},
}
_KEEPING = ("int8", "int8 qat", "weights int8")
"""Those that keep layers as they are where they cost too much."""
_SMALLER = {
    "float16": 0.5,
    "int8": 0.25,
    "int8 qat": 0.25,
    "weights int8": 0.25,
    "weights int4": 0.14,
    "vector-quantize 16": 1 / 16,
    "vector-quantize 30": 1 / 30,
}
"""The share of the bytes of weights that are left, at the least."""
_FASTER = {"int8": 5.0, "int8 qat": 5.0, "weights int8": 2.5, "weights int4": 2.5}
"""How many times faster answers come, at the most."""
_TRAINED = {"int8 qat": 0.5, "vector-quantize 16": 0.5, "vector-quantize 30": 0.5}
"""The part of a training that a step takes."""

Takes = Callable[[Mapping[str, Any]], bool]
"""Says whether a network takes a step of the recipe."""


@dataclass(frozen=True, slots=True)
class BestCase:
    """The least that a trial can come to, of the network's own figures."""

    size: float
    """The share of its bytes."""
    time: float
    """The share of its time for an answer."""


@dataclass(frozen=True, slots=True)
class Student:
    """A smaller network that may learn from a trained one."""

    section: Mapping[str, Any]
    """Its section `model`."""
    multiply_adds: float
    """Its share of those of the trained one."""
    costs: Point
    """What it takes before it is trained, in size and time."""


def students(input: InputKind, output: OutputKind) -> dict[str, dict[str, Any]]:
    """Return smaller networks of a kind of data by name, each a section `model`."""
    if output in (OutputKind.BOXES, OutputKind.SEQ2SEQ):
        return {}
    if output == OutputKind.CAUSAL_LM:
        sections = [{"name": "decoder", "width": 128, "layers": 2, "heads": 2}]
    elif output == OutputKind.CTC:
        sections = [{"name": "conv-ctc", "width": 64, "layers": 3}]
    elif input == InputKind.IMAGE:
        sections = [
            {"name": "speednet", "widths": [32, 96, 96]},
            {"name": "resnet", "depth": 20, "width": 0.5},
            {"name": "cnn", "blocks": [{"filters": 16}, {"filters": 32}], "head": [64]},
        ]
    elif input == InputKind.TEXT:
        sections = [
            {"name": "bow", "width": 32, "ngrams": 1},
            {"name": "text-cnn", "width": 64, "filters": 48},
            {"name": "transformer", "width": 64, "layers": 1, "heads": 2},
        ]
    else:
        sections = [
            {"name": "audio-cnn", "widths": [16, 32, 64]},
            {"name": "audio-cnn", "widths": [8, 16, 32]},
        ]
    return {_title(section): section for section in sections}


def _title(section: Mapping[str, Any]) -> str:
    settings = {key: value for key, value in section.items() if key != "name"}
    size = next(
        (
            "-".join(str(part) for part in value)
            if isinstance(value, list) and not isinstance(value[0], dict)
            else str(value)
            for key, value in settings.items()
            if key in ("widths", "width", "depth")
        ),
        "small",
    )
    return f"{section['name']} {size}"


def space(starts: Sequence[str], smaller: Sequence[str], takes: Takes) -> dict[str, list[str]]:
    """Return the values of each setting, without those that no network takes.

    Args:
        starts: the networks that are trained, by name.
        smaller: those that may learn from them.
        takes: whether any of the trained ones takes a step.
    """
    prune = list(_SHARES) if takes(_pruned(_SHARES[0])) else []
    sparsity = list(_SPARSITIES) if takes(_sparse(_SPARSITIES[0])) else []
    numbers = [name for name, step in _NUMBERS.items() if takes(step)]
    can_learn = takes({"name": "distill"})
    return {
        NETWORK: [*starts, *(smaller if can_learn else ())],
        PRUNE: [NONE, *prune],
        DISTILL: [NONE, *_LESSONS] if can_learn and prune else [NONE],
        SPARSITY: [NONE, *sparsity],
        NUMBERS: [NONE, *numbers],
    }


def steps(
    settings: Mapping[str, str],
    smaller: Mapping[str, Student],
    epochs: float,
    allowed_drop: float = LEAST_KEPT_DROP,
) -> list[dict[str, Any]]:
    """Return the steps of the recipe that settings of a trial stand for.

    Args:
        settings: of the trial.
        smaller: the networks that may learn from a trained one.
        epochs: how long a network trains on; one that begins anew trains twice as long.
        allowed_drop: by how much the main metric may get worse before layers stay in fp32.
    """
    found: list[dict[str, Any]] = []
    student = smaller.get(settings[NETWORK])
    if student is not None:
        section = dict(student.section)
        found.append({"name": "distill", "student": section, "epochs": 2 * epochs})
    elif settings[PRUNE] != NONE:
        found.append(_pruned(settings[PRUNE]) | {"epochs": epochs})
        lessons = _LESSONS.get(settings[DISTILL], 0)
        found += [{"name": "distill", "epochs": epochs} for _ in range(lessons)]
    if settings[SPARSITY] != NONE and not _is_coded(settings):
        found.append(_sparse(settings[SPARSITY]) | {"epochs": epochs})
    if settings[NUMBERS] != NONE:
        step = _NUMBERS[settings[NUMBERS]]
        if settings[NUMBERS] in _KEEPING:
            step = step | {"max_drop": allowed_drop}
        part = _TRAINED.get(settings[NUMBERS])
        found.append(step if part is None else step | {"epochs": part * epochs})
    return found


def best_case(settings: Mapping[str, str]) -> BestCase:
    """Return the least that a trial can come to, so that what can't meet a limit isn't tried.

    It is a share of what the trained network takes, or the smaller one that learns from it.
    """
    is_cut = settings[PRUNE] != NONE
    share = float(settings[PRUNE]) if is_cut else 1.0
    has_zeros = settings[SPARSITY] != NONE and not _is_coded(settings)
    sparsity = float(settings[SPARSITY]) if has_zeros else 0.0
    numbers = settings[NUMBERS]
    # Channels are cut unevenly over the layers, so weights may shrink by more than operations do.
    size = share**1.5 * (1 - sparsity) * _SMALLER.get(numbers, 1.0)
    time = 0.7 * share**1.2 / _FASTER.get(numbers, 1.0)
    return BestCase(size, time)


def is_narrower(settings: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Say whether a trial cuts the network by more than another one that is like it otherwise.

    How often it learns afterwards doesn't count.
    """
    if any(settings[name] != other[name] for name in (NETWORK, SPARSITY, NUMBERS)):
        return False
    one, two = (1.0 if each[PRUNE] == NONE else float(each[PRUNE]) for each in (settings, other))
    return one < two


def first_trials(values: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return settings that are worth a trial before any others, the quickest first."""
    default = {name: choices[0] for name, choices in values.items()}
    wanted: tuple[dict[str, str], ...] = (
        {},
        {NUMBERS: "int8"},
        {NUMBERS: "weights int8"},
        {NUMBERS: "float16"},
        {PRUNE: "0.5", NUMBERS: "int8"},
        *(
            {PRUNE: share, DISTILL: name, NUMBERS: "int8"}
            for name in _LESSONS
            for share in ("0.5", "0.25")
        ),
    )
    trials = [{**default, **change} for change in wanted]
    trials += [{**default, NETWORK: name} for name in values[NETWORK][1:]]
    return [
        trial for trial in trials if all(value in values[name] for name, value in trial.items())
    ]


def is_terminal(chain: Sequence[Any]) -> bool:
    """Say whether no step of a search follows the last one of a chain."""
    return bool(chain) and chain[-1].name in ("quantize", "vector-quantize")


def title(start: str, chain: Sequence[Mapping[str, Any]]) -> str:
    """Return a chain in a few words.

    >>> title("network", [{"name": "prune", "kind": "structured", "multiply_adds": 0.5},
    ...     {"name": "quantize", "dtype": "int8"}])
    'network → prune to 0.5 → int8'
    """
    told: list[tuple[str, int]] = []
    for words in map(_words, chain):
        if told and told[-1][0] == words:
            told[-1] = (words, told[-1][1] + 1)
        else:
            told.append((words, 1))
    counted = (words if count == 1 else f"{words} {count} times" for words, count in told)
    return " → ".join([start, *counted])


def _words(step: Mapping[str, Any]) -> str:
    match step["name"]:
        case "prune" if step.get("kind") == "structured":
            return f"prune to {step.get('multiply_adds') or step.get('latency')}"
        case "prune":
            return f"{step.get('sparsity', 0.8):.0%} zeros"
        case "distill" if step.get("student"):
            return f"distill into {_title(step['student'])}"
        case "quantize":
            words = step.get("dtype") or f"weights {step.get('weights')}"
            return f"{words} qat" if step.get("qat") else str(words)
        case "vector-quantize" if step.get("ratio"):
            return f"vector-quantize {step['ratio']:g}"
    return str(step["name"])


def _is_coded(settings: Mapping[str, str]) -> bool:
    """Say whether weights become codes, in which zeros would be lost."""
    return settings[NUMBERS].startswith("vector-quantize")


def _pruned(share: str) -> dict[str, Any]:
    return {
        "name": "prune",
        "kind": "structured",
        "multiply_adds": float(share),
        "max_drop": _LEAST_DROP,
    }


def _sparse(share: str) -> dict[str, Any]:
    return {"name": "prune", "sparsity": float(share), "max_drop": _LEAST_DROP}
