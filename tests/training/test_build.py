"""What the loop is made of, by the recipe and the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelwright.data import BucketedSampler, Dataset, Split
from modelwright.data.ragged import Joined, Ragged
from modelwright.errors import RecipeError
from modelwright.kinds import OutputKind
from modelwright.models.detector import Detector, locations
from modelwright.models.network import Frame, ImageNetwork
from modelwright.models.steps import PixelSteps
from modelwright.recipe.networks import DetectorModel
from modelwright.tasks import TASKS
from modelwright.training.build import build_parts, build_sampler, steps_per_epoch
from modelwright.training.distributed import DistributedContext
from modelwright.training.loop import shares
from modelwright.training.objectives.detection import Detection
from tests.training import small


def texts(*lengths):
    inputs = Ragged.of("tokens", [np.ones(length) for length in lengths], "int64")
    rows = np.arange(len(lengths))
    return Split("train", inputs, rows, rows % 2)


def test_a_budget_of_tokens_makes_batches_of_like_lengths():
    train = texts(*[3, 50] * 20)
    spec = small.spec(max_tokens_per_batch=100, batch_size=16)
    sampler = build_sampler(spec, train, 5)
    assert isinstance(sampler, BucketedSampler)
    assert sampler.steps_per_epoch == steps_per_epoch(spec, train)
    drawn = [sampler.batch(step)[1] for step in range(sampler.steps_per_epoch)]
    assert sorted(np.concatenate(drawn).tolist()) == list(range(40))
    for positions in drawn:
        held = train.lengths()[positions]
        assert len(positions) <= 16
        assert held.max() * len(positions) <= 100


def test_a_budget_of_tokens_needs_samples_of_several_lengths():
    with pytest.raises(RecipeError, match="all of one length"):
        build_sampler(small.spec(max_tokens_per_batch=100), small.dataset().train, 0)


@pytest.mark.parametrize(("optimizer", "steps"), [({"name": "sgd"}, 7), ({"name": "gd"}, 1)])
def test_an_epoch_has_as_many_steps_as_whole_batches(optimizer, steps):
    spec = small.spec(optimizer=optimizer, batch_size=32)
    assert steps_per_epoch(spec, small.dataset().train) == steps  # Of 240 samples.


def test_a_detector_learns_over_its_own_locations():
    torch.manual_seed(0)
    spec = DetectorModel(name="detector", widths=(4, 4, 4, 4), depth=1, neck=4)
    body = Detector(spec, Frame(1, 32, 48, 2))
    network = ImageNetwork(PixelSteps([0.5], [0.25]), body)
    boxes = [np.array([[4, 4, 20, 28]], np.float32)] * 6
    targets = Joined(
        (
            Ragged.of("boxes", boxes, "float32", length_name=""),
            Ragged.of("labels", [np.array([1])] * 6, "int64", length_name="", pad=-1),
        )
    )
    train = Split("train", np.zeros((6, 32, 48, 1), np.uint8), np.arange(6), targets)
    parts = build_parts(
        network,
        small.spec(batch_size=3),
        Dataset(train, None, ("cat", "dog")),
        task=TASKS["object-detection", OutputKind.BOXES],
        augment=small.AugmentSpec(),
        seed=0,
        distributed=DistributedContext("cpu"),
    )
    (batch,) = shares(parts, 0, np.arange(3), 0.0)
    outputs = network(*batch.inputs)
    expected = Detection(locations(32, 48, (8, 16, 32)))(outputs, batch)
    torch.testing.assert_close(parts.objective(outputs, batch), expected)
    assert (expected[0] > 0).all()


@pytest.mark.parametrize("mixing", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_a_batch_is_mixed_alike_however_it_is_cut(mixing):
    data, whole = small.dataset(), np.arange(32) * 7

    def batch(parts):
        built = build_parts(
            small.candidate().network,
            small.spec(gradient_accumulation=parts),
            data,
            task=TASKS["image-classification", OutputKind.SINGLE_LABEL],
            augment=small.AugmentSpec.model_validate(mixing),
            seed=4,
            distributed=DistributedContext("cpu"),
        )
        found = list(shares(built, 1, whole, 0.0))
        assert len(found) == parts
        return torch.cat([part.inputs[0] for part in found]), torch.cat(
            [part.targets for part in found]
        )

    (inputs, targets), (cut_inputs, cut_targets) = batch(1), batch(3)
    torch.testing.assert_close(cut_inputs, inputs)
    torch.testing.assert_close(cut_targets, targets)
    assert len(targets.unique()) > 2  # Mixed they are.
