"""Networks that hear letters: padding, gradients, export, and learning by heart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.training.objectives.making import batch

from modelwright import modelfile
from modelwright.errors import ModelFileError
from modelwright.kinds import OutputKind
from modelwright.models.candidate import Candidate
from modelwright.models.ctc import ConvCtc, RnnCtc
from modelwright.models.logmel import fit_normalization
from modelwright.models.network import AudioFrame
from modelwright.recipe.networks import ConvCtcModel, RnnCtcModel
from modelwright.recipe.preparation import AugmentSpec
from modelwright.tasks import ctc
from modelwright.tasks.inference import Inference
from modelwright.training.objectives.ctc import ctc_loss
from modelwright.transforms.audio import AudioInput

RATE = 8000
LETTERS = ("a", "b")
FAMILIES = ["conv", "lstm", "gru"]
PITCHES = {"a": 500.0, "b": 1500.0}


def built(family, *, stride=2, waveform=True, time_masks=2, freq_masks=2, dropout=0.1):
    """Return a small network for two letters."""
    torch.manual_seed(0)
    frame = AudioFrame(RATE, 16, "none", num_outputs=3)
    options = {"channels": 4, "stride": stride, "layers": 2, "dropout": dropout}
    if family == "conv":
        spec = ConvCtcModel(name="conv-ctc", width=32, kernel=5, **options)
        network = ConvCtc(spec, frame)
    else:
        spec = RnnCtcModel(name="rnn-ctc", cell=family, hidden=8, **options)
        network = RnnCtc(spec, frame)
    network.subsampling.frontend.set_augment(
        AugmentSpec(waveform=waveform, time_masks=time_masks, freq_masks=freq_masks)
    )
    return network


def noise(*lengths):
    """Return int16 noise padded to the longest, and the lengths."""
    random = np.random.default_rng(0)
    found = np.zeros((len(lengths), max(lengths)), dtype=np.int16)
    for row, length in enumerate(lengths):
        found[row, :length] = random.normal(0, 3000, length)
    return torch.from_numpy(found), torch.tensor(lengths)


def spelled(text):
    """Return a tone for each letter of a text, with silence between."""
    time = np.arange(int(0.12 * RATE)) / RATE
    pause = np.zeros(int(0.06 * RATE))
    parts = [pause]
    for letter in text:
        parts += [9000 * np.sin(2 * np.pi * PITCHES[letter] * time), pause]
    return np.concatenate(parts).astype(np.int16)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 200, 281, 1999])
def test_padding_and_neighbours_change_nothing(family, stride, length):
    network = built(family, stride=stride).eval()
    samples, lengths = noise(length, 5000)
    with torch.no_grad():
        together, steps = network(samples, lengths)
        alone, own = network(samples[:1, :length], lengths[:1])
        more, _ = network(torch.nn.functional.pad(samples, (0, 700)), lengths)
    count = int(own)
    assert steps[0] == count == network.subsampling.steps(lengths)[0]
    assert steps.tolist() == network.subsampling.steps(lengths).tolist()
    assert together.shape[1] >= steps.max()
    torch.testing.assert_close(together[0, :count], alone[0, :count], atol=1e-5, rtol=0)
    torch.testing.assert_close(more[:, : together.shape[1]], together, atol=1e-5, rtol=0)


def test_a_neighbour_changes_nothing_in_training_either():
    network = built("conv", waveform=False, time_masks=0, freq_masks=0, dropout=0.0).train()
    samples, lengths = noise(1999, 5000)
    together, _ = network(samples, lengths)
    alone, steps = network(samples[:1, :1999], lengths[:1])
    count = int(steps)
    torch.testing.assert_close(together[0, :count], alone[0, :count], atol=1e-5, rtol=0)


def test_steps_are_as_many_as_the_stride_says():
    length = torch.tensor([1, 200, 280, 360, 8000])
    assert built("conv", stride=1).subsampling.steps(length).tolist() == [1, 1, 2, 3, 98]
    assert built("conv", stride=2).subsampling.steps(length).tolist() == [1, 1, 1, 2, 49]
    assert built("conv", stride=4).subsampling.steps(length).tolist() == [1, 1, 1, 1, 25]


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_small_differences(family):
    network = built(family, waveform=False, dropout=0.0).double().eval()
    samples, lengths = noise(900, 500)
    targets = (torch.tensor([[1, 2], [2, 0]]), torch.tensor([2, 1]))
    for name in ("head.weight", "subsampling.convs.1.weight"):
        parameter = network.get_parameter(name)
        network.zero_grad()
        losses, _ = ctc_loss(network(samples, lengths), batch(targets))
        losses.sum().backward()
        place = tuple(size // 2 for size in parameter.shape)
        found = []
        for change in (1e-5, -1e-5):
            with torch.no_grad():
                parameter[place] += change
                losses, _ = ctc_loss(network(samples, lengths), batch(targets))
                parameter[place] -= change
            found.append(float(losses.sum()))
        slope = (found[0] - found[1]) / 2e-5
        assert float(parameter.grad[place]) == pytest.approx(slope, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_answers_as_the_network(family, tmp_path):
    network = built(family)
    candidate = Candidate(
        network,
        "speech-recognition",
        AudioInput(RATE, 2.0),
        LETTERS,
        {"name": "none"},
        output_kind=OutputKind.CTC,
    )
    report = modelfile.write_model(tmp_path / "m.mw", candidate)
    assert report.largest_difference <= 1e-4
    samples, lengths = noise(900, 3100, 40)
    with torch.no_grad():
        expected, expected_steps = network.eval()(samples, lengths)
    model = modelfile.load(tmp_path / "m.mw")
    frames, steps = model.outputs({"samples": samples.numpy(), "length": lengths.numpy()})
    np.testing.assert_allclose(frames, expected.numpy(), atol=1e-4)
    assert steps.dtype == np.int64
    assert steps.tolist() == expected_steps.tolist()
    (answer,) = model.predict(samples[0, :900].numpy(), top=1)
    assert set(answer) == {"text", "probability"}
    assert 0 <= answer["probability"] <= 1


def test_letters_are_not_averaged_over_speeds(tmp_path):
    candidate = Candidate(
        built(FAMILIES[0]),
        "speech-recognition",
        AudioInput(RATE, 2.0),
        LETTERS,
        {"name": "none"},
        output_kind=OutputKind.CTC,
        inference=Inference("speeds"),
    )
    with pytest.raises(ModelFileError, match="aren't averaged over views"):
        modelfile.write_model(tmp_path / "m.mw", candidate)


@pytest.mark.parametrize("family", ["conv", pytest.param("lstm", marks=pytest.mark.slow), "gru"])
def test_it_learns_a_few_sounds_by_heart(family):
    texts = ["a", "b", "ab", "ba", "aab", "bba"]
    recordings = [torch.from_numpy(spelled(text)) for text in texts]
    lengths = torch.tensor([len(audio) for audio in recordings])
    samples = torch.nn.utils.rnn.pad_sequence(recordings, batch_first=True)
    rows = [torch.tensor([LETTERS.index(letter) + 1 for letter in text]) for text in texts]
    targets = (
        torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
        torch.tensor([len(row) for row in rows]),
    )
    network = built(family, waveform=False, time_masks=0, freq_masks=0, dropout=0.0)
    fit_normalization(network.subsampling.frontend.logmel, [(samples, lengths)])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(500):
        losses, weights = ctc_loss(network(samples, lengths), batch(targets))
        if losses.max() < 0.05:
            break
        optimizer.zero_grad()
        ((losses * weights).sum() / weights.sum()).backward()
        optimizer.step()
    with torch.no_grad():
        frames, steps = network.eval()(samples, lengths)
    found = ctc.beam_search(frames.numpy(), steps.numpy(), LETTERS, beam=4)
    assert [items[0].text for items in found] == texts


@pytest.mark.parametrize("family", FAMILIES)
def test_it_trains_in_bf16_and_every_weight_learns(family):
    network = built(family).train()
    samples, lengths = noise(1500, 900, 1500, 700)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(samples, lengths)
    targets = (torch.tensor([[1, 2]] * 4), torch.tensor([2] * 4))
    losses, _ = ctc_loss(outputs, batch(targets))
    losses.sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
