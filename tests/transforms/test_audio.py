from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelwright.errors import DataError, ModelFileError, RequestError
from modelwright.transforms.audio import (
    MOST_BYTES,
    AudioFacts,
    AudioInput,
    audio_facts,
    read_audio,
)

soundfile = pytest.importorskip("soundfile")
soxr = pytest.importorskip("soxr")

SPEC = AudioInput(8000, 10.0)
LOSSY = 2000
"""A lossy codec's error of a tone of 12,000, in 16-bit steps."""


def tone(seconds=0.5, rate=8000, hertz=440.0):
    time = np.arange(round(seconds * rate)) / rate
    return (12_000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


def encoded(samples, rate=8000, kind="WAV", subtype=None):
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, subtype=subtype)
    return stream.getvalue()


# -- what is read -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["WAV", "RF64", "FLAC"])
def test_sixteen_bits_come_back_as_they_were(kind, tmp_path):
    data = encoded(tone(), kind=kind)
    (tmp_path / "a.wav").write_bytes(data)
    assert np.array_equal(read_audio(data, SPEC), tone())
    assert np.array_equal(read_audio(tmp_path / "a.wav", SPEC), tone())


@given(arrays(np.int16, st.integers(1, 300)))
def test_every_sample_survives(samples):
    assert np.array_equal(read_audio(samples, SPEC, rate=8000), samples)
    assert np.array_equal(read_audio(samples.astype(">i2"), SPEC, rate=8000), samples)
    assert np.array_equal(read_audio(samples / 32768, SPEC, rate=8000), samples)
    assert np.array_equal(read_audio(encoded(samples), SPEC), samples)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_other_encodings_are_near(subtype):
    coarse = {"PCM_U8": 257, "ULAW": 600}.get(subtype, 1)
    read = read_audio(encoded(tone() / 32768, subtype=subtype), SPEC)
    assert np.abs(read.astype(int) - tone()).max() <= coarse


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_is_read(subtype):
    read = read_audio(encoded(tone(), kind="OGG", subtype=subtype), SPEC)
    assert len(read) == len(tone())
    assert np.abs(read.astype(int) - tone())[500:-500].max() < LOSSY


def test_a_sound_longer_than_is_taken_is_read_whole():
    assert len(read_audio(encoded(tone(seconds=10.1)), SPEC)) == 80_800
    assert SPEC.max_length == 80_000


def test_channels_are_mixed_by_their_mean():
    left, right = tone(), tone(hertz=300)
    both = np.stack([left, right], axis=1)
    expected = np.rint((left.astype(float) + right) / 2)
    assert np.array_equal(read_audio(encoded(both), SPEC), expected)
    assert np.array_equal(read_audio(both, SPEC, rate=8000), expected)


def test_mixed_rates_become_the_declared_one():
    read = read_audio(encoded(tone(rate=44_100), rate=44_100), SPEC)
    assert len(read) == len(tone())
    # The filter's ends ring where the tone begins and ends.
    assert np.abs(read.astype(int) - tone())[200:-200].max() <= 8


def test_resampling_is_soxrs():
    samples = tone(rate=16_000, hertz=1000)
    expected = soxr.resample(samples / 32768, 16_000, 11_025, quality="HQ")
    read = read_audio(samples, AudioInput(11_025, 10.0), rate=16_000)
    assert np.array_equal(read, np.rint(expected * 32768).astype(np.int16))


def test_long_sounds_go_through_in_blocks():
    samples = np.random.default_rng(0).integers(-9000, 9000, (3_000_000, 2), dtype=np.int16)
    spec = AudioInput(1000, 3600.0)
    whole = soxr.resample(samples.mean(axis=1) / 32768, 16_000, 1000, quality="HQ")
    assert np.array_equal(read_audio(samples, spec, rate=16_000), np.rint(whole * 32768))


def test_too_loud_is_clipped():
    loud = np.array([2.0, -3.0, 0.5, 1.0])
    read = read_audio(encoded(loud, subtype="DOUBLE"), SPEC)
    assert read.tolist() == [32767, -32768, 16384, 32767]


def test_a_header_that_does_not_know_its_size_is_read_to_the_end():
    data = bytearray(encoded(tone()))
    data[4:8] = data[40:44] = b"\xff" * 4
    assert np.array_equal(read_audio(bytes(data), SPEC), tone())


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_facts_are_those_of_the_file(kind):
    both = np.stack([tone(rate=16_000)] * 2, axis=1)
    facts = audio_facts(encoded(both, rate=16_000, kind=kind))
    assert facts == AudioFacts(sampling_rate=16_000, channels=2, frames=8000)
    assert facts.seconds == 0.5
    assert audio_facts(both, rate=16_000) == facts


# -- what is refused --------------------------------------------------------------------------


def with_rate(rate):
    data = bytearray(encoded(tone()))
    data[24:28] = struct.pack("<I", rate)
    return bytes(data)


def ogg():
    return encoded(tone(), kind="OGG", subtype="VORBIS")


REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"hello, this is no recording\n" * 9, "isn't a recording"),
    "header only": (encoded(tone())[:44], "cut short"),
    "half a header": (encoded(tone())[:30], "cut short"),
    "cut wav": (encoded(tone())[:-2], "cut short"),
    "cut wav of floats": (encoded(tone(), subtype="FLOAT")[:-400], "cut short"),
    "cut rf64": (encoded(tone(), kind="RF64")[:-100], "cut short"),
    "cut flac": (encoded(tone(), kind="FLAC")[:-200], "broken|cut short"),
    "cut ogg": (ogg()[:-40], "cut short"),
    "ogg without its last page": (ogg()[: ogg().rindex(b"OggS")], "cut short"),
    "two streams": (ogg() + ogg(), "2 streams"),
    "no samples": (encoded(tone()[:0]), "no samples"),
    "nan": (encoded(np.array([0.1, np.nan, 0.2]), subtype="FLOAT"), "aren't numbers"),
    "infinite": (encoded(np.array([0.1, np.inf, 0.2]), subtype="FLOAT"), "aren't numbers"),
    "sixteen bits as floats": (encoded(tone().astype(float), subtype="FLOAT"), "full scale"),
    "slow": (with_rate(999), "sampling rate"),
    "fast": (with_rate(384_001), "sampling rate"),
    "more than an hour": (encoded(np.zeros(3_700_000, np.int16), rate=1000), "1 h"),
    "nothing left": (encoded(tone()[:1], rate=44_100), "too short"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_its_reason_and_place(name, tmp_path):
    data, words = REFUSED[name]
    with pytest.raises(DataError, match=words):
        read_audio(data, SPEC)
    path = tmp_path / "speech.wav"
    path.write_bytes(data)
    with pytest.raises(DataError, match=words) as caught:
        read_audio(path, SPEC)
    assert caught.value.where == str(path)
    assert caught.value.fix


def test_a_cut_header_names_what_is_missing():
    with pytest.raises(DataError, match="promises 8,000 bytes of samples, and 7,000 are there"):
        audio_facts(encoded(tone())[:-1000])


def test_a_lying_flac_header_is_found_out():
    data = bytearray(encoded(tone(), kind="FLAC"))
    data[22:26] = struct.pack(">I", 4001)  # of 4,000 samples
    with pytest.raises(DataError, match="broken"):
        read_audio(bytes(data), SPEC)


@given(st.binary(max_size=200), st.integers(0, 60))
def test_damage_is_an_error_of_ours_or_a_sound(noise, place):
    data = encoded(tone()[:40])
    damaged = data[:place] + noise + data[place + len(noise) :]
    try:
        read_audio(damaged, SPEC)
    except DataError:
        return


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 3, 4), np.int16), r"\[T\] or \[T, C\]"),
        (np.zeros(5, np.int32), "int32"),
        (np.zeros(5, np.uint8), "uint8"),
        (np.array([0.1, 200.0]), "one is 200"),
        (np.array([0.1, np.nan]), "aren't numbers"),
        (np.zeros(0, np.int16), "no samples"),
        (np.zeros((9, 0), np.int16), "no samples"),
    ],
)
def test_arrays_that_are_no_sounds_are_refused(array, words):
    with pytest.raises(DataError, match=words):
        read_audio(array, SPEC, rate=8000)


def test_an_array_needs_its_rate():
    with pytest.raises(RequestError, match="sampling rate"):
        read_audio(tone(), SPEC)
    with pytest.raises(DataError, match="sampling rate"):
        read_audio(tone(), SPEC, rate=12)


def test_what_is_no_plain_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path, tmp_path / "pipe.wav"):
        with pytest.raises(DataError, match="no plain file"):
            read_audio(path, SPEC)
    with pytest.raises(DataError, match="can't be read"):
        read_audio(tmp_path / "missing.wav", SPEC)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.wav"
    with path.open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)  # sparse
    with pytest.raises(DataError, match="more than 1 GiB"):
        audio_facts(path)


# -- the declaration --------------------------------------------------------------------------


@given(st.integers(1000, 384_000), st.floats(0.01, 3600))
def test_declaration_round_trip(rate, max_length):
    spec = AudioInput(rate, max_length)
    assert AudioInput.from_json(spec.to_json()) == spec
    assert AudioInput.from_json(spec.to_json()).digest() == spec.digest()


def test_other_declarations_have_other_digests():
    assert len({AudioInput(*ends).digest() for ends in [(8000, 1), (8000, 2), (9000, 1)]}) == 3
    assert AudioInput(8000, 1).digest() == AudioInput(8000, 1.0).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "image"},
        {"sampling_rate": 8000.0},
        {"sampling_rate": True},
        {"sampling_rate": 999},
        {"sampling_rate": 384_001},
        {"max_seconds": 0},
        {"max_seconds": float("nan")},
        {"max_seconds": 3601},
        {"max_seconds": "10"},
        {"channels": 2},
    ],
)
def test_altered_declarations_are_refused(change):
    with pytest.raises(ModelFileError):
        AudioInput.from_json({**SPEC.to_json(), **change})
