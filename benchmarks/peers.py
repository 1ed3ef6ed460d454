"""Other libraries' training loops, for `loop.py`: as fast as their settings make them."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Loader = Iterator[tuple[Tensor, Tensor]]


def lightning_blocks(
    network: nn.Module, source: Loader, *, precision: str
) -> Callable[[int], float]:
    """Return a function that trains some steps with Lightning, and returns the time of a step.

    Nothing is logged, shown, saved or validated. A block is a `fit` of its own with the same
    optimizer; what `fit` does before its first step and after its last isn't counted.
    """
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    decay = [p for p in network.parameters() if p.ndim >= 2]
    rest = [p for p in network.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10_000)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            images, targets = batch
            return F.cross_entropy(self.network(images).float(), targets)

        def configure_optimizers(self) -> Any:
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    class Clock(lightning.Callback):  # type: ignore[misc]
        seconds = begun = 0.0

        def on_train_epoch_start(self, *_: Any) -> None:
            self.begun = time.perf_counter()

        def on_train_batch_end(self, *_: Any) -> None:
            self.seconds = time.perf_counter() - self.begun

    class Batches(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
        def __iter__(self) -> Loader:
            return source

    module, clock = Module(), Clock()
    loader = torch.utils.data.DataLoader(Batches(), batch_size=None)

    def block(steps: int) -> float:
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=steps,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            logger=False,
            callbacks=[clock],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, loader)
        return clock.seconds / steps

    return block


def keras_blocks(network: nn.Module, source: Loader, *, precision: str) -> Callable[[int], float]:
    """Return a function that trains some steps with Keras on PyTorch, by `train_on_batch`.

    The environment must say KERAS_BACKEND=torch before it starts.
    """
    import keras

    class Network(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = keras.layers.TorchModuleWrapper(network)

        def call(self, images: Tensor, training: bool = False) -> Tensor:
            outputs: Tensor = self.network(images, training=training)
            return outputs.float()

    schedule = keras.optimizers.schedules.CosineDecay(0.05, 10_000)
    model = Network()
    model.compile(
        optimizer=keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=5e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )

    def block(steps: int) -> float:
        begun = time.perf_counter()
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                model.train_on_batch(*next(source))
        return (time.perf_counter() - begun) / steps

    return block


PEERS = {"lightning": lightning_blocks, "keras": keras_blocks}
