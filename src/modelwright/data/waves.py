"""Recordings: what the store keeps of them, how they become samples, what the audit checks."""

from __future__ import annotations

import io
import wave
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelwright.data.adapters import Encoded, InputAdapter
from modelwright.data.findings import Finding, counted
from modelwright.data.listing import Listing, Rows
from modelwright.data.ragged import Ragged
from modelwright.data.store import Facts, Store, StoredSplit, short_digest
from modelwright.data.views import ragged_view
from modelwright.errors import DataError
from modelwright.files import JsonObject
from modelwright.kinds import InputKind
from modelwright.recipe import Recipe
from modelwright.run import Observe
from modelwright.transforms.audio import MAX_SECONDS, AudioInput, audio_facts, read_audio

HIGHEST_AUTO_RATE = 16_000
"""`audio.sampling_rate: auto` takes no more: lower rates suffice for speech and most recordings."""
_FEWEST_A_SECOND = 1000
"""A recording shorter than a thousandth of a second may be nothing at a lower rate."""


def as_wav(samples: NDArray[np.int16], sampling_rate: int) -> bytes:
    """Return mono samples `[T]` as the bytes of a 16-bit WAV file, for people to listen to."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(sampling_rate)
        writer.writeframes(samples.astype("<i2").tobytes())
    return stream.getvalue()


# -- the store -------------------------------------------------------------------------------


def _look(data: bytes, listing: Listing) -> JsonObject:
    source = pcm_of(data, listing.sampling_rate)
    facts = audio_facts(source, rate=listing.sampling_rate)
    if facts.frames * _FEWEST_A_SECOND < facts.sampling_rate:
        raise DataError(f"the recording is too short: it has {facts.frames} samples")
    whole = AudioInput(facts.sampling_rate, MAX_SECONDS)
    samples = read_audio(source, whole, rate=listing.sampling_rate)
    return {
        "content_digest": short_digest(f"{facts.sampling_rate} ".encode() + samples.tobytes()),
        "sampling_rate": facts.sampling_rate,
        "channels": facts.channels,
        "frames": facts.frames,
    }


def pcm_of(data: bytes, sampling_rate: int | None) -> bytes | NDArray[np.int16]:
    """Return plain PCM as an array, where the source says that its recordings are that.

    Raises:
        DataError: it isn't 16-bit PCM.
    """
    if sampling_rate is None:
        return data
    if data[:4] in (b"RIFF", b"fLaC", b"OggS"):
        raise DataError(
            "this recording has its own sampling rate; leave `data.sampling_rate` out",
        )
    if len(data) % 2 or not data:
        raise DataError(f"{len(data)} bytes aren't 16-bit PCM")
    return np.frombuffer(data, dtype="<i2")


FACTS = Facts(
    columns=(("sampling_rate", pa.int32()), ("channels", pa.int32()), ("frames", pa.int64())),
    look=_look,
    missing={"sampling_rate": 0, "channels": 0, "frames": 0},
)


# -- fitting ---------------------------------------------------------------------------------


def fit_audio_input(train: StoredSplit, recipe: Recipe) -> AudioInput:
    """Return how recordings become samples; `auto` is the commonest rate of the training split."""
    spec = recipe.audio
    if spec.sampling_rate != "auto":
        return AudioInput(spec.sampling_rate, spec.max_seconds)
    rates = Counter(train.numbers("sampling_rate").tolist())
    commonest = int(rates.most_common(1)[0][0])
    return AudioInput(min(commonest, HIGHEST_AUTO_RATE), spec.max_seconds)


def _encode(store: Store, input: AudioInput, observe: Observe) -> Encoded:
    broken = store.errors()
    whole = AudioInput(input.sampling_rate, MAX_SECONDS)

    def samples(rows: range) -> list[NDArray[np.int16]]:
        return [
            np.zeros(1, np.int16)
            if row in broken
            else read_audio(
                pcm_of(store.original(row), store.sampling_rate), whole, rate=store.sampling_rate
            )
            for row in rows
        ]

    values, lengths = ragged_view(store, whole.digest(), samples, dtype="int16", observe=observe)
    starts = np.cumsum(lengths) - lengths
    # Rounded up to a quarter of a second, so that few shapes occur.
    ragged = Ragged(
        "samples",
        values,
        starts,
        np.minimum(lengths, input.max_length),
        multiple=max(input.sampling_rate // 4, 1),
    )
    return Encoded(input, ragged, np.flatnonzero(lengths > input.max_length))


# -- the audit -------------------------------------------------------------------------------


def _mixtures(store: Store, used: Rows) -> Iterator[Finding]:
    """Yield that recordings have several sampling rates or channels."""
    rates = Counter(store.numbers("sampling_rate")[used].tolist())
    if len(rates) > 1:
        shown = ", ".join(f"{rate:,} Hz ({count:,})" for rate, count in rates.most_common(6))
        yield Finding(
            kind="mixed_rates",
            severity="note",
            message=f"several sampling rates: {shown}",
            fix="All are resampled to one: see `audio.sampling_rate`",
        )
    channels = store.numbers("channels")[used]
    several = int((channels > 1).sum())
    if several:
        yield Finding(
            kind="channels",
            severity="note",
            message=f"{counted(several, 'recording')} of {len(used):,} with several channels",
            fix="Their mean is taken; if the channels hold different things, split them first",
        )


RECORDINGS = InputAdapter(
    kind=InputKind.AUDIO,
    suffixes=frozenset((".wav", ".flac", ".ogg", ".mp3")),
    formats="WAV, FLAC, OGG or MP3",
    facts=FACTS,
    fit=fit_audio_input,
    encode=_encode,
    length_setting="audio.max_seconds",
    mixtures=_mixtures,
)
