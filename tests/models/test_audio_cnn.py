"""The convolutional network over recordings: padding, export, views."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelwright import modelfile
from modelwright.errors import RecipeError
from modelwright.models.audio_cnn import AudioCnn, MaskedBatchNorm2d
from modelwright.models.candidate import Candidate
from modelwright.models.network import AudioFrame
from modelwright.recipe.networks import AudioCnnModel
from modelwright.recipe.preparation import AugmentSpec
from modelwright.tasks.inference import Inference
from modelwright.transforms.audio import AudioInput
from modelwright.transforms.views import speed_views

RATE = 8000
PLAIN = AugmentSpec(waveform=False, time_masks=0, freq_masks=0)


def tones(lengths, seed=0):
    """Return int16 tones padded to the longest, and their lengths."""
    random = np.random.default_rng(seed)
    found = np.zeros((len(lengths), max(lengths)), dtype=np.int16)
    for row, length in enumerate(lengths):
        wave = np.sin(np.arange(length) * random.uniform(0.1, 1.5)) * 9000
        found[row, :length] = wave + random.normal(0, 200, length)
    return torch.from_numpy(found), torch.tensor(lengths)


def built(*, widths=(4, 8), dropout=0.1, augment=None):
    torch.manual_seed(0)
    spec = AudioCnnModel(name="audio-cnn", widths=widths, dropout=dropout)
    network = AudioCnn(spec, AudioFrame(RATE, 16, "none", num_outputs=3))
    network.frontend.set_augment(augment or AugmentSpec())
    for module in network.modules():  # Norms as after some training.
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            module.bias.data.uniform_(-0.5, 0.5)
    return network


@pytest.mark.parametrize("length", [1, 150, 200, 201, 1999, 4000])
def test_padding_and_neighbours_change_nothing(length):
    network = built().eval()
    samples, lengths = tones([length, 5000])
    with torch.no_grad():
        together = network(samples, lengths)[0]
        alone = network(samples[:1, :length], lengths[:1])[0]
        more = network(torch.nn.functional.pad(samples, (0, 700)), lengths)[0]
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together, more, atol=1e-5)


@pytest.mark.parametrize("padding", [0, 700, 9000])
def test_padding_changes_nothing_in_training(padding):
    samples, lengths = tones([1500, 4000, 2300])
    plain, padded = built(dropout=0.0, augment=PLAIN), built(dropout=0.0, augment=PLAIN)
    expected = plain(samples, lengths)
    found = padded(torch.nn.functional.pad(samples, (0, padding)), lengths)
    assert torch.allclose(found, expected, atol=1e-4)
    for own, other in zip(plain.buffers(), padded.buffers(), strict=True):
        assert torch.allclose(own, other, rtol=1e-4, atol=1e-5)


def test_the_norm_of_unpadded_maps_is_torchs():
    maps = torch.randn(3, 5, 4, 7)
    ours, reference = MaskedBatchNorm2d(5), torch.nn.BatchNorm2d(5)
    found, expected = ours(maps, torch.ones(3, 1, 1, 7)), reference(maps)
    torch.testing.assert_close(found, expected)
    for own, other in zip(ours.buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(own, other)


def test_the_file_answers_as_the_network(tmp_path):
    network = built()
    candidate = Candidate(
        network, "audio-classification", AudioInput(RATE, 2.0), ("a", "b", "c"), {}
    )
    report = modelfile.write_model(tmp_path / "m.mw", candidate)
    assert report.largest_difference <= 1e-4
    samples, lengths = tones([900, 3100, 40])
    with torch.no_grad():
        expected = network.eval()(samples, lengths).numpy()
    found = modelfile.load(tmp_path / "m.mw").outputs(
        {"samples": samples.numpy(), "length": lengths.numpy()}
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_without_augmentation_nothing_is_varied():
    network = built(augment=PLAIN, dropout=0.0).train()
    samples, lengths = tones([1500, 900])
    assert torch.equal(network(samples, lengths), network(samples, lengths))


def test_it_trains_in_bf16_and_every_weight_learns():
    network = built().train()
    samples, lengths = tones([1500, 900, 1500, 700])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(samples, lengths)
    outputs.float().square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_more_halvings_than_bands_are_refused():
    with pytest.raises(RecipeError, match="halve 16 bands away"):
        built(widths=(4,) * 5)


def test_a_file_averages_over_speeds(tmp_path):
    network = built()
    candidate = Candidate(
        network,
        "audio-classification",
        AudioInput(RATE, 2.0),
        ("a", "b", "c"),
        {},
        inference=Inference("speeds"),
    )
    modelfile.write_model(tmp_path / "m.mw", candidate)
    samples, lengths = (array.numpy() for array in tones([900, 3100, 40]))
    with torch.no_grad():
        answers = [
            network.eval()(*map(torch.from_numpy, view)).numpy()
            for view in speed_views(samples, lengths)
        ]
    found = modelfile.load(tmp_path / "m.mw").outputs({"samples": samples, "length": lengths})
    np.testing.assert_allclose(found, np.mean(answers, axis=0), atol=1e-4)
    assert np.abs(found - answers[0]).max() > 1e-3  # the views do something
