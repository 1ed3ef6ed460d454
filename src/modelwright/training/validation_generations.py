"""What a network that writes texts can do so far: a few are written and judged each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modelwright.data import Split
from modelwright.models.seq2seq import Seq2Seq, Seq2SeqStepper
from modelwright.tasks import Task
from modelwright.tasks.generation import SamplingConfig, collect, generate
from modelwright.transforms.text import BEGIN, TextInput

MOST = 200
"""So many texts show where training stands; the file is measured on all, and with beam search."""


@dataclass(frozen=True, slots=True)
class ValidationGenerations:
    """Some samples of the validation split, from which texts are written."""

    task: Task
    input: TextInput
    source: Mapping[str, NDArray[Any]]
    wanted: list[str]
    max_length: int
    """Where a text is cut that doesn't end by itself."""

    @staticmethod
    def of(validation: Split | None, task: Task, input: object) -> ValidationGenerations | None:
        """Return what drafts are written from, or nothing for a task that writes no texts."""
        if task.text_metrics is None or validation is None or not len(validation):
            return None
        assert isinstance(input, TextInput)
        assert validation.pairs is not None
        rows = np.unique(np.linspace(0, len(validation) - 1, MOST).astype(np.int64))
        samples, texts = validation.gather(rows), validation.pairs()[1]
        most = int((validation.targets[rows]["next"] != 0).sum(axis=1).max())
        return ValidationGenerations(
            task,
            input,
            {name: samples[name] for name in ("source", "source_length")},
            [texts[row] for row in rows.tolist()],
            min(input.max_length, 2 * most),
        )

    def scores(self, network: Seq2Seq) -> dict[str, float]:
        """Return what the task says of the texts that the network writes, greedily."""
        assert self.task.text_metrics is not None
        was_training = network.training
        network.eval()
        try:
            with torch.inference_mode():
                pieces = generate(
                    Seq2SeqStepper(network),
                    self.source,
                    np.full((len(self.wanted), 1), BEGIN, np.int64),
                    config=SamplingConfig(max_new_tokens=self.max_length, temperature=0),
                )
                written = collect(pieces, len(self.wanted))
        finally:
            network.train(was_training)
        texts = [self.input.tokenizer.decode(item.ids) for item in written]
        metrics = self.task.text_metrics
        return dict(metrics.compute(metrics.sample_stats(texts, self.wanted)))
