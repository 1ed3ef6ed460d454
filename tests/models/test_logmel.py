from __future__ import annotations

import numpy as np
import pytest
import torch

from modelwright.errors import RequestError
from modelwright.models.logmel import RANGE, LogMel, SpecAugment, fit_normalization

AGREE = 1e-4
"""librosa transforms in fp64; ours are products in fp32, and logarithms stretch small ones."""
EXPORTED = 1e-4
"""Another order of summing: small powers beside a loud tone are differences of large ones."""
GOLDEN = [
    [-0.40388, -9.55729, -9.20515, -9.36925, -9.61184, -9.38655],
    [-0.32988, -9.63009, -9.18091, -9.36003, -9.22403, -9.36296],
    [-0.24213, -9.11629, -8.95545, -8.88391, -8.88491, -9.17505],
]
"""librosa 0.11, of the three frames of `chirp(400)` in six bands."""


def chirp(size, seed=0, rate=8000):
    """Return a rising tone in a little noise, as int16."""
    time = np.arange(size) / rate
    noise = np.random.default_rng(seed).normal(0, 200, size)
    return (9000 * np.sin(2 * np.pi * (200 + 900 * time) * time) + noise).astype(np.int16)


def run(logmel, *samples):
    """Return the features and frames of samples, padded together."""
    length = torch.tensor([len(item) for item in samples])
    padded = torch.zeros(len(samples), int(length.max()), dtype=torch.int16)
    for row, item in zip(padded, samples, strict=True):
        row[: len(item)] = torch.from_numpy(item)
    return logmel(padded, length)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100])
@pytest.mark.parametrize(("n_mels", "high_hz"), [(64, None), (40, 3500.0)])
def test_values_are_librosas(rate, n_mels, high_hz):
    librosa = pytest.importorskip("librosa")
    logmel = LogMel(rate, n_mels=n_mels, high_hz=high_hz, floor=1e-10)
    samples = chirp(rate // 2, rate=rate)
    points = 1 << (logmel.window - 1).bit_length()
    # librosa pads the window to the transform on both sides, and so begins earlier.
    side = points - logmel.window
    power = librosa.feature.melspectrogram(
        y=np.pad(samples / 32768, (side // 2, side - side // 2)),
        sr=rate,
        n_fft=points,
        hop_length=logmel.hop,
        win_length=logmel.window,
        window="hann",
        center=False,
        power=2.0,
        n_mels=n_mels,
        fmin=20.0,
        fmax=high_hz,
        htk=False,
        norm="slaney",
        dtype=np.float64,
    )
    features, frames = run(logmel, samples)
    count = int(frames)
    assert count == 1 + (len(samples) - logmel.window) // logmel.hop
    expected = np.log(np.maximum(power, 1e-10))[:, :count]
    assert np.abs(features[0, :, :count].numpy() - expected).max() < AGREE


def test_values_are_the_frozen_ones():
    features, frames = run(LogMel(8000, n_mels=6), chirp(400))
    assert frames.tolist() == [3]
    np.testing.assert_allclose(features[0, :, :3].T.numpy(), GOLDEN, atol=AGREE)


def test_padding_and_neighbours_change_nothing():
    logmel = LogMel(8000)
    short, long = chirp(1234), chirp(4000, seed=1)
    alone, frames = run(logmel, short)
    both, counts = run(logmel, long, short)
    size = int(frames)
    assert counts.tolist() == [48, size]
    torch.testing.assert_close(both[1, :, :size], alone[0, :, :size])
    floor = torch.log(torch.tensor(1e-8))
    assert (both[1, :, size:] == floor).all()


@pytest.mark.parametrize(
    ("length", "frames"), [(1, 1), (199, 1), (200, 1), (279, 1), (280, 2), (8000, 98)]
)
def test_frames_lie_within_the_sample_and_there_is_one_at_least(length, frames):
    features, counts = run(LogMel(8000), chirp(length))
    assert counts.tolist() == [frames]
    assert features.shape == (1, 64, -(-length // 80))
    assert torch.isfinite(features).all()


def test_an_empty_batch_goes_through():
    features, frames = LogMel(8000)(torch.zeros(0, 500, dtype=torch.int16), torch.zeros(0).long())
    assert features.shape == (0, 64, 7)
    assert frames.shape == (0,)


def test_floor_is_the_least():
    features, _ = run(LogMel(8000, floor=1e-4), np.zeros(800, np.int16))
    assert (features == torch.log(torch.tensor(1e-4))).all()


def test_autocast_has_no_say():
    logmel, samples = LogMel(8000), chirp(2000)
    exact, _ = run(logmel, samples)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(logmel, samples)[0], exact)


def test_short_windows_get_a_longer_transform_so_that_no_band_is_empty():
    logmel = LogMel(16_000, n_mels=80, window_s=0.016)
    assert logmel.window == 256
    assert (logmel.bands.sum(0) > 0).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_mels": 3000}, "too many"),
        ({"high_hz": 4001.0}, "4001"),
        ({"low_hz": 300.0, "high_hz": 200.0}, "300"),
    ],
)
def test_bands_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(RequestError, match=words):
        LogMel(8000, **settings)


def test_exported_graph_agrees_at_every_size():
    onnxruntime = pytest.importorskip("onnxruntime")
    logmel = LogMel(8000).eval()
    session = exported(logmel, torch.zeros(2, 999, dtype=torch.int16), torch.tensor([999, 500]))
    assert isinstance(session, onnxruntime.InferenceSession)
    for count, size in ((1, 100), (3, 2411)):
        samples = np.stack([chirp(size, seed=seed) for seed in range(count)])
        length = np.arange(size, size - count, -1)
        found = session.run(None, {"samples": samples, "length": length})
        wanted = logmel(torch.from_numpy(samples), torch.from_numpy(length))
        for ours, theirs in zip(wanted, found, strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, atol=EXPORTED)


def exported(network, samples, length):
    """Return a session of a network over samples and lengths, N and T free."""
    import logging
    import warnings

    import onnxruntime

    count, size = torch.export.Dim("N", min=1), torch.export.Dim("T", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (samples, length),
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=20,
            input_names=["samples", "length"],
            dynamic_shapes=({0: count, 1: size}, {0: count}),
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options)


# -- normalising ------------------------------------------------------------------------------


def batch(*sizes):
    length = torch.tensor(sizes)
    samples = torch.zeros(len(sizes), max(sizes), dtype=torch.int16)
    for row, size in zip(samples, sizes, strict=True):
        row[:size] = torch.from_numpy(chirp(size, seed=size))
    return samples, length


def test_fitted_features_have_mean_zero_and_deviation_one():
    logmel = LogMel(8000, n_mels=8)
    sizes = [(900, 2000, 1500), (700, 3000, 250)]
    fit_normalization(logmel, [batch(*group) for group in sizes])
    parts = []
    for group in sizes:
        features, frames = logmel(*batch(*group))
        parts += [item[:, :count] for item, count in zip(features, frames.tolist(), strict=True)]
    whole = torch.cat(parts, dim=1)
    torch.testing.assert_close(whole.mean(1), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(whole.std(1, correction=0), torch.ones(8), atol=1e-4, rtol=0)


def test_fitting_does_not_depend_on_batches_or_on_what_was_fitted_before():
    one, other = LogMel(8000, n_mels=8), LogMel(8000, n_mels=8)
    fit_normalization(other, [batch(5000)])
    fit_normalization(one, [batch(900, 2000, 1500)])
    fit_normalization(other, [batch(900), batch(2000, 1500)])
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.std, other.std)


def test_silence_is_left_as_it_is_and_nothing_is_refused():
    logmel = LogMel(8000, n_mels=8)
    fit_normalization(logmel, [(torch.zeros(2, 900, dtype=torch.int16), torch.tensor([900, 800]))])
    assert torch.equal(logmel.std, torch.ones(8))
    with pytest.raises(RequestError, match="single sample"):
        fit_normalization(logmel, [])


# -- SpecAugment ------------------------------------------------------------------------------


def test_stripes_only_in_training():
    features, frames = torch.ones(4, 16, 50), torch.tensor([50, 40, 30, 50])
    assert torch.equal(SpecAugment().eval()(features, frames), features)
    assert not torch.equal(SpecAugment()(features, frames), features)


def test_stripes_are_as_wide_and_as_many_as_asked_and_differ_between_samples():
    torch.manual_seed(0)
    augment = SpecAugment(time_masks=1, max_frames=7, frequency_masks=1, widest=5, most=0.5)
    frames = torch.tensor([50, 10] * 200)
    out = augment(torch.ones(400, 16, 50), frames)
    rows, columns = (out == 0).all(2), (out == 0).all(1)
    widths, lengths = rows.sum(1), columns.sum(1)
    assert widths.unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert lengths[::2].unique().tolist() == list(range(8))
    assert lengths[1::2].unique().tolist() == list(range(6))  # half of ten frames
    for stripes in (rows.int(), columns.int()):
        starts = (torch.diff(stripes, prepend=torch.zeros(400, 1).int()) == 1).sum(1)
        assert starts.max() == 1
    assert not columns[1::2, 10:].any()  # Stripes lie within a sample's own frames.
    assert columns[::2, -1].any()


def test_the_same_seed_draws_the_same_stripes():
    features, frames = torch.ones(4, 16, 50), torch.tensor([50, 40, 30, 50])
    out = []
    for _ in range(2):
        torch.manual_seed(3)
        out.append(SpecAugment()(features, frames))
    assert torch.equal(*out)


def test_no_masks_change_nothing():
    features, frames = torch.ones(4, 16, 50), torch.tensor([50, 40, 30, 50])
    assert torch.equal(SpecAugment(time_masks=0, frequency_masks=0)(features, frames), features)


# -- relative features ------------------------------------------------------------------------


def test_relative_features_know_no_level_and_no_silence_behind():
    logmel, audio = LogMel(8000, n_mels=8, normalize="bands"), chirp(2400)
    features, frames = run(logmel, audio)
    half, _ = run(logmel, (audio // 2).astype(np.int16))
    size = int(frames)
    torch.testing.assert_close(half[0, :, :size], features[0, :, :size], atol=0.02, rtol=0)
    longer, counts = run(logmel, np.concatenate([audio, np.zeros(1600, np.int16)]))
    assert int(counts) > size
    # The frames at the seam join the mean, which moves each band as a whole, and by little.
    moved = longer[0, :, : size - 2] - features[0, :, : size - 2]
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), atol=1e-4, rtol=0)
    assert moved.abs().max() < 0.5


def test_relative_features_need_no_neighbours():
    logmel, short, long = LogMel(8000, normalize="bands"), chirp(1234), chirp(4000, seed=1)
    alone, frames = run(logmel, short)
    both, _ = run(logmel, long, short)
    size = int(frames)
    torch.testing.assert_close(both[1, :, :size], alone[0, :, :size], atol=1e-5, rtol=0)
    assert not both[1, :, size:].any()


def test_relative_features_of_silence_are_finite():
    features, _ = run(LogMel(8000, normalize="bands"), np.zeros(800, np.int16))
    assert not features.any()


def test_features_beside_the_peak_know_no_level_and_keep_the_means():
    logmel, plain, audio = (
        LogMel(8000, n_mels=8, normalize="peak"),
        LogMel(8000, n_mels=8),
        chirp(2400),
    )
    features, frames = run(logmel, audio)
    size = int(frames)
    half, _ = run(logmel, (audio // 2).astype(np.int16))
    torch.testing.assert_close(half[0, :, :size], features[0, :, :size], atol=0.02, rtol=0)
    found, _ = run(plain, audio)
    shifted = (found - found[0, :, :size].max())[0, :, :size].clamp(min=-RANGE)
    torch.testing.assert_close(features[0, :, :size], shifted, atol=1e-5, rtol=0)
    longer, _ = run(logmel, audio, chirp(4000, seed=1))
    torch.testing.assert_close(longer[0, :, :size], features[0, :, :size], atol=1e-5, rtol=0)
    silence, frames = run(logmel, np.zeros(800, np.int16))
    assert not silence[0, :, : int(frames)].any()


def test_a_band_that_hardly_changes_is_not_magnified():
    logmel = LogMel(8000, n_mels=1)
    loudness = 1 + 0.02 * np.sin(np.arange(8000) / 900)
    tone = (9000 * loudness * np.sin(0.9 * np.arange(8000))).astype(np.int16)
    features, frames = run(logmel, tone)
    assert 1e-3 < features[0, 0, : int(frames)].std() < 0.1
    fit_normalization(logmel, [(torch.from_numpy(tone)[None], torch.tensor([8000]))])
    assert torch.equal(logmel.std, torch.ones(1))
