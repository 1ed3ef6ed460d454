"""A run of two trainings, as a process that kills itself midway in one of them.

python -m tests.whole.two_trainings RECIPE OUT [STAGE STEP]
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from modelwright.pipeline import running, stages

STAGES = (("first", stages.train), ("second", stages.train))


class Kill:
    """Ends the process by SIGKILL at a step of a stage, once that has left a checkpoint."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder, self.step = folder, step

    def __call__(self, progress) -> None:
        saved = self.folder.glob("checkpoints/step-*")
        if progress.stage == "train" and progress.done >= self.step and any(saved):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    recipe, out, *end = sys.argv[1:]
    running.STAGES = STAGES
    observe = running.silent
    if end:
        observe = Kill(Path(out) / "two/stages" / end[0], int(end[1]))
    running.run(Path(recipe), out=Path(out), name="two", observe=observe)
