"""The frozen context of one run: where it happens, its seed, its decisions.

Environment, clock and random state reach the stages through `Run`, and through nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelwright.errors import DataError, RecipeError, RequestError, ResourceError
from modelwright.files import (
    Json,
    JsonObject,
    find_path,
    json_digest,
    locked,
    read_json,
    resource_errors,
    sweep,
    write_json,
)
from modelwright.ledger import Ledger
from modelwright.version import __version__

if TYPE_CHECKING:
    from modelwright.recipe import Recipe  # `modelwright --help` doesn't wait for pydantic.


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a slow stage is."""

    stage: str
    """`store`, `audit`, `train`, `measure`, …"""
    done: int
    total: int
    values: Mapping[str, float] = field(default_factory=dict)
    """Figures worth showing: `loss`, `accuracy`, `samples_per_s`."""
    note: str = ""
    """A sentence to say once; a progress with a note isn't a step of a bar."""


Observe = Callable[[Progress], None]
_CHECKSUM = "checksum"
STAGES_FOLDER = "stages"
"""The folder within a run's that holds a folder for each stage."""


def silent(progress: Progress) -> None:
    """Observe nothing."""


class Decisions:
    """What was decided by clock or measurement, written to a file before it has an effect.

    A resumed run reads the decision instead of taking it again, and so comes to the same weights.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._taken = _read_record(path) if path and path.exists() else {}
        self._stages: dict[str, Decisions] = {}

    def decide(self, name: str, take: Callable[[], Json]) -> Json:
        """Return the decision of this name, taking and writing it down where it is new."""
        if name not in self._taken:
            self._taken[name] = take()
            if self._path is not None:
                _write_record(self._path, self._taken)
        return self._taken[name]

    def stage(self, name: str, path: Path | None) -> Decisions:
        """Return the decisions of a stage of this run, which are kept in a file of their own."""
        # A second stage of the same name would go on from the first one's checkpoints.
        assert name not in self._stages, f"this run has a stage `{name}` already"
        self._stages[name] = Decisions(path)
        return self._stages[name]

    def taken(self) -> JsonObject:
        """Return a copy of all decisions so far, those of each stage under its name."""
        return {**self._taken, **{name: item.taken() for name, item in self._stages.items()}}


@dataclass(frozen=True, slots=True)
class StageReport:
    """What a stage of a run did, for the run's report. The model file keeps its lineage instead."""

    stage: str
    """Its name."""
    seconds: float
    """Wall-clock seconds, over all its pieces."""
    history: tuple[Mapping[str, float], ...] = ()
    """Of a training, one record an epoch: `epoch`, `train_loss`, `val_…`."""
    chosen: int | None = None
    """Which record's weights are shipped; `None` where it is the last."""


@dataclass(frozen=True, slots=True)
class Run:
    """Where and how a stage runs."""

    folder: Path
    seed: int
    device: str
    """`cpu` or `cuda`."""
    threads: int
    decisions: Decisions
    ledger: Ledger
    observe: Observe = silent
    stage_name: str = ""
    """The stage that this is the context of, in a context that `stage` returned."""
    has_vnni: bool = field(default_factory=lambda: has_vnni())
    """Whether the processor that will serve has VNNI, or its like: by default this one."""

    def stage(self, name: str) -> Run:
        """Return the context of one stage of this run.

        It has a folder and decisions of its own, so that each stage finds the checkpoints, metrics
        and decisions that it wrote itself, whatever the others do. A name can be taken once.
        """
        folder = self.folder / STAGES_FOLDER / name
        if is_main_process():
            with resource_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
        path = folder / "decisions.json" if is_main_process() else None
        decisions = self.decisions.stage(name, path)
        return replace(self, folder=folder, decisions=decisions, stage_name=name)

    def say(self, note: str) -> None:
        """Tell the user one sentence."""
        self.observe(Progress("note", 0, 0, note=note))


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A recipe, and the folder of the files that it names."""

    recipe: Recipe
    base: Path = field(default_factory=Path.cwd)
    """The folder that relative paths start from."""
    stem: str = "run"
    """The run's name by default."""
    frame_base: Path | None = None
    """The folder of the table that a DataFrame was written to, where one is the data."""
    notes: tuple[str, ...] = ()
    """What is to be said of how the data is taken."""

    @property
    def data_base(self) -> Path:
        """The folder that the data's relative path starts from."""
        return self.frame_base or self.base

    def find(self, name: str) -> Path:
        """Return a file that the recipe names: beside the recipe, else under MODELWRIGHT_DATA.

        Raises:
            RecipeError: it is in neither.
        """
        try:
            return find_path(name, self.base)
        except DataError as error:  # Its place is the recipe's line, which the caller knows.
            raise RecipeError(error.what, why=error.why, fix=error.fix) from error


def is_main_process() -> bool:
    """Say whether this process writes files and speaks: the first of those that `torchrun` made."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run: whose recipe it holds, and the result once there is one."""

    path: Path
    result: JsonObject | None

    def finish(self, result: JsonObject) -> None:
        """Write the result: from now on the run is finished."""
        _write_record(self.path / "result.json", result)


@contextlib.contextmanager
def claimed(
    path: Path, *, digest: str, document: JsonObject, base: Path | None = None
) -> Iterator[RunFolder]:
    """Lock a run's folder, which is made where it is missing, while the block runs.

    The document is the recipe with every default written out, the digest that of all in it that
    decides the result, and `base` the folder that the data's relative path starts from.

    Raises:
        RequestError: the folder holds a run of another recipe, or something else than a run.
        ResourceError: another process runs in it, or it can't be written.
    """
    record: JsonObject = {"digest": digest, "recipe": document}
    if base is not None:
        record["base"] = str(base.absolute())
    with _owned(path), _locked_folder(path, record) as kept:
        yield kept


TRUST = "MODELWRIGHT_TRUST"
"""The variable that names the trust policy of this process."""
_OWN: list[Path] = []
"""The folders of the runs that this process carries out."""


@contextlib.contextmanager
def _owned(path: Path) -> Iterator[None]:
    folder = Path(os.path.realpath(path))  # Of a link to itself too.
    _OWN.append(folder)
    try:
        yield
    finally:
        _OWN.remove(folder)


def is_own(path: Path) -> bool:
    """Say whether a file lies in the folder of a run that this process carries out."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        resolved = path.resolve()
        return any(resolved.is_relative_to(folder) for folder in _OWN)
    return False


@contextlib.contextmanager
def _locked_folder(path: Path, new: JsonObject) -> Iterator[RunFolder]:
    if not is_main_process():
        yield _read_folder(path)  # The main process holds the lock for all.
        return
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            "the name of the run's folder isn't UTF-8, which libraries that write there need",
            where=str(path),
            fix="Choose another --name or --out",
        ) from error
    with resource_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        others = sorted(item.name for item in path.iterdir() if not item.name.startswith("."))
    if others and "recipe.json" not in others:  # A run writes it before anything else.
        raise RequestError(
            "this folder holds something else than a run",
            where=str(path),
            why=f"`{others[0]}` is in it",
            fix="Choose another --name or --out",
        )
    busy = "another run with this name is under way; wait for it, or choose another --name"
    with locked(path / ".lock", wait_s=0.0, busy=busy):
        sweep(path)
        record = path / "recipe.json"
        existing = _read_record(record) if record.exists() else None
        # A run that ended before its first decision leaves nothing that another recipe could mix.
        if set(others) <= {"recipe.json", "splits.parquet"}:
            existing = None
        if existing is not None and existing.get("digest") != new["digest"]:
            raise RequestError(
                "this folder holds a run of a different recipe",
                where=str(path),
                why=_difference(existing.get("recipe"), new["recipe"]),
                fix="Choose another --name, or remove the folder",
            )
        if existing is None:
            _write_record(record, new)
        yield _read_folder(path)


def recorded_base(model: Path) -> Path | None:
    """Return where the data's path started from in the run that made a file, if it is known."""
    with contextlib.suppress(ResourceError, OSError, ValueError):
        base = Path(str(_read_record(model.resolve().parent / "recipe.json").get("base", "")))
        return base if base.is_absolute() and base.is_dir() else None
    return None


def _read_folder(path: Path) -> RunFolder:
    result, model = path / "result.json", path / "model.mw"
    whole = result.exists() and model.exists()
    return RunFolder(path, _read_record(result) if whole else None)


def _write_record(path: Path, record: JsonObject) -> None:
    """Write a JSON object with its checksum: a changed decision would train another model."""
    write_json(path, {**record, _CHECKSUM: _checksum(record)})


def _checksum(record: JsonObject) -> str:
    return json_digest(json.loads(json.dumps(record)))  # As it is read: keys are text.


def _read_record(path: Path) -> JsonObject:
    """Return a JSON object that a run wrote.

    Raises:
        ResourceError: it isn't what was written.
    """
    try:
        record = read_json(path)
    except ValueError:
        record = None
    if not isinstance(record, dict) or record.pop(_CHECKSUM, None) != _checksum(record):
        raise ResourceError(
            "this file of the run is damaged",
            where=str(path),
            fix="Remove the run's folder to start anew, or choose another --name",
        )
    return record


def _difference(before: Json, after: Json, key: str = "") -> str:
    """Name the first setting in which two recipes differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            if before.get(name) != after.get(name) and name != "resources":
                return _difference(before.get(name), after.get(name), f"{key}.{name}".lstrip("."))
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        at, (old, new) = next((at, pair) for at, pair in pairs if pair[0] != pair[1])
        return _difference(old, new, f"{key}.{at}")
    return f"`{key}` was {json.dumps(before)} and is {json.dumps(after)} now"


LAUNCHED = "MODELWRIGHT_LAUNCHED"
"""Marks a process that the command line started anew with the allocator's settings."""
TUNABLES = "GLIBC_TUNABLES"
_DISTRIBUTED = ("RANK", "LOCAL_RANK", "TORCHELASTIC_RUN_ID")


def untuned(environment: Mapping[str, str] = os.environ) -> str:
    """Return a sentence for the user where the memory allocator isn't tuned; else an empty text."""
    if TUNABLES in environment:
        return ""
    why = why_untunable(environment, libc=c_library())
    why = why or f"start it by the command `modelwright`, or set {TUNABLES} (docs/cli.md)"
    return f"The memory allocator isn't tuned, so large batches may train slower: {why}"


def why_untunable(environment: Mapping[str, str], *, libc: str) -> str:
    """Return why a process can't tune its allocator by starting anew; empty where it can."""
    if not libc.startswith("glibc"):
        return "that takes Linux with glibc"
    if any(name in environment for name in _DISTRIBUTED):
        return f"under torchrun, set {TUNABLES} for all processes yourself (docs/cli.md)"
    if LAUNCHED in environment:
        return f"{TUNABLES} was lost on the way"
    return ""


def c_library() -> str:
    """Return the C library's name and version, such as `glibc 2.36`; empty where unknown."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):  # Not on Windows, macOS, musl.
        return ""


def model_name(path: Path) -> str:
    """Return what a model is called: its run's name, or that of the file.

    >>> model_name(Path("runs/digits/model.mw")), model_name(Path("cats.mw"))
    ('digits', 'cats')
    """
    path = path.absolute()
    named = path.name.removesuffix(".age").removesuffix(".mw")
    named = path.parent.name if named == "model" and path.parent.name else named
    return re.sub("[/:?#]", "-", named)


def usable_cores() -> int:
    """Return how many processor cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Not on macOS and Windows.
        return os.cpu_count() or 1


def has_vnni() -> bool:
    """Say whether this processor adds products of 8-bit integers without overflow.

    Those with VNNI do, and ARM's with dot products; where the system doesn't say, it is taken to,
    but for processors of x86, of which many don't.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine().lower() not in ("x86_64", "amd64", "i386", "x86")
    known = ("avx512_vnni", "avx_vnni", "asimddp", "amx_int8")
    return any(flag in text for flag in known) or "avx2" not in text


def memory_bytes() -> int:
    """Return the size of this machine's memory; 0 where the system doesn't say."""
    try:
        return max(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), 0)
    except (AttributeError, ValueError, OSError):  # Not on Windows.
        return 0


def resident_bytes(process: int | None = None) -> int | None:
    """Return the memory that a process holds now, by default this one's.

    It is `None` where the system doesn't say, or there is no such process.
    """
    try:
        pages = int(Path(f"/proc/{process or 'self'}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError, IndexError):  # Only Linux has this file.
        return None


_LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow")


def environment(**more: str) -> dict[str, str]:
    """Return what results may depend on: versions and kind of machine, never its name or paths."""
    import platform  # A prediction doesn't wait for these two.
    from importlib import metadata

    versions = {
        "modelwright": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **more,
    }
    for library in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[library] = metadata.version(library)
    return versions
