"""The small example recipes over seeds, threads and kernels: how far each stays from its targets.

Another processor adds up in another order, so a training there comes to other weights. Environment
variables that choose other kernels stand in for other processors; each set of them has its own
process, as they are read once. All that is trained is fp32, as the recipes say.

    python benchmarks/kernels.py                                          # all of them: hours
    python benchmarks/kernels.py examples/small/speech-recognition.yaml   # one recipe
    python benchmarks/kernels.py --quick                                  # each kernel once

`margin` is the distance of the worst figure from its target, negative where it is missed; `spread`
the distance between the worst and the best. A target that holds elsewhere too leaves a margin of
about the spread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from measuring import tell
from modelwright.pipeline import run
from modelwright.recipe import load_recipe
from modelwright.recipe.targets import METRICS

EXAMPLES = Path(__file__).parents[1] / "examples"
KERNELS = {
    "as it is": {},
    "aten default": {"ATEN_CPU_CAPABILITY": "default"},
    "aten avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "aten avx512": {"ATEN_CPU_CAPABILITY": "avx512"},
    "onednn sse4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "onednn avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "onednn avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "mkl compatible": {"MKL_CBWR": "COMPATIBLE"},
    "all oldest": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
    },
}
"""Environment variables that choose kernels; a processor without AVX-512 takes its next best."""


@dataclass(frozen=True, slots=True)
class Case:
    """One training."""

    recipe: Path
    seed: int
    threads: int
    kernel: str
    settings: tuple[str, ...] = ()


def measure(case: Case) -> dict[str, float]:
    """Run a recipe, and return the figures that it targets, but times."""
    targets = load_recipe(case.recipe).targets
    kept = {metric: target for metric, target in targets.items() if not METRICS[metric].is_timed}
    settings = [f"seed={case.seed}", f"resources.threads={case.threads}"]
    settings += [f"targets={json.dumps(kept)}"]
    settings += ["evaluate.latency=false", "evaluate.baselines=false", *case.settings]
    with tempfile.TemporaryDirectory() as aside:
        result = run(case.recipe, out=Path(aside), overrides=settings)
    return {item.metric: item.value for item in result.verdicts if item.value is not None}


def measure_all(cases: Sequence[Case], *, jobs: int) -> Iterator[tuple[Case, dict[str, float]]]:
    """Run the cases, those of one kernel in processes that begin with its variables."""
    for kernel, variables in KERNELS.items():
        chosen = [case for case in cases if case.kernel == kernel]
        before = dict(os.environ)
        os.environ.update(variables)
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            yield from zip(chosen, pool.map(measure, chosen), strict=True)
        for name in variables:
            del os.environ[name]
        os.environ.update(before)


def report(recipe: Path, rows: Sequence[tuple[Case, dict[str, float]]]) -> None:
    """Print one JSON line for each targeted figure of a recipe."""
    for metric, target in load_recipe(recipe).targets.items():
        values = {case: figures[metric] for case, figures in rows if metric in figures}
        if not values:
            continue
        sign = 1 if METRICS[metric].higher_is_better else -1
        bound = float(target.lstrip("<>= ").replace("_", ""))
        worst = min(values, key=lambda case: sign * values[case])
        by_kernel: dict[str, list[float]] = defaultdict(list)
        for case, value in values.items():
            by_kernel[case.kernel].append(value)
        tell(
            "kernels",
            recipe=recipe.name,
            metric=metric,
            target=target,
            low=round(min(values.values()), 5),
            high=round(max(values.values()), 5),
            margin=round(sign * (values[worst] - bound), 5),
            spread=round(max(values.values()) - min(values.values()), 5),
            n=len(values),
            worst=f"seed {worst.seed}, {worst.threads} threads, {worst.kernel}",
            by_kernel={
                kernel: [round(min(found), 5), round(max(found), 5)]
                for kernel, found in by_kernel.items()
            },
        )


def cases_of(recipe: Path, arguments: argparse.Namespace) -> list[Case]:
    """Return the trainings of a recipe: all combinations, or in short each kernel once."""
    settings = tuple(arguments.settings)
    if arguments.quick:
        return [Case(recipe, 0, 1, kernel, settings) for kernel in arguments.kernels]
    return [
        Case(recipe, seed, threads, kernel, settings)
        for kernel in arguments.kernels
        for threads in arguments.threads
        for seed in range(arguments.seeds)
    ]


def main() -> None:
    """Measure the recipes that are named, or all that a test runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipes", nargs="*", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, default=list(KERNELS))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument("--quick", action="store_true", help="one seed, one thread")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        recipes = arguments.recipes or _examples(Path(aside))
        for recipe in recipes:
            cases = cases_of(recipe, arguments)
            report(recipe, list(measure_all(cases, jobs=arguments.jobs)))


def _examples(folder: Path) -> list[Path]:
    """Copy the small recipes into a folder, make their data there; return them and the digits."""
    for path in (EXAMPLES / "small").glob("*.*"):
        (folder / path.name).write_bytes(path.read_bytes())
    line = [sys.executable, str(folder / "make_data.py"), str(folder / "data")]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    return [*sorted(folder.glob("*.yaml")), EXAMPLES / "digits.yaml"]


if __name__ == "__main__":
    main()
