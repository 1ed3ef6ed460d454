"""Networks over sounds: padding, export, and what is varied in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelwright import modelfile
from modelwright.errors import RecipeError
from modelwright.models.candidate import Candidate
from modelwright.models.sound import NOISE_DB, SPEED, Perturb, SoundClassifier
from modelwright.transforms.sound import SoundInput

RATE = 8000


def tones(lengths, seed=0):
    """Return int16 tones padded to the longest, and their lengths."""
    random = np.random.default_rng(seed)
    found = np.zeros((len(lengths), max(lengths)), dtype=np.int16)
    for row, length in enumerate(lengths):
        wave = np.sin(np.arange(length) * random.uniform(0.1, 1.5)) * 9000
        found[row, :length] = wave + random.normal(0, 200, length)
    return torch.from_numpy(found), torch.tensor(lengths)


def built(**more):
    torch.manual_seed(0)
    settings = {"sampling_rate": RATE, "mels": 16, "widths": (4, 8), "dropout": 0.1, **more}
    network = SoundClassifier(3, **settings)
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


def test_the_file_answers_as_the_network(tmp_path):
    network = built()
    candidate = Candidate(
        network, "audio-classification", SoundInput(RATE, 2.0), ("a", "b", "c"), {}
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


def test_sounds_are_varied_in_training_alone():
    varied = Perturb()
    samples, lengths = tones([2000, 1000])
    torch.manual_seed(1)
    first, first_lengths = varied(samples, lengths)
    second, _ = varied(samples, lengths)
    torch.manual_seed(1)
    again, _ = varied(samples, lengths)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    ratio = first_lengths / lengths
    assert ((ratio > 1 / (1 + SPEED) - 0.01) & (ratio < 1 / (1 - SPEED) + 0.01)).all()
    assert not first[1, int(first_lengths[1]) :].any()  # padding stays silent
    assert first.abs().max() <= 32768
    held, held_lengths = varied.eval()(samples, lengths)
    assert held is samples
    assert held_lengths is lengths


def test_noise_stays_between_its_levels():
    torch.manual_seed(0)
    silence, lengths = torch.zeros(64, 4000, dtype=torch.int16), torch.full((64,), 4000)
    noisy, found = Perturb()(silence, lengths)
    levels = torch.stack([row[:count].std() for row, count in zip(noisy, found, strict=True)])
    decibels = 20 * torch.log10(levels / 32768)
    assert decibels.min() > NOISE_DB[0] - 1
    assert decibels.max() < NOISE_DB[1] + 1
    assert decibels.max() - decibels.min() > 10


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
