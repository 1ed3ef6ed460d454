"""The one audio decoder, and the declaration of how a recording becomes mono samples at one rate.

WAV, FLAC, OGG, MP3 files and arrays of PCM become int16 samples `[T]`: channels mixed by the mean,
resampled by soxr, rounded and clipped. The same function works in training and in serving. What is
cut short is refused: libsndfile would read less than a header promises, and say nothing. Of an MP3
without a Xing header that can't be seen, as nothing in it says how long it is.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from modelwright.arrays import Array, Doubles
from modelwright.errors import DataError, ModelFileError, RequestError, located, require
from modelwright.files import JsonObject, json_digest
from modelwright.kinds import InputKind
from modelwright.transforms.image import MOST_BYTES, read_file

LOWEST_RATE, HIGHEST_RATE = 1_000, 384_000
"""Sampling rates outside are a broken header, or no recording."""
MAX_SECONDS = 3600.0
"""Longer recordings are refused before they are decoded."""
_QUALITY = "HQ"
"""soxr's recipe of filters: other ones give other samples, so it is fixed."""
_BLOCK_VALUES = 1 << 20
_FULL_SCALE = 32768.0
_LOUDEST = 16.0
"""Floats a little over full scale are clipped; those over this mean another scale."""
_UNKNOWN_BYTES = 0xFFFFFFFF
_MPEG_FRAME = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xfd]")
"""How an MP3 without tags begins: eleven bits that are set, and MPEG's layer III or II."""
_FIX = "Replace the file, or take it out of the data"

Samples = NDArray[np.int16]
AudioSource = bytes | Path | Array
_Blocks = Iterator[Doubles]


@dataclass(frozen=True, slots=True)
class AudioInput:
    """How a recording becomes mono int16 samples `[T]`: the host steps, resolved."""

    input_kind: ClassVar[InputKind] = InputKind.AUDIO

    sampling_rate: int
    """Samples a second, 1,000 to 384,000."""
    max_seconds: float
    """The most of a recording that is used, up to an hour; the end of longer ones is cut off."""

    @property
    def max_length(self) -> int:
        """The most samples that are used."""
        return int(self.max_seconds * self.sampling_rate)

    def to_json(self) -> JsonObject:
        """Return the declaration as the model file holds it."""
        return {
            "kind": "audio",
            "sampling_rate": self.sampling_rate,
            "max_seconds": float(self.max_seconds),
        }

    @staticmethod
    def from_json(value: JsonObject) -> AudioInput:
        """Read what `to_json` returned; anything else is a `ModelFileError`."""
        rate: Any = value.get("sampling_rate")
        seconds: Any = value.get("max_seconds")
        if (
            value == {"kind": "audio", "sampling_rate": rate, "max_seconds": seconds}
            and type(rate) is int
            and type(seconds) in (int, float)
            and LOWEST_RATE <= rate <= HIGHEST_RATE
            and 0 < seconds <= MAX_SECONDS
        ):
            return AudioInput(rate, float(seconds))
        raise ModelFileError(
            "the recording input that the file declares isn't known to this version",
            fix="Update modelwright",
        )

    def digest(self) -> str:
        """Return the digest by which derived views are kept."""
        return json_digest(self.to_json())


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What a recording is, before it is mixed and resampled."""

    sampling_rate: int
    channels: int
    frames: int
    """Samples a channel."""

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.frames / self.sampling_rate


def read_audio(source: AudioSource, spec: AudioInput, *, rate: int | None = None) -> Samples:
    """Return a whole recording as mono int16 samples `[T]` at the declared rate, `T` at least 1.

    Args:
        source: the bytes of a WAV, FLAC, OGG or MP3 file, its path, or PCM as an array `[T]` or
            `[T, C]`, int16 or floats in −1…1.
        spec: the rate; `spec.max_length` says how much of it is taken.
        rate: the sampling rate of an array; a file says its own.

    Raises:
        DataError: it isn't a recording, or it is broken, cut short, or longer than an hour.
        RequestError: an array comes without its rate.
        MissingExtraError: soundfile or soxr isn't installed.
    """
    with _opened(source, rate) as (facts, blocks):
        samples = _resampled(_mixed(blocks), facts.sampling_rate, spec.sampling_rate)
        if not len(samples):
            raise DataError(
                f"the recording is too short: it has {facts.frames} samples",
                why=f"At {spec.sampling_rate} a second nothing is left of it",
                fix=_FIX,
            )
        return samples


def audio_facts(source: AudioSource, *, rate: int | None = None) -> AudioFacts:
    """Return what a recording is, from its header; the samples aren't decoded.

    Raises:
        DataError: as `read_audio`, for all that can be seen without decoding.
        RequestError: an array comes without its rate.
        MissingExtraError: soundfile isn't installed.
    """
    with _opened(source, rate) as (facts, _):
        return facts


@contextlib.contextmanager
def _opened(source: AudioSource, rate: int | None) -> Iterator[tuple[AudioFacts, _Blocks]]:
    """Yield what a recording is, and its samples `[T, C]` in blocks, 1.0 being full scale."""
    if isinstance(source, np.ndarray):
        if rate is None:
            raise RequestError(
                "an array of samples needs its sampling rate",
                why="A file says its own; numbers alone don't",
                fix="Give `rate`, in samples a second",
            )
        array = _checked_array(source)
        facts = AudioFacts(rate, array.shape[1], len(array))
        _check_facts(facts)
        yield facts, _array_blocks(array)
        return
    with contextlib.ExitStack() as stack:
        if isinstance(source, Path):
            stack.enter_context(located(source, DataError))
        data = read_file(source) if isinstance(source, Path) else source
        _check_container(data)
        soundfile = require("soundfile", extra="audio", purpose="to read recordings")
        with _plain_errors(soundfile):
            file = stack.enter_context(soundfile.SoundFile(io.BytesIO(data)))
        facts = AudioFacts(int(file.samplerate), int(file.channels), int(file.frames))
        _check_facts(facts)
        yield facts, _file_blocks(file, facts, soundfile)


def _checked_array(array: Array) -> Array:
    """Return PCM as `[T, C]`."""
    if array.ndim not in (1, 2):
        raise DataError(
            f"a recording is an array [T] or [T, C], not {list(array.shape)}",
            fix="Give one recording at a time, time first",
        )
    if array.dtype.newbyteorder("=") != np.int16 and not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"samples are int16, or floats in −1…1, not {array.dtype}",
            fix="Convert them first: it isn't plain what full scale is",
        )
    return array[:, None] if array.ndim == 1 else array


def _array_blocks(array: Array) -> _Blocks:
    is_float = np.issubdtype(array.dtype, np.floating)
    size = max(_BLOCK_VALUES // array.shape[1], 1)
    for start in range(0, len(array), size):
        block = array[start : start + size].astype(np.float64)
        if not is_float:
            block /= _FULL_SCALE
        elif (np.abs(block) > 1).any():  # NaN is found later, in files too.
            raise DataError(
                f"samples that are floats lie in −1…1, and one is {np.abs(block).max():g}",
                fix="Divide them by what full scale is, 32768 for 16 bits",
            )
        yield block


def _check_container(data: bytes) -> None:
    """Refuse what isn't one whole file of these, as far as libsndfile wouldn't say so."""
    if not data:
        raise DataError("the file is empty (0 bytes)", fix=_FIX)
    if len(data) > MOST_BYTES:
        raise DataError(f"the file has more than {MOST_BYTES >> 30} GiB", fix=_FIX)
    if data[:4] in (b"RIFF", b"RIFX", b"RF64") and data[8:12] == b"WAVE":
        _check_wav(data)
    elif data.startswith(b"OggS"):
        _check_ogg(data)
    elif not data.startswith((b"fLaC", b"ID3")) and not _MPEG_FRAME.match(data):
        raise DataError(
            "this isn't a recording that can be read",
            why=f"It begins with {data[:12]!r}",
            fix="WAV, FLAC, OGG and MP3 files are read",
        )


def _check_wav(data: bytes) -> None:
    """Compare the bytes that the header promises with those that are there.

    A size of all ones means that whoever wrote the header didn't know: a stream, or RF64, where the
    chunk `ds64` holds the true one (EBU Tech 3306).
    """
    order: Any = "big" if data.startswith(b"RIFX") else "little"
    at, long_size = 12, None
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], order)
        at += 8
        if name == b"ds64":
            long_size = int.from_bytes(data[at + 8 : at + 16], order)
        if name == b"data":
            available = len(data) - at
            if size == _UNKNOWN_BYTES:
                size = available if long_size is None else long_size
            if size > available:
                raise _cut_short(
                    f"Its header promises {size:,} bytes of samples, and {available:,} are there"
                )
            return
        at += size + size % 2
    raise _cut_short("It ends before its samples begin")


def _check_ogg(data: bytes) -> None:
    """Walk over the pages (RFC 3533, section 6): one stream that begins once and ends at the end.

    Of several streams in a row, libsndfile reads the first.
    """
    at, begins, flags = 0, 0, 0
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        flags, segments = data[at + 5], data[at + 26]
        begins += flags >> 1 & 1
        at += 27 + segments + sum(data[at + 27 : at + 27 + segments])
    if begins > 1:
        raise DataError(
            f"the file holds {begins} streams, and one is read",
            fix="Write each into a file of its own",
        )
    if at != len(data) or not flags & 4:
        raise _cut_short("Its last page isn't whole, or isn't marked as the last one")


def _cut_short(why: str) -> DataError:
    return DataError("the recording is cut short", why=why, fix=_FIX)


def _check_facts(facts: AudioFacts) -> None:
    if not LOWEST_RATE <= facts.sampling_rate <= HIGHEST_RATE:
        raise DataError(
            f"the sampling rate is {facts.sampling_rate:,} a second, and rates from "
            f"{LOWEST_RATE:,} to {HIGHEST_RATE:,} are read",
            fix=_FIX,
        )
    if facts.frames < 1 or facts.channels < 1:
        raise DataError("the recording holds no samples", fix=_FIX)
    if facts.seconds > MAX_SECONDS:
        raise DataError(
            f"the recording is longer than {MAX_SECONDS / 3600:g} h, or doesn't say how long it is",
            why=f"Its header promises {facts.frames:,} samples a channel",
            fix="Cut it into shorter ones, or write it anew",
        )


@contextlib.contextmanager
def _plain_errors(soundfile: ModuleType) -> Iterator[None]:
    try:
        yield
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        why = str(getattr(error, "error_string", error))
        raise DataError(f"the recording is broken: {why}", fix=_FIX) from error


def _file_blocks(file: Any, facts: AudioFacts, soundfile: ModuleType) -> _Blocks:
    size, decoded = max(_BLOCK_VALUES // facts.channels, 1), 0
    while decoded < facts.frames:
        with _plain_errors(soundfile):
            block = file.read(min(size, facts.frames - decoded), dtype="float64", always_2d=True)
        if not len(block):
            raise _cut_short(f"It promises {facts.frames:,} samples, and holds {decoded:,}")
        decoded += len(block)
        yield block


def _mixed(blocks: _Blocks) -> _Blocks:
    """Yield mono blocks `[T]` in −1…1."""
    for block in blocks:
        mono = block.mean(axis=1)
        if not np.isfinite(mono).all():
            raise DataError(
                "the recording holds samples that aren't numbers (NaN or infinite)", fix=_FIX
            )
        if np.abs(mono).max() > _LOUDEST:
            raise DataError(
                f"the recording holds a sample of {np.abs(mono).max():g}, and full scale is 1",
                why="It seems to hold whole numbers, written as floats",
                fix="Write it anew, divided by what full scale is",
            )
        yield np.clip(mono, -1.0, 1.0)


def _resampled(blocks: _Blocks, rate: int, new_rate: int) -> Samples:
    if rate == new_rate:
        return np.concatenate([_sixteen_bits(block) for block in blocks])
    soxr = require("soxr", extra="audio", purpose="to resample recordings")
    stream = soxr.ResampleStream(rate, new_rate, 1, dtype="float64", quality=_QUALITY)
    pieces = [_sixteen_bits(stream.resample_chunk(block)) for block in blocks]
    pieces.append(_sixteen_bits(stream.resample_chunk(np.empty(0), last=True)))
    return np.concatenate(pieces)


def _sixteen_bits(values: Doubles) -> Samples:
    highest = _FULL_SCALE - 1
    return np.clip(np.rint(values * _FULL_SCALE), -_FULL_SCALE, highest).astype(np.int16)
