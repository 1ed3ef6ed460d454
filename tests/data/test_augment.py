from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modelwright.data.augment import (
    Mix,
    augment_batch,
    boxes,
    cut_out,
    draw_mix,
    factors,
    flips,
    jitter_colors,
    mix_images,
    mix_targets,
    move,
    overturns,
    resize_batch,
    shifts,
    zoom,
)
from modelwright.data.counter_rng import CounterRNG
from modelwright.recipe.preparation import AugmentSpec, ColorJitter, CropAugment

FILL = torch.tensor([10, 20, 30], dtype=torch.uint8)
sides = st.integers(1, 9)


def pixels(count=6, height=8, width=7, channels=3, seed=0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 256, (count, height, width, channels), np.uint8))


def draws(count=6, *, seed=0, epoch=0):
    return CounterRNG(seed, epoch, np.arange(count))


def spec(**settings):
    return AugmentSpec.model_validate(settings)


# -- moving ----------------------------------------------------------------------------------


def moved_by_hand(image, down, right, mirrored, padding):
    """Shift one image pixel by pixel through an enlarged copy, then mirror it."""
    height, width = image.shape[:2]
    reach = max(abs(down), abs(right), 1)
    mode = "reflect" if padding == "reflect" else "constant"
    border = ((reach, reach), (reach, reach), (0, 0))
    large = np.pad(image, border, mode=mode)
    out = np.empty_like(image)
    for y in range(height):
        for x in range(width):
            out[y, x] = large[y + reach - down, x + reach - right]
    return out[:, ::-1] if mirrored else out


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.sampled_from([1, 3, 4]), st.sampled_from(["reflect", "zero"]), st.data())
def test_moving_equals_a_loop_over_pixels(height, width, channels, padding, data):
    shift = st.integers(-12, 12)  # also by more than a whole side
    down, right = (np.array(data.draw(st.lists(shift, min_size=4, max_size=4))) for _ in "yx")
    mirrored = np.array(data.draw(st.lists(st.booleans(), min_size=4, max_size=4)))
    images = pixels(4, height, width, channels)
    found = move(images, down, right, mirrored, padding=padding)
    for index in range(4):
        expected = moved_by_hand(
            images[index].numpy(), down[index], right[index], mirrored[index], padding
        )
        assert np.array_equal(found[index].numpy(), expected)


def test_mirroring_twice_changes_nothing():
    images, still = pixels(), np.zeros(6, np.int64)
    mirrored = np.array([True, False] * 3)
    once = move(images, still, still, mirrored, padding="reflect")
    assert torch.equal(once[::2], images[::2].flip(2))
    assert torch.equal(once[1::2], images[1::2])
    assert torch.equal(move(once, still, still, mirrored, padding="reflect"), images)


def test_input_is_never_changed():
    images = pixels()
    kept = images.clone()
    everything = spec(
        flip="random",
        translate=3,
        padding="zero",
        crop={},
        color_jitter={"brightness": 0.5, "contrast": 0.5, "saturation": 0.5},
        cutout=3,
    )
    found = augment_batch(images, everything, draws(), fill=FILL)
    assert torch.equal(images, kept)
    assert not torch.equal(found, kept)
    assert found.dtype == torch.uint8
    assert found.shape == kept.shape
    assert found.is_contiguous()


def test_random_flips_are_about_half_and_differ_by_epoch():
    one, two = (flips(spec(flip="random"), draws(4000, epoch=epoch)) for epoch in (0, 1))
    assert 0.46 < one.mean() < 0.54
    assert 0.46 < (one == two).mean() < 0.54


def test_about_half_are_turned_upside_down_whatever_is_mirrored():
    chosen = overturns(draws(10_000))
    assert abs(chosen.mean() - 0.5) < 0.02
    assert abs((chosen == flips(spec(flip="random"), draws(10_000))).mean() - 0.5) < 0.02
    images = pixels()
    varied = augment_batch(images, spec(vertical_flip=True), draws(), fill=FILL)
    for image, found, is_turned in zip(images, varied, overturns(draws()), strict=True):
        assert found.equal(image.flip(0) if is_turned else image)


def test_alternating_flips_take_turns():
    found = [flips(spec(flip="alternating"), draws(4000, epoch=epoch)) for epoch in range(4)]
    assert 0.46 < found[0].mean() < 0.54
    assert np.array_equal(found[0], ~found[1])
    assert np.array_equal(found[0], found[2])
    other = flips(spec(flip="alternating"), draws(4000, seed=1))
    assert 0.46 < (found[0] == other).mean() < 0.54


def test_shifts_reach_every_offset_evenly():
    down, right = shifts(spec(translate=2), draws(10_000))
    counts = np.zeros((5, 5))
    np.add.at(counts, (down + 2, right + 2), 1)
    assert counts.min() > 300
    assert counts.max() < 500


# -- zooming ---------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 40), st.integers(4, 40), st.integers(0, 1000))
def test_crops_lie_inside_with_area_and_shape_as_asked(height, width, seed):
    asked = CropAugment(scale=(0.2, 0.6), ratio=(0.5, 2.0))
    top, left, tall, wide = boxes(asked, draws(200, seed=seed), (height, width)).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + tall <= height + 1e-9).all()
    assert (left + wide <= width + 1e-9).all()
    share, ratio = tall * wide / (height * width), wide / tall
    fallback = (tall > height - 1e-9) | (wide > width - 1e-9)
    assert ((share > 0.2 - 1e-9) & (share < 0.6 + 1e-9) | fallback).all()
    assert ((ratio > 0.5 - 1e-9) & (ratio < 2 + 1e-9)).all()


def test_crop_shapes_are_spread_over_the_range():
    asked = CropAugment(scale=(0.1, 0.5), ratio=(0.75, 4 / 3))
    _, _, tall, wide = boxes(asked, draws(10_000), (32, 32)).T
    share = tall * wide / 1024
    assert abs(share.mean() - 0.3) < 0.01
    assert share.min() < 0.11
    assert share.max() > 0.49
    assert abs(np.log(wide / tall).mean()) < 0.01


def test_whole_image_as_a_crop_is_the_image():
    images = pixels()
    whole = np.tile([0.0, 0.0, 8.0, 7.0], (6, 1))
    assert torch.equal(zoom(images, whole), images)


def test_crop_equals_a_loop_over_pixels():
    images, parts = pixels(3), np.array([[1.0, 2.0, 4.0, 3.5], [0.3, 0.7, 7.1, 6.0], [0, 0, 2, 2]])
    found = zoom(images, parts).numpy().astype(int)
    for index, (top, left, tall, wide) in enumerate(parts):
        source = images[index].numpy().astype(float)
        for y in range(8):
            for x in range(7):
                at_y = np.clip(top + tall * (y + 0.5) / 8 - 0.5, 0, 7)
                at_x = np.clip(left + wide * (x + 0.5) / 7 - 0.5, 0, 6)
                y0, x0 = int(at_y), int(at_x)
                y1, x1 = min(y0 + 1, 7), min(x0 + 1, 6)
                fy, fx = at_y - y0, at_x - x0
                upper = source[y0, x0] * (1 - fx) + source[y0, x1] * fx
                lower = source[y1, x0] * (1 - fx) + source[y1, x1] * fx
                expected = upper * (1 - fy) + lower * fy
                assert np.abs(found[index, y, x] - expected).max() <= 0.51


@pytest.mark.parametrize("side", [4, 5, 12, 16])
def test_smaller_images_are_those_of_an_antialiased_filter(side):
    images = pixels(2, 16, 16)
    found = resize_batch(images, side)
    assert found.shape == (2, side, side, 3)
    assert found.dtype == torch.uint8
    for image, small in zip(images, found, strict=True):
        expected = Image.fromarray(image.numpy()).resize((side, side), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(expected).astype(int) - small.numpy().astype(int)).max() <= 1


def test_smaller_float_images_are_floats():
    images = pixels(2, 16, 12, 1).float()
    found = resize_batch(images, 6)
    assert found.shape == (2, 6, 6, 1)
    assert found.dtype == torch.float32
    assert (found - resize_batch(images.to(torch.uint8), 6).float()).abs().max() <= 1


# -- colours ---------------------------------------------------------------------------------


def test_colours_of_a_hand_worked_image():
    image = torch.tensor([[[[100, 50, 200], [0, 0, 0]]]], dtype=torch.uint8)
    brighter = jitter_colors(image, np.array([[1.5], [1], [1]], np.float32))
    assert brighter[0, 0, 0].tolist() == [150, 75, 255]
    # Greys 82.05 and 0, mean 41.025: half the contrast moves each value half-way there.
    flatter = jitter_colors(image, np.array([[1], [0.5], [1]], np.float32))
    assert flatter[0, 0].tolist() == [[71, 46, 121], [21, 21, 21]]
    grey = jitter_colors(image, np.array([[1], [1], [0]], np.float32))
    assert grey[0, 0, 0].tolist() == [82, 82, 82]


@pytest.mark.parametrize("channels", [1, 3])
def test_factors_of_one_change_nothing(channels):
    images = pixels(channels=channels)
    assert torch.equal(jitter_colors(images, np.ones((3, 6), np.float32)), images)


def test_grey_images_have_no_saturation():
    images = pixels(channels=1)
    assert torch.equal(
        jitter_colors(images, np.array([[1], [1], [0]], np.float32).repeat(6, 1)), images
    )


def test_factors_stay_in_their_range():
    found = factors(ColorJitter(brightness=0.2, contrast=1.0), draws(5000))
    assert found[0].min() >= 0.8
    assert found[0].max() <= 1.2
    assert found[0].std() > 0.1
    assert found[1].min() >= 0
    assert found[1].max() <= 2
    assert (found[2] == 1).all()


# -- covering and mixing ---------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(sides, sides, st.integers(1, 12), st.integers(0, 1000))
def test_cutout_covers_one_square_around_a_pixel(height, width, side, seed):
    images = torch.full((20, height, width, 3), 255, dtype=torch.uint8)
    found = cut_out(images, draws(20, seed=seed), side=side, fill=FILL)
    hidden = (found == FILL).all(-1).numpy()
    assert (found[torch.from_numpy(~hidden)] == 255).all()
    for mask in hidden:
        rows, columns = mask.any(1), mask.any(0)
        assert np.array_equal(mask, rows[:, None] & columns[None])
        assert 1 <= rows.sum() <= side
        assert 1 <= columns.sum() <= side
        assert np.ptp(np.flatnonzero(rows)) == rows.sum() - 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0.05, 5),
    st.integers(0, 99),
    st.integers(0, 99),
)
def test_cutmix_weighs_targets_by_the_area(height, width, alpha, epoch, batch):
    mix = draw_mix(spec(cutmix=alpha), (height, width), seed=0, epoch=epoch, batch=batch)
    ours = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    theirs = torch.full_like(ours, 255)
    covered = (mix_images(ours, theirs, mix) == 255).float().mean().item()
    assert covered == pytest.approx(1 - mix.own, abs=1e-6)
    targets = mix_targets(torch.tensor([0, 1]), torch.tensor([1, 1]), mix, num_outputs=3)
    torch.testing.assert_close(
        targets, torch.tensor([[mix.own, 1 - mix.own, 0.0], [0.0, 1.0, 0.0]])
    )


def test_mixup_of_hand_worked_images():
    ours, theirs = torch.tensor([[[[100]]]]).byte(), torch.tensor([[[[200]]]]).byte()
    found = mix_images(ours, theirs, Mix(0.75))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(125)
    numbers = mix_targets(torch.tensor([4.0]), torch.tensor([8.0]), Mix(0.75), num_outputs=None)
    assert numbers.item() == pytest.approx(5)


def test_shares_follow_the_beta_distribution():
    def shares(alpha):
        drawn = [draw_mix(spec(mixup=alpha), (8, 8), seed=0, epoch=0, batch=b) for b in range(2000)]
        return np.array([mix.own for mix in drawn])

    for alpha in (0.2, 1.0, 4.0):
        found = shares(alpha)
        assert abs(found.mean() - 0.5) < 0.05
        assert found.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_with_both_each_batch_draws_one():
    both = spec(mixup=0.5, cutmix=0.5)
    drawn = [draw_mix(both, (8, 8), seed=0, epoch=0, batch=b) for b in range(1000)]
    assert 430 < sum(mix.box is not None for mix in drawn) < 570
    assert draw_mix(spec(), (8, 8), seed=0, epoch=0, batch=0) is None
    again = draw_mix(both, (8, 8), seed=0, epoch=0, batch=3)
    assert again == drawn[3]


def test_mixed_targets_fit_the_loss_of_soft_classes():
    logits = torch.randn(2, 3)
    ours, theirs, mix = torch.tensor([0, 2]), torch.tensor([1, 2]), Mix(0.3)
    soft = mix_targets(ours, theirs, mix, num_outputs=3)
    parts = 0.3 * F.cross_entropy(logits, ours) + 0.7 * F.cross_entropy(logits, theirs)
    torch.testing.assert_close(F.cross_entropy(logits, soft), parts)


def test_a_cutmix_box_covers_the_share_that_is_drawn():
    # With so large an alpha the share is always about a half: of 32 by 64, sides of 22 and 46.
    asked = spec().model_copy(update={"cutmix": 1e6})
    drawn = [draw_mix(asked, (32, 64), seed=0, epoch=0, batch=b) for b in range(60)]
    heights = [mix.box[1] - mix.box[0] for mix in drawn]
    widths = [mix.box[3] - mix.box[2] for mix in drawn]
    assert (max(heights), max(widths)) == (22, 46)
