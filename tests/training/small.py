"""A small training that takes a second, for the tests of resuming, killing and sharing out."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from modelwright.data import Dataset, Split
from modelwright.kinds import OutputKind
from modelwright.ledger import Ledger
from modelwright.models.candidate import Candidate
from modelwright.recipe.preparation import AugmentSpec
from modelwright.recipe.train import TrainSpec
from modelwright.run import Decisions, Run, silent
from modelwright.tasks import TASKS
from modelwright.training import fit
from modelwright.transforms import ImageInput

LABELS = ("a", "b", "c")
INPUT = ImageInput(
    height=6, width=6, channels=1, resize="stretch", interpolation="bilinear", background=0
)


class Pixels(nn.Module):
    def forward(self, pixels):
        return pixels.to(torch.get_default_dtype()) / 255


def dataset(size=300):
    """Images whose brightest third says the class, with noise enough to stay wrong at times."""
    random = np.random.default_rng(0)
    targets = np.arange(size, dtype=np.int64) % 3
    pixels = random.integers(0, 160, (size, 6, 6, 1))
    for k in range(3):
        pixels[targets == k, 2 * k : 2 * k + 2] += 40
    pixels = pixels.astype(np.uint8)
    rows = np.arange(size)
    cut = size * 4 // 5
    return Dataset(
        train=Split("train", pixels, rows[:cut], targets[:cut]),
        validation=Split("validation", pixels, rows[cut:], targets[cut:]),
        labels=LABELS,
    )


def candidate(*, batch_norm=True, dropout=0.2):
    torch.manual_seed(3)
    layers = [Pixels(), nn.Flatten(), nn.Linear(36, 24)]
    if batch_norm:
        layers.append(nn.BatchNorm1d(24))
    layers += [nn.ReLU(), nn.Dropout(dropout), nn.Linear(24, 3)]
    return Candidate(
        network=nn.Sequential(*layers),
        task="image-classification",
        input=INPUT,
        labels=LABELS,
        architecture={},
    )


def run_in(folder, *, seed=1, observe=silent):
    folder.mkdir(parents=True, exist_ok=True)
    return Run(
        folder=folder,
        seed=seed,
        device="cpu",
        threads=1,
        decisions=Decisions(folder / "decisions.json"),
        ledger=Ledger(),
        observe=observe,
    )


def spec(**changes):
    known = {
        "epochs": 12,
        "batch_size": 32,
        "optimizer": {"name": "sgd", "lr": 0.2},
        "average": {"name": "ema", "decay": 0.9},
        "precision": "fp32",
        "compile": "off",
    }
    return TrainSpec.model_validate({**known, **changes})


AUGMENT = AugmentSpec.model_validate({"translate": 1, "flip": "random"})


def trained(
    folder, *, observe=silent, start=None, data=None, change=None, augment=AUGMENT, **changes
):
    """Train in a folder, from the start or from its checkpoint."""
    torch.set_num_threads(1)  # Another number adds up in another order; other tests may set one.
    return fit(
        start or candidate(),
        spec(**changes),
        data or dataset(),
        run_in(folder, observe=observe),
        task=TASKS["image-classification", OutputKind.SINGLE_LABEL],
        augment=augment,
        change=change,
    )


class StopAt:
    """Asks for a stop as Ctrl-C does, at a step or an epoch."""

    def __init__(self, step):
        self.step = step

    def __call__(self, progress):
        if progress.stage == "train" and progress.done >= self.step:
            self.step = 10**9
            signal.raise_signal(signal.SIGINT)


def equal(one, other):
    """Whether two networks hold the same bits."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    found, _ = trained(where, epochs=int(sys.argv[2]), checkpoint_every="0.05s")
    torch.save(found.network.state_dict(), where / "final.pt")
