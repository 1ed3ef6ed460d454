"""Progress: a live line on a terminal and in a notebook, a few plain lines elsewhere.

A reader of progress that goes away (`2>&1 | head`) must not end a training, so a broken pipe here
only makes it silent.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import TextIO

from modelwright.run import Observe, Progress, silent

EVERY_S = 10.0
"""How often a stage speaks where there is no terminal."""
SETTLE_S = 1.0
"""The shortest time between two plain lines of one stage."""

STAGES = {
    "download": "Downloading",
    "store": "Building the store",
    "decode": "Decoding",
    "audit": "Looking through the data",
    "features": "Computing features",
    "train": "Training",
    "measure": "Measuring",
    "predict": "Answering",
    "baselines": "Simple models beside it",
    "latency": "Timing",
    "calibrate": "Observing activations",
    "quantize": "Quantizing",
    "sensitivity": "Finding the layers that hurt most",
    "compare": "Timing beside the model before",
}
"""What a stage is called for people; another one is shown by its name."""


@contextlib.contextmanager
def watching(*, quiet: bool = False, stream: TextIO | None = None) -> Iterator[Observe]:
    """Yield the function that shows progress during the block.

    By default it shows on standard error, and in a notebook below the cell.
    """
    is_notebook = stream is None and not quiet and in_notebook()
    stream = stream or (sys.stdout if is_notebook else sys.stderr)
    # In a notebook, rich draws its live line by means of ipywidgets.
    is_live = find_spec("ipywidgets") is not None if is_notebook else stream.isatty()
    if quiet:
        yield silent
    elif is_live:
        with _live(None if is_notebook else stream) as observe:
            yield observe
    else:
        yield PlainLines(stream).observe


@contextlib.contextmanager
def shown(observe: Observe | None) -> Iterator[Observe]:
    """Yield `observe`; where there is none, what shows progress in a notebook, and nowhere else."""
    if observe is not None:
        yield observe
    else:
        with watching(quiet=not in_notebook()) as chosen:
            yield chosen


def in_notebook() -> bool:
    """Say whether this runs in a notebook of Jupyter's or Colab's."""
    if not hasattr(builtins, "get_ipython"):  # As rich asks; so rich needn't be imported.
        return False
    from rich.console import Console

    return Console().is_jupyter


def figures(values: Mapping[str, float]) -> str:
    """Return the figures worth showing of a progress, in words.

    >>> figures({"loss": 0.51234, "val_accuracy": 0.975, "samples_per_s": 1234.5, "left_s": 12.2})
    'loss 0.512 · accuracy 0.975 (validation) · 1,234/s · 12 s left'
    """
    parts = []
    loss = values.get("loss", values.get("train_loss"))
    if loss is not None:
        parts.append(f"loss {loss:.3g}")
    score = next((name for name in values if name.startswith("val_")), None)
    if score is not None:
        parts.append(f"{score[4:].replace('_', ' ')} {values[score]:.4g} (validation)")
    if "samples_per_s" in values:
        parts.append(f"{values['samples_per_s']:,.0f}/s")
    if "left_s" in values:
        parts.append(f"{duration(values['left_s'])} left")
    return " · ".join(parts)


class PlainLines:
    """Progress as lines: each note, the start of a stage, and then now and again."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream: TextIO | None = stream
        self._clock = clock
        self._stage = ""
        self._spoke_at = 0.0
        self._values: dict[str, float] = {}

    def observe(self, progress: Progress) -> None:
        """Take progress."""
        if progress.note:
            self._write(progress.note)
            return
        now = self._clock()
        is_new = progress.stage != self._stage
        if is_new:
            self._stage, self._values = progress.stage, {}
        self._values |= progress.values
        is_epoch = any(name.startswith("val_") for name in progress.values)
        silence = now - self._spoke_at
        is_due = silence >= EVERY_S or (is_epoch and silence >= SETTLE_S)
        is_last = progress.done == progress.total and is_epoch
        if is_new or is_due or is_last:
            self._spoke_at = now
            words = STAGES.get(progress.stage, progress.stage)
            count = f"{progress.done:,}/{progress.total:,}" if progress.total > 1 else ""
            self._write(" ".join(filter(None, (words, count, figures(self._values)))))

    def _write(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(printable(line) + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):  # ValueError: the stream is closed.
            self._stream = None


@contextlib.contextmanager
def _live(stream: TextIO | None) -> Iterator[Observe]:
    """Show one bar for the current stage; notes, and the last figures of a stage, stay above it."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    console = Console(file=stream, highlight=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %", markup=False),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    stage = ""
    values: dict[str, float] = {}

    def observe(progress: Progress) -> None:
        nonlocal stage
        if progress.note:
            console.print(printable(progress.note), markup=False)
            return
        if progress.stage != stage:
            values.pop("left_s", None)
            if figures(values):
                console.print(f"{STAGES.get(stage, stage)}: {figures(values)}", markup=False)
            values.clear()
            stage = progress.stage
            for task in bars.task_ids:
                bars.remove_task(task)
            bars.add_task(printable(STAGES.get(stage, stage)), total=None, figures="")
        values.update(progress.values)
        bars.update(
            bars.task_ids[0],
            completed=progress.done,
            total=progress.total or None,
            figures=figures(values),
        )

    with Bars(*columns, console=console, transient=True) as bars:
        yield observe


def duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> duration(75), duration(7300)
    ('1 min 15 s', '2 h 1 min')
    """
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def printable(text: str) -> str:
    """Return text that can't steer a terminal: labels and file names may hold anything."""
    return "".join(char if char.isprintable() else "·" for char in text)
