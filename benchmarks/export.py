"""The exported graph against the training network, on 1,000 test images of CIFAR-10.

Each family is trained for a few steps first, so that its norms hold statistics of real images.

    python benchmarks/export.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from measuring import real_data, tell
from modelwright import modelfile, models
from modelwright.data import labelled_split
from modelwright.metrics import softmax
from modelwright.models.candidate import Candidate
from modelwright.recipe.networks import CnnModel, MlpModel, ResnetModel, SpeednetModel
from modelwright.run import silent
from modelwright.transforms import ImageInput

FAMILIES: dict[str, MlpModel | CnnModel | ResnetModel | SpeednetModel] = {
    "mlp": MlpModel(name="mlp"),
    "cnn": CnnModel(name="cnn"),
    "resnet18": ResnetModel(name="resnet", depth=18),
    "speednet": SpeednetModel(name="speednet"),
}
LABELS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
TIE = 1e-6
"""Classes whose probabilities are nearer than this count as tied."""


def trained(family: str, pixels: NDArray[np.uint8], targets: NDArray[np.int64]) -> Candidate:
    """Return a network that has seen a few batches."""
    torch.manual_seed(0)
    spec, shape = FAMILIES[family], ImageInput(height=32, width=32, channels=3)
    network = models.build(
        spec, channels=3, height=32, width=32, num_outputs=10, mean=MEAN, std=STD
    )
    if isinstance(spec, SpeednetModel):
        models.whiten(network, pixels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    network.train()
    for start in range(0, len(pixels), 100):
        part = slice(start, start + 100)
        outputs = network(torch.from_numpy(pixels[part]))
        loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(targets[part]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return Candidate(
        network=network.eval(),
        task="image-classification",
        input=shape,
        labels=LABELS,
        architecture=models.architecture(spec, input=shape, num_outputs=10),
    )


def main() -> None:
    """Print one JSON line a family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 images")
    count = 100 if parser.parse_args().quick else 1000
    os.environ.setdefault("MODELWRIGHT_DATA", str(real_data()))
    shape = ImageInput(height=32, width=32, channels=3)
    samples, _, _, _ = labelled_split(Path("cifar10"), input=shape, labels=LABELS, observe=silent)
    pixels, targets = samples.gather(slice(0, count)), samples.targets[:count]
    for family in FAMILIES:
        candidate = trained(family, samples.gather(slice(5000, 6000)), samples.targets[5000:6000])
        with tempfile.TemporaryDirectory() as aside:
            path = Path(aside) / "model.mw"
            modelfile.write_model(path, candidate)
            answered = softmax(modelfile.load(path).outputs(pixels))
        with torch.inference_mode():
            outputs = candidate.network(torch.from_numpy(pixels)).numpy()
        expected = softmax(outputs)
        differing = answered.argmax(1) != expected.argmax(1)
        top = np.sort(expected, axis=1)[:, ::-1]
        expected_right = (expected.argmax(1) == targets).mean()
        answered_right = (answered.argmax(1) == targets).mean()
        tied = top[:, 0] - top[:, 1] < TIE
        tell(
            "export",
            family=family,
            images=count,
            largest_difference=float(np.abs(answered - expected).max()),
            reference={"network_accuracy": float(expected_right)},
            ratio=float(answered_right / expected_right),
            other_classes=int((differing & ~tied).sum()),
            target="largest_difference <= 1e-4, other_classes 0",
        )


if __name__ == "__main__":
    main()
