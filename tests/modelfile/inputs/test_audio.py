"""Recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelwright.data.waves import as_wav
from modelwright.errors import DataError
from modelwright.modelfile import inputs
from tests.modelfile.inputs.declared import AUDIO


def test_sounds_are_read_at_the_models_rate(tmp_path: Path) -> None:
    reader = inputs.open_input(AUDIO.to_json(), {})
    tone = (np.sin(np.arange(4000) / 8) * 9000).astype(np.int16)
    path = tmp_path / "a.wav"
    path.write_bytes(as_wav(tone, 8000))
    batch = inputs.read_batch(reader, [path, str(path), path.read_bytes(), tone])
    assert batch["length"].tolist() == [4000] * 4
    assert (batch["samples"] == tone).all()
    twice = tmp_path / "b.wav"
    twice.write_bytes(as_wav(tone, 16000))
    assert inputs.read_batch(reader, [twice])["length"].tolist() == [2000]
    for wrong in (b"text", 3, path.read_bytes()[:-100], tmp_path / "none.wav"):
        with pytest.raises(DataError):
            inputs.read_batch(reader, [wrong])


def test_sounds_that_are_too_long_are_cut_and_told(tmp_path: Path) -> None:
    reader, said = inputs.open_input(AUDIO.to_json(), {}), []
    random = np.random.default_rng(0)
    most = round(AUDIO.max_seconds * 8000)
    tone = random.integers(-9000, 9000, most + 2000).astype(np.int16)
    (tmp_path / "a.wav").write_bytes(as_wav(tone, 8000))
    held = [tone[:most], tone, str(tmp_path / "a.wav")]
    batch = inputs.read_batch(reader, held, observe=lambda progress: said.append(progress.note))
    assert batch["length"].tolist() == [most] * 3
    assert (batch["samples"] == tone[:most]).all()
    lasts = f"{AUDIO.max_seconds + 0.25:.1f}"
    note = (
        f"the recording lasts {lasts} s, and the model hears {AUDIO.max_seconds:g} s: the last 0."
    )
    assert len(said) == 2
    assert said[0].startswith(f"input 2: {note}")
    assert said[1].startswith(f"{tmp_path / 'a.wav'}: {note}")
    assert said[0].endswith("s are cut off")


def test_speeds_are_three_views_of_a_sound() -> None:
    reader = inputs.open_input(AUDIO.to_json(), {})
    batch = reader.synthetic(2)
    views, weights = reader.views(batch, "speeds")
    assert weights.tolist() == pytest.approx([1 / 3] * 3)
    lengths = sorted(int(view["length"][0]) for view in views)
    own = int(batch["length"][0])
    assert lengths[0] < lengths[1] == own < lengths[2]
    nothing = {"samples": np.zeros((0, 5), np.int16), "length": np.zeros(0, np.int64)}
    assert len(reader.views(nothing, "speeds")[0]) == 1


def test_a_tensor_has_its_channels_first() -> None:
    reader = inputs.open_input(AUDIO.to_json(), {})
    left, right = np.arange(8, dtype=np.float32), -np.arange(8, dtype=np.float32)
    np.testing.assert_array_equal(
        reader.from_tensor(np.stack([left, right])), np.stack([left, right], axis=1)
    )
    np.testing.assert_array_equal(reader.from_tensor(left), left)
    with pytest.raises(DataError, match=r"not \[40, 8\]"):
        reader.from_tensor(np.zeros((40, 8), np.float32))


def test_golden_sounds_are_tones_of_different_heights_and_lengths() -> None:
    batch = inputs.open_input(AUDIO.to_json(), {}).synthetic(4)
    assert batch["length"].tolist() == [2000, 2800, 3600, 4400]  # At 8,000 samples a second.
    for row, (samples, length) in enumerate(zip(batch["samples"], batch["length"], strict=True)):
        tone = samples[:length].astype(float)
        assert -16384 <= tone.min() < -16000
        assert 16000 < tone.max() <= 16384
        strongest = np.abs(np.fft.rfft(tone)).argmax() * 8000 / length
        assert strongest == pytest.approx(200 + 150 * row, abs=8000 / length)
        assert not samples[length:].any()
