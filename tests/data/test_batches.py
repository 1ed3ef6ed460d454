from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.data.augment import augmented_samples
from modelwright.data.batches import Batches
from modelwright.data.dataset import Split
from modelwright.errors import RequestError
from modelwright.recipe.preparation import AugmentSpec

STORE, SIZE = 60, 40


def images(*, channels=3, height=10, width=9):
    random = np.random.default_rng(0)
    return random.integers(0, 256, (STORE, height, width, channels), np.uint8)


def split(inputs=None, targets=None):
    rows = np.random.default_rng(1).permutation(STORE)[:SIZE]
    return Split(
        name="train",
        inputs=images() if inputs is None else inputs,
        rows=rows,
        targets=np.arange(SIZE) % 4 if targets is None else targets,
    )


def spec(**settings):
    return AugmentSpec.model_validate(settings)


SPECS = {
    "none": {},
    "alternating": {"flip": "alternating", "translate": 2},
    "random": {"flip": "random", "translate": 3, "padding": "zero", "cutout": 4},
    "crop": {"crop": {"scale": [0.3, 1.0]}, "flip": "random"},
    "colour": {"color_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}},
    "mixup": {"mixup": 0.4, "flip": "random"},
    "cutmix": {"cutmix": 1.0, "translate": 1},
    "both": {"cutmix": 1.0, "mixup": 1.0},
}


def test_rows_and_targets_are_those_of_the_split():
    train = split()
    positions = np.array([5, 0, 39, 5])
    batch = Batches(train).at(0, positions)
    (found,) = batch.inputs
    assert found.dtype == torch.uint8
    assert found.is_contiguous()
    assert np.array_equal(found.numpy(), train.inputs[train.rows[positions]])
    assert batch.targets.dtype == torch.int64
    assert batch.targets.tolist() == [1, 0, 3, 1]


def test_a_read_only_memory_map_will_do(tmp_path):
    path = tmp_path / "pixels.npy"
    np.save(path, images())
    mapped = np.load(path, mmap_mode="r")
    positions = np.arange(SIZE)
    positions.flags.writeable = False
    found = Batches(split(mapped)).at(0, positions)
    assert torch.equal(found.inputs[0], Batches(split()).at(0, positions).inputs[0])


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_batch_does_not_depend_on_how_it_is_cut(name, data):
    batches = Batches(split(), augment=spec(**SPECS[name]), seed=3, num_outputs=4)
    size = data.draw(st.integers(1, 20))
    whole = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(SIZE)[:size]
    epoch = data.draw(st.integers(0, 5))
    ranks, parts = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    together = batches.at(epoch, whole, whole=whole)
    for rank in range(ranks):
        order = np.arange(size)[rank::ranks]
        for chosen in np.array_split(order, parts):
            part = batches.at(epoch, whole[chosen], whole=whole)
            assert torch.equal(part.inputs[0], together.inputs[0][chosen])
            assert torch.equal(part.targets, together.targets[chosen])


@pytest.mark.parametrize("name", SPECS)
def test_same_seed_and_epoch_same_batch_and_others_differ(name):
    def batch(seed, epoch):
        batches = Batches(split(), augment=spec(**SPECS[name]), seed=seed, num_outputs=4)
        return batches.at(epoch, np.arange(SIZE)).inputs[0]

    assert torch.equal(batch(1, 2), batch(1, 2))
    if name != "none":
        assert not torch.equal(batch(1, 2), batch(1, 3))
        assert not torch.equal(batch(1, 2), batch(2, 2))


def test_views_come_again_in_later_epochs():
    batches = Batches(split(), augment=spec(translate=4, flip="random"), seed=1, views=3)
    found = [batches.at(epoch, np.arange(SIZE)) for epoch in range(6)]
    assert [batch.view for batch in found] == [0, 1, 2, 0, 1, 2]
    assert torch.equal(found[1].inputs[0], found[4].inputs[0])
    assert not torch.equal(found[1].inputs[0], found[2].inputs[0])


def test_mixed_samples_are_the_sum_of_sample_and_partner():
    plain, batches = Batches(split()), Batches(split(), augment=spec(mixup=1.0), num_outputs=4)
    whole = np.array([7, 30, 2, 11, 19])
    found = batches.at(4, whole)
    own = found.targets[0, 7 % 4].item()
    mine, next_one = (plain.at(0, p).inputs[0].float() for p in (whole, np.roll(whole, -1)))
    torch.testing.assert_close(
        found.inputs[0], own * mine + (1 - own) * next_one, rtol=1e-4, atol=0.01
    )
    torch.testing.assert_close(found.targets.sum(1), torch.ones(5))
    assert found.targets[0, 30 % 4].item() == pytest.approx(1 - own)


def test_one_sample_is_mixed_with_itself():
    batches = Batches(split(), augment=spec(mixup=1.0), num_outputs=4)
    found = batches.at(0, np.array([6]))
    torch.testing.assert_close(found.targets, torch.tensor([[0.0, 0.0, 1.0, 0.0]]))


def test_an_empty_share_is_an_empty_batch():
    empty = np.zeros(0, np.int64)
    for settings_ in SPECS.values():
        batches = Batches(split(), augment=spec(**settings_), num_outputs=4)
        found = batches.at(0, empty, whole=np.arange(3))
        assert found.inputs[0].shape == (0, 10, 9, 3)
        assert len(found.targets) == 0


@pytest.mark.parametrize(
    ("inputs", "dtype"),
    [
        (np.arange(STORE * 5).reshape(STORE, 5), torch.int64),
        (np.arange(STORE * 5, dtype=np.int32).reshape(STORE, 5), torch.int32),
        (np.linspace(0, 1, STORE, dtype=np.float32), torch.float32),
        (np.zeros((STORE, 2, 3)), torch.float64),
    ],
)
def test_other_samples_than_images_are_gathered_as_they_are(inputs, dtype):
    train = split(inputs, targets=np.linspace(0, 1, SIZE))
    found = Batches(train, augment=AugmentSpec()).at(0, np.array([3, 1]))
    assert found.inputs[0].dtype == dtype
    assert np.array_equal(found.inputs[0].numpy(), inputs[train.rows[[3, 1]]])
    assert found.targets.dtype == torch.float32


def test_numbers_as_targets_are_mixed_too():
    train = split(targets=np.arange(SIZE, dtype=np.float64) * 10)
    found = Batches(train, augment=spec(mixup=1.0)).at(0, np.array([3, 8]))
    assert found.targets.shape == (2,)
    assert found.targets.sum().item() == pytest.approx(110)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(RequestError, match="varies images"):
        Batches(split(np.zeros((STORE, 5))), augment=spec(flip="random"))
    with pytest.raises(RequestError, match="number of classes"):
        Batches(split(), augment=spec(cutmix=1.0))


def test_cutouts_are_filled_with_the_mean_colour():
    inputs = np.zeros((STORE, 8, 8, 3), np.uint8)
    inputs[..., 1] = 200
    inputs[:, ::2, :, 2] = 51
    found = Batches(split(inputs), augment=spec(cutout=3)).at(0, np.arange(SIZE)).inputs[0]
    changed = found[(found[..., 2] != 0) & (found[..., 2] != 51)]
    assert len(changed)
    assert (changed == torch.tensor([0, 200, 26], dtype=torch.uint8)).all()


def test_pictures_for_the_report_begin_with_the_image_itself():
    train = split()
    found = augmented_samples(train, spec(flip="alternating"), 0, 5, times=3)
    assert found.shape == (5, 3, 10, 9, 3)
    assert found.dtype == np.uint8
    spread = np.linspace(0, SIZE - 1, 5).astype(int)
    assert np.array_equal(found[:, 0], train.gather(spread))
    for row in found:
        first, one, two = row
        assert np.array_equal(one, two[:, ::-1])
        assert np.array_equal(first, one) or np.array_equal(first, two)


@pytest.mark.parametrize("shape", [(4, 40), (40, 4)])
def test_boxes_of_other_images_stand_anywhere_in_the_pictures(shape):
    """As many pixels of each part of the image are covered, on average."""
    images = np.arange(2, dtype=np.uint8)[:, None, None, None] * np.ones((1, *shape, 1), np.uint8)
    train = Split("train", images, np.arange(2), np.arange(2))
    found = augmented_samples(train, spec(cutmix=1.0), 0, 2, times=400)[:, 1:]
    covered = (found != images[:, None]).mean(axis=(0, 1, 4))
    halves = np.array_split(covered, 2, axis=int(shape[1] > shape[0]))
    assert halves[0].mean() == pytest.approx(halves[1].mean(), abs=0.1)
    assert covered.min() > 0.1


@pytest.mark.parametrize("name", SPECS)
def test_pictures_of_every_kind(name):
    assert augmented_samples(split(), spec(**SPECS[name]), 0, 99).shape == (SIZE, 6, 10, 9, 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", SPECS)
def test_a_gpu_sees_the_same_batch(name):
    kwargs = {"augment": spec(**SPECS[name]), "seed": 3, "num_outputs": 4}
    whole = np.arange(SIZE)[::-1].copy()
    here = Batches(split(), **kwargs).at(2, whole[::2], whole=whole)
    there = Batches(split(), device="cuda", **kwargs).at(2, whole[::2], whole=whole)
    assert there.inputs[0].is_cuda
    difference = (here.inputs[0].float() - there.inputs[0].cpu().float()).abs().max()
    # Colours, crops and blends are rounded sums, whose order is the device's own.
    assert difference <= (1 if name in ("crop", "colour") else 1e-3)
    torch.testing.assert_close(there.targets.cpu(), here.targets)
