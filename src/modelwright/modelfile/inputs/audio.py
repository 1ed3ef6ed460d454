"""Recordings: paths or bytes of WAV, FLAC or OGG files, or arrays at the model's own rate."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.errors import DataError, ModelwrightError
from modelwright.modelfile.inputs.reader import (
    Assets,
    Declared,
    Items,
    Sample,
    each,
    named,
    no_views,
    one_or_several,
    padded,
)
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import Observe, Progress, silent
from modelwright.transforms import speed_views
from modelwright.transforms.audio import AudioInput, read_audio

MAX_AUDIO_BYTES = 1 << 30
"""A longer file of a recording isn't read."""


@dataclass(frozen=True, slots=True)
class AudioReader:
    """Recordings, mixed to one channel and resampled, the end of longer ones cut off."""

    spec: AudioInput
    tensors: tuple[TensorSpec, ...] = (
        TensorSpec("samples", "int16", ("N", "T")),
        TensorSpec("length", "int64", ("N",)),
    )
    view_choices: tuple[str, ...] = ("none", "speeds")

    @staticmethod
    def open(declared: Declared, assets: Assets) -> AudioReader:
        """Return the reader of a declaration.

        Raises:
            ModelFileError: it isn't one of recordings.
        """
        return AudioReader(AudioInput.from_json(dict(declared)))

    def split_inputs(self, inputs: Any) -> Items:
        """Tell one recording from several."""
        return one_or_several(inputs)

    def read_each(
        self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent
    ) -> list[Sample | DataError]:
        """Decode each recording."""
        return each(functools.partial(self._read, observe=observe), items, first)

    def _read(self, item: Any, number: int, *, observe: Observe) -> Sample:
        where = item if isinstance(item, str) else named(item, number)
        try:
            if isinstance(item, io.BufferedIOBase):
                item = item.read(MAX_AUDIO_BYTES + 1)
            if isinstance(item, str):
                item = Path(item)
            if isinstance(item, bytearray | memoryview):
                item = bytes(item)
            if not isinstance(item, bytes | Path | np.ndarray):
                raise DataError(f"a {type(item).__name__} isn't a recording")
            rate = self.spec.sampling_rate if isinstance(item, np.ndarray) else None
            samples = read_audio(item, self.spec, rate=rate)
        except ModelwrightError as error:
            error.at(where)
            raise
        if len(samples) > self.spec.max_length:
            lasts, most = len(samples) / self.spec.sampling_rate, self.spec.max_seconds
            note = f"the recording lasts {lasts:.1f} s, and the model hears {most:g} s: the last "
            note += f"{lasts - most:.1f} s are cut off"
            observe(Progress("note", 0, 0, note=f"{where}: {note}"))
        return Sample({"samples": samples[: self.spec.max_length]})

    def collate(self, samples: Sequence[Sample]) -> Arrays:
        """Put waveforms together, padded with 0, with their lengths."""
        return padded("samples", [sample.arrays["samples"] for sample in samples], "int16")

    def views(self, batch: Arrays, views: str) -> tuple[list[Arrays], NDArray[np.float32]]:
        """Play faster and slower."""
        if views != "speeds":
            return no_views(batch, views, kind="audio")
        if not batch["samples"].size:
            return [batch], np.ones(1, np.float32)
        made = speed_views(batch["samples"], batch["length"])
        found: list[Arrays] = [{"samples": samples, "length": length} for samples, length in made]
        return found, np.full(len(found), 1 / len(found), np.float32)

    def synthetic(self, count: int) -> Arrays:
        """Return tones of different heights and lengths, by integer arithmetic."""
        rate = self.spec.sampling_rate
        rows = []
        for row in range(count):
            time = np.arange(rate // 4 + row * rate // 10, dtype=np.int64)
            wave = time * (200 + 150 * row) * 65536 // rate % 65536
            rows.append(np.where(wave < 32768, wave, 65535 - wave) - 16384)
        return padded("samples", rows, "int16")
