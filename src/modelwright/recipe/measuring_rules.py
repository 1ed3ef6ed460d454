"""Which settings go together: the rules on measuring and targets."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from modelwright.errors import nearest
from modelwright.kinds import ANY_OUTPUT
from modelwright.recipe.compression import QuantizeStep
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.rule import Rule, has_split
from modelwright.recipe.targets import METRICS, Metric, parse_target


def _wrong_metric(recipe: Recipe) -> str:
    """Name the first target that nothing measures, or nothing for this kind of output."""
    unknown = next((name for name in recipe.targets if name not in METRICS), "")
    if unknown:
        return f"`{unknown}` is not a metric. {nearest(unknown, METRICS)}".rstrip(".")
    kind = recipe.output_kind
    own = [name for name, item in METRICS.items() if kind in item.outputs != ANY_OUTPUT]
    for name in recipe.targets:
        if kind not in METRICS[name].outputs:
            names = ", ".join(f"`{metric}`" for metric in own)
            return (
                f"`{name}` doesn't judge {kind.noun}, which this task predicts. Use one of {names}"
            )
    return ""


def _first_target(recipe: Recipe, is_meant: Callable[[Metric], bool]) -> str:
    """Name the first target whose metric is meant."""
    names = (f"`{name}`" for name in recipe.targets if name in METRICS and is_meant(METRICS[name]))
    return next(names, "")


def _target_above_one(recipe: Recipe) -> str:
    """Name the first target of a share that no share can meet, or a percentage."""
    for name, target in recipe.targets.items():
        metric = METRICS.get(name)  # A rate of errors can be above 1.
        is_share = metric is not None and metric.is_share and metric.higher_is_better
        if is_share and parse_target(target)[1] > 1:
            return f"`{name}` lies between 0 and 1, and its target is {target}"
    return ""


def _wrong_direction(recipe: Recipe) -> str:
    """Name the first target that asks for a worse figure."""
    for name, target in recipe.targets.items():
        is_lower_bound = target.strip().startswith(">")
        if name in METRICS and METRICS[name].higher_is_better != is_lower_bound:
            better = "lower" if is_lower_bound else "higher"
            return f"`{name}: {target}` asks for a worse figure than it allows: {better} is better"
    return ""


def _beside_codebooks(recipe: Recipe) -> str:
    """Name the first step that can't be done to the same network as `vector-quantize`."""
    names = [
        step.name if getattr(step, "kind", "") != "structured" else "prune structured"
        for step in recipe.steps
    ]
    if "vector-quantize" not in names:
        return ""
    at = names.index("vector-quantize")
    before = [name for name in names[:at] if name in ("quantize", "prune")]
    return next(iter((*before, *names[at + 1 :])), "")


def _after_quantize(recipe: Recipe) -> str:
    """Name the first step that stands behind one it can't follow."""
    for before, step in itertools.pairwise(recipe.steps):
        if isinstance(before, QuantizeStep):
            is_16_bits = isinstance(step, QuantizeStep) and step.is_16_bits
            if before.is_16_bits or not is_16_bits:
                return f"`{step.name}`"
    return ""


MEASURING_RULES: tuple[Rule, ...] = (
    Rule(
        ("data.split.test: 0", "data.split.val: 0"),
        lambda r: not has_split(r, "test") and not has_split(r, "val"),
        "nothing is held out to measure the model on",
        "Hold out a share, such as `test: 0.2`",
    ),
    Rule(("targets", "metrics"), _wrong_metric, "`targets`: {}"),
    Rule(
        ("targets of a share", "more than 1"),
        _target_above_one,
        "`targets`: {}",
        "Write 0.93 for 93 %",
        ("targets",),
    ),
    Rule(
        ("targets of time", "evaluate.latency: false"),
        lambda r: not r.evaluate.latency and _first_target(r, lambda metric: metric.is_timed),
        "the target {} needs what `evaluate.latency: false` leaves out",
        "Write `latency: true`, or remove the target",
        ("evaluate.latency", "targets"),
    ),
    Rule(
        ("targets.gain_over_simple", "evaluate.baselines: false"),
        lambda r: (
            not r.evaluate.baselines and _first_target(r, lambda metric: metric.needs_baselines)
        ),
        "the target {} needs what `evaluate.baselines: false` leaves out",
        "Write `baselines: true`, or remove the target",
        ("evaluate.baselines", "targets"),
    ),
    Rule(
        ("targets of compression", "compress"),
        lambda r: not r.compress and _first_target(r, lambda metric: metric.needs_compression),
        "the target {} compares the network before and after `compress`, which is empty",
        "Give `compress` a step, such as `quantize`, or remove the target",
        ("targets",),
    ),
    Rule(
        ("compress: vector-quantize", "other steps of compress"),
        _beside_codebooks,
        "`vector-quantize` replaces all weights, and no step changes them after it: it can't be "
        "done beside `{}`",
        "Write one of them; only steps that leave whole weights may stand before `vector-quantize`",
        ("compress",),
    ),
    Rule(
        ("compress.quantize", "a step behind it"),
        _after_quantize,
        "`compress`: {} can't follow `quantize`: rounded weights aren't trained or rounded again",
        "Put `quantize` last; `dtype: float16` or `bfloat16` may stand behind `int8` and `weights`",
        ("compress",),
    ),
    Rule(
        ("targets at a threshold", "inference.threshold"),
        lambda r: (
            not r.inference.threshold and _first_target(r, lambda metric: metric.needs_threshold)
        ),
        "the target {} needs a threshold, and nothing says for which class",
        "Write `inference.threshold`, or remove the target",
        ("targets",),
    ),
)
"""The pairs that can't work."""

MEASURING_NOTES: tuple[Rule, ...] = (
    Rule(
        ("data.split.test: 0", "measuring"),
        lambda r: not has_split(r, "test") and has_split(r, "val"),
        "Without a test split the model is measured on validation, by which it was chosen too",
    ),
    Rule(("targets", "the better direction"), _wrong_direction, "Target {}"),
    Rule(
        ("targets", "data.limit"),
        lambda r: f"{r.data.limit:,}" if r.targets and r.data.limit else "",
        "`data.limit` leaves at most {} samples to judge the targets by",
    ),
)
"""The pairs that work, but not as one might think."""
