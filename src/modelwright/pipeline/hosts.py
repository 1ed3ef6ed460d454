"""Times on the machine that will serve, told by its profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelwright import modelfile
from modelwright.errors import RecipeError, RequestError
from modelwright.ledger import Evidence
from modelwright.pipeline.assessing import SPEEDUPS
from modelwright.planning.host import (
    HostProfile,
    measure_profile,
    predicted,
    profile_from,
    read_profile,
)
from modelwright.progress import shown
from modelwright.run import Observe, Run, RunRequest, usable_cores

MOST_THREADS = 256
"""With more threads than cores, times say nothing; few machines have more cores."""


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that will serve, and this one, by their profiles."""

    profile: HostProfile
    here: HostProfile

    def times(self, measured: Sequence[Evidence], path: Path) -> list[Evidence]:
        """Return what times that a model file was measured with here would be there."""
        seconds = modelfile.kind_seconds(path, threads=self.here.threads)
        return predicted(measured, seconds, self.profile, self.here)


def host_of(request: RunRequest, context: Run) -> Host | None:
    """Return the machine that a recipe names to serve; `None` where it names none, or this one.

    What was read and measured is kept with the decisions of the run, so that a resumed one goes by
    the same.

    Raises:
        DataError: the profile can't be read.
        RecipeError: it isn't there.
    """
    name = request.recipe.evaluate.profile
    if name is None:
        return None
    ratios = sorted(request.recipe.targets.keys() & SPEEDUPS.values())
    if ratios:
        raise RecipeError(
            f"`{ratios[0]}` is measured on this machine, and `evaluate.profile` names another one",
            where=request.recipe.place_of(f"targets.{ratios[0]}"),
            fix="Give a limit of `latency_p50_ms` or `throughput_per_s`, which the profile tells",
        )
    if not request.recipe.evaluate.latency:
        raise RecipeError(
            "`evaluate.profile` has no effect without times",
            where=request.recipe.place_of("evaluate.profile"),
            fix="Leave it out, or write `latency: true`",
        )

    def read() -> object:
        host = read_profile(request.find(name))
        here = measure_profile(context.threads, observe=context.observe)
        return {"host": host.to_json(), "here": here.to_json()}

    kept = context.decisions.decide("profile", read)
    host, here = profile_from(kept["host"]), profile_from(kept["here"])
    if host.place == here.place:
        context.say(
            f"The profile is of a machine like this one ({host.hardware}, {host.runtime}), so the "
            "times are those that are measured here"
        )
        return None
    context.say(
        f"Times count as on {host.hardware} ({host.runtime}), as its profile tells them; they are "
        "proven only where they are measured"
    )
    return Host(host, here)


def on_host(context: Run, host: Host | None) -> Run:
    """Return the context of a run whose model another machine will serve, if there is one."""
    return context if host is None else replace(context, has_vnni=host.profile.has_vnni)


def profile(
    save: Path | str, *, threads: int | None = None, observe: Observe | None = None
) -> HostProfile:
    """Measure this machine, and write its profile, by which `run` and `compress` choose for it.

    Args:
        save: the file, JSON.
        threads: processor threads that a model will have; by default all cores.
        observe: called with progress; by default it is shown in a notebook, and else nowhere.

    Raises:
        RequestError: there are fewer threads than 1, or far more than any machine has.
        DataError: the file is there already, and isn't a profile.
        ResourceError: the file can't be written.
    """
    if Path(save).exists():
        read_profile(Path(save))  # Nothing else is overwritten.
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise RequestError(
            f"a model can have 1 to {MOST_THREADS:,} threads, not {threads:,}",
            where="--threads",
            fix=f"Leave it out: this machine has {usable_cores()} cores",
        )
    with shown(observe) as watch:
        measured = measure_profile(threads or usable_cores(), observe=watch)
    measured.write(Path(save))
    return measured
