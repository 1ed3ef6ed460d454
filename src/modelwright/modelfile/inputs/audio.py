"""Recordings: paths or bytes of WAV, FLAC, OGG or MP3 files, or arrays at the model's own rate."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Array
from modelwright.errors import DataError, located
from modelwright.modelfile.inputs.reader import Reader, Sample, each, kind_of, named, padded
from modelwright.modelfile.spec import TensorSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.run import Observe, Progress, silent
from modelwright.transforms import speed_views
from modelwright.transforms.audio import AudioInput, read_audio

MAX_AUDIO_BYTES = 1 << 30
"""A longer file of a recording isn't read."""
_MOST_CHANNELS = 8


class AudioReader(Reader):
    """Recordings, mixed to one channel and resampled; the end of longer ones is cut off."""

    spec: AudioInput
    tensors: tuple[TensorSpec, ...] = (
        TensorSpec("samples", "int16", ("N", "T")),
        TensorSpec("length", "int64", ("N",)),
    )
    view_choices = ("none", "speeds")

    def read_each(
        self, items: Sequence[Any], *, first: int = 0, observe: Observe = silent
    ) -> list[Sample | DataError]:
        """Decode each recording."""
        return each(functools.partial(self._read, observe=observe), items, first)

    def _read(self, item: Any, number: int, *, observe: Observe) -> Sample:
        where = item if isinstance(item, str) else named(item, number)
        with located(where):
            if isinstance(item, io.BufferedIOBase):
                item = item.read(MAX_AUDIO_BYTES + 1)
            elif isinstance(item, str):
                item = Path(item)
            elif isinstance(item, bytearray | memoryview):
                item = bytes(item)
            if not isinstance(item, bytes | Path | np.ndarray):
                raise DataError(f"{kind_of(item)} isn't a recording")
            rate = self.spec.sampling_rate if isinstance(item, np.ndarray) else None
            samples = read_audio(item, self.spec, rate=rate)
        if len(samples) > self.spec.max_length:
            seconds, limit = len(samples) / self.spec.sampling_rate, self.spec.max_seconds
            note = f"the recording lasts {seconds:.1f} s, and the model hears {limit:g} s: the "
            note += f"last {seconds - limit:.1f} s are cut off"
            observe(Progress("note", 0, 0, note=f"{where}: {note}"))
        return Sample({"samples": samples[: self.spec.max_length]})

    def from_tensor(self, array: Array) -> Array:
        """Return a tensor `[T]` or `[C, T]`, as torchaudio has it, with time first.

        Raises:
            DataError: it is of several recordings.
        """
        if array.ndim == 2 and len(array) > _MOST_CHANNELS:
            raise DataError(
                f"a recording is a tensor [T] or [C, T], not {list(array.shape)}",
                fix="Give several recordings as a list",
            )
        return array.T if array.ndim == 2 else array

    def describe(self) -> str:
        """Return in words what the network takes."""
        return f"recordings at {self.spec.sampling_rate:,} samples a second"

    def collate(self, samples: Sequence[Sample]) -> Arrays:
        """Put waveforms together, padded with 0, with their lengths."""
        return padded("samples", [sample.arrays["samples"] for sample in samples], "int16")

    def views(self, batch: Arrays, views: str) -> tuple[list[Arrays], NDArray[np.float32]]:
        """Play faster and slower."""
        if views != "speeds" or not batch["samples"].size:
            return super().views(batch, "none" if views == "speeds" else views)
        variants = speed_views(batch["samples"], batch["length"])
        batches: list[Arrays] = [{"samples": row, "length": length} for row, length in variants]
        return batches, np.full(len(batches), 1 / len(batches), np.float32)

    def synthetic(self, count: int) -> Arrays:
        """Return tones of different heights and lengths, by integer arithmetic."""
        rate = self.spec.sampling_rate
        rows = []
        for row in range(count):
            time = np.arange(rate // 4 + row * rate // 10, dtype=np.int64)
            wave = time * (200 + 150 * row) * 65536 // rate % 65536
            rows.append(np.where(wave < 32768, wave, 65535 - wave) - 16384)
        return padded("samples", rows, "int16")
