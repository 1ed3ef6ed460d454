"""Random variation of images, on whole batches: a pure function of (seed, epoch, position).

Pixels are uint8 `[N, H, W, C]` throughout, and stay so until images are mixed. What is random is
drawn on the host (`draws`); moving pixels is exact, so that every device gives the same image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from modelwright.arrays import Bools, Doubles
from modelwright.data.counter_rng import CounterRNG, Stream, key
from modelwright.data.dataset import Split
from modelwright.recipe.preparation import AugmentSpec, ColorJitter, CropAugment

Whole = NDArray[np.int64]

GREY = (0.299, 0.587, 0.114)
"""How bright red, green and blue look (ITU-R BT.601)."""
_MEAN_FROM = 2048
"""From how many samples the mean colour is taken that fills a cutout."""
_UPSIDE_DOWN = 1
"""The further figure of the stream of flips that turns an image upside down."""
_ATTEMPTS = 10
"""How often a crop's shape is drawn before the largest centred one is taken."""


def augment_batch(images: Tensor, spec: AugmentSpec, draws: CounterRNG, *, fill: Tensor) -> Tensor:
    """Vary each image by itself: all but MixUp and CutMix.

    Images are uint8 `[N, H, W, C]`; a cutout is filled with the colour `fill`, uint8 `[C]`.
    """
    if spec.flip != "none" or spec.translate:
        images = move(images, *shifts(spec, draws), flips(spec, draws), padding=spec.padding)
    if spec.vertical_flip:
        images = turn_over(images, overturns(draws))
    if spec.crop is not None:
        images = zoom(images, boxes(spec.crop, draws, (images.shape[1], images.shape[2])))
    if spec.color_jitter is not None:
        images = jitter_colors(images, factors(spec.color_jitter, draws))
    if spec.cutout:
        images = cut_out(images, draws, side=spec.cutout, fill=fill)
    return images


# -- moving pixels ---------------------------------------------------------------------------


def flips(spec: AugmentSpec, draws: CounterRNG) -> Bools:
    """Return which samples are mirrored `[N]`."""
    if spec.flip == "none":
        return np.zeros(len(draws.positions), np.bool_)
    if spec.flip == "random":
        return draws.uniform(Stream.FLIP) < 0.5
    turns: Bools = (draws.always(Stream.FLIP) + draws.epoch) % 2 == 1
    return turns


def overturns(draws: CounterRNG) -> Bools:
    """Return which samples are turned upside down `[N]`."""
    return draws.uniform(Stream.FLIP, attempt=_UPSIDE_DOWN) < 0.5


def turn_over(images: Tensor, overturned: Bools) -> Tensor:
    """Turn some images `[N, H, W, C]` upside down."""
    chosen = torch.from_numpy(overturned).to(images.device)[:, None, None, None]
    return torch.where(chosen, images.flip(1), images)


def shifts(spec: AugmentSpec, draws: CounterRNG) -> tuple[Whole, Whole]:
    """Return by how many pixels each sample moves down `[N]` and to the right `[N]`."""
    most = spec.translate
    return draws.integers(Stream.SHIFT_Y, -most, most), draws.integers(Stream.SHIFT_X, -most, most)


def move(images: Tensor, down: Whole, right: Whole, mirrored: Bools, *, padding: str) -> Tensor:
    """Shift images, then mirror some left-right.

    Images are uint8 `[N, H, W, C]`, the others `[N]`. The uncovered border is the reflected image
    (`reflect`, without the outermost pixel) or black (`zero`).
    """
    height, width = images.shape[1:3]
    rows = np.arange(height) - down[:, None]
    columns = np.where(mirrored[:, None], np.arange(width)[::-1], np.arange(width))
    columns = columns - right[:, None]
    moved = _pick(images, _reflected(rows, height), _reflected(columns, width))
    if padding == "zero":
        inside = _inside(rows, height)[:, :, None] & _inside(columns, width)[:, None, :]
        if not inside.all():
            moved *= torch.from_numpy(inside[..., None]).to(images.device)
    return moved


def _inside(index: Whole, size: int) -> Bools:
    return (index >= 0) & (index < size)


def _reflected(index: Whole, size: int) -> Whole:
    """Fold indices back into `0…size − 1` at both ends, as often as needed."""
    if size == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * size - 2)
    reflected: Whole = np.minimum(folded, 2 * size - 2 - folded)
    return reflected


def _pick(images: Tensor, rows: Whole, columns: Whole) -> Tensor:
    """Return `images[n, rows[n, y], columns[n, x]]` for all n, y, x."""
    count, height, width, channels = images.shape
    if images.device.type != "cpu":
        sample = torch.arange(count, device=images.device)[:, None, None]
        where_y = torch.from_numpy(rows).to(images.device)[:, :, None]
        where_x = torch.from_numpy(columns).to(images.device)[:, None, :]
        return images[sample, where_y, where_x]
    # NumPy takes a pixel of any number of bytes in one copy: six times as fast as torch's index.
    starts = np.arange(count)[:, None] * height + rows
    index = starts[:, :, None] * width + columns[:, None, :]
    pixels = images.contiguous().numpy().reshape(-1).view(np.dtype((np.void, channels)))
    taken = pixels.take(index.reshape(-1), mode="clip")
    return torch.from_numpy(taken.view(np.uint8).reshape(images.shape))


# -- zooming ---------------------------------------------------------------------------------


def boxes(spec: CropAugment, draws: CounterRNG, size: tuple[int, int]) -> Doubles:
    """Return the part of each image that is kept `[N, 4]`: top, left, height, width in pixels.

    Area and shape are drawn together until they fit into the image (at most ten times, then the
    largest centred part of an allowed shape is taken), so that all shapes stay as likely.
    """
    height, width = size
    low, high = (float(np.log(value)) for value in spec.ratio)
    ratio = np.clip(width / height, *spec.ratio)
    tall, wide = min(height, width / ratio), min(width, height * ratio)
    high_of = np.full(len(draws.positions), tall)
    wide_of = np.full(len(draws.positions), wide)
    for attempt in reversed(range(_ATTEMPTS)):  # The first that fits is written last.
        area = height * width * draws.between(Stream.CROP_AREA, *spec.scale, attempt=attempt)
        shape = np.exp(draws.between(Stream.CROP_RATIO, low, high, attempt=attempt))
        tall_now, wide_now = np.sqrt(area / shape), np.sqrt(area * shape)
        fits = (tall_now <= height) & (wide_now <= width)
        high_of, wide_of = np.where(fits, tall_now, high_of), np.where(fits, wide_now, wide_of)
    top = draws.uniform(Stream.CROP_Y) * (height - high_of)
    left = draws.uniform(Stream.CROP_X) * (width - wide_of)
    return np.stack([top, left, high_of, wide_of], axis=1)


def zoom(images: Tensor, parts: Doubles) -> Tensor:
    """Return a part of each image at the full size, bilinear; a part is never larger than that.

    Images are uint8 `[N, H, W, C]`, parts top, left, height and width `[N, 4]`.
    """
    height, width = images.shape[1:3]
    part = torch.from_numpy(parts.astype(np.float32)).to(images.device)
    top, left, tall, wide = (column[:, None] for column in part.unbind(1))
    middles_y = (torch.arange(height, device=images.device) + 0.5) / height
    middles_x = (torch.arange(width, device=images.device) + 0.5) / width
    # grid_sample counts from −1 at one edge of the image to 1 at the other.
    y = (top + tall * middles_y) * (2.0 / height) - 1.0
    x = (left + wide * middles_x) * (2.0 / width) - 1.0
    grid = torch.stack(
        [x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=-1
    )
    floats = images.permute(0, 3, 1, 2).float()
    resized = F.grid_sample(floats, grid, padding_mode="border", align_corners=False)
    return _as_pixels(resized.permute(0, 2, 3, 1))


def _as_pixels(values: Tensor) -> Tensor:
    return values.round().clamp_(0, 255).to(torch.uint8, memory_format=torch.contiguous_format)


def resize_batch(pixels: Tensor, side: int) -> Tensor:
    """Return images `[N, H, W, C]` as squares of `side`, antialiased, in the same number format."""
    images = pixels.permute(0, 3, 1, 2)
    # Only the processor resizes uint8 in place of floats.
    direct = pixels.is_floating_point() or pixels.device.type == "cpu"
    resized = F.interpolate(
        images if direct else images.float(), size=(side, side), mode="bilinear", antialias=True
    ).permute(0, 2, 3, 1)
    return resized.contiguous() if direct else _as_pixels(resized)


# -- colours ---------------------------------------------------------------------------------


def factors(spec: ColorJitter, draws: CounterRNG) -> NDArray[np.float32]:
    """Return the factors of brightness, contrast and saturation of each sample `[3, N]`."""
    reach = (
        (Stream.BRIGHTNESS, spec.brightness),
        (Stream.CONTRAST, spec.contrast),
        (Stream.SATURATION, spec.saturation),
    )
    drawn = [draws.between(stream, 1.0 - most, 1.0 + most) for stream, most in reach]
    return np.stack(drawn).astype(np.float32)


def jitter_colors(images: Tensor, by: NDArray[np.float32]) -> Tensor:
    """Change brightness, then contrast (about the mean grey), then saturation (about each grey).

    Images are uint8 `[N, H, W, C]`; `by` has the three factors `[3, N]`.
    """
    brightness, contrast, saturation = torch.from_numpy(by).to(images.device)[..., None, None, None]
    # Colour by colour in memory: a loop over three channels at a time is several times as slow.
    planes = images.permute(0, 3, 1, 2).contiguous().float()
    planes = planes.mul_(brightness).clamp_(0, 255)
    means = _grey(planes).mean((2, 3), keepdim=True)
    planes = torch.lerp(means, planes, contrast).clamp_(0, 255)
    if images.shape[3] == 3:
        planes = torch.lerp(_grey(planes), planes, saturation)
    return _as_pixels(planes.permute(0, 2, 3, 1))


def _grey(planes: Tensor) -> Tensor:
    if planes.shape[1] != 3:
        return planes.mean(1, keepdim=True)
    return planes[:, :1] * GREY[0] + planes[:, 1:2] * GREY[1] + planes[:, 2:] * GREY[2]


# -- covering and mixing ---------------------------------------------------------------------


def cut_out(images: Tensor, draws: CounterRNG, *, side: int, fill: Tensor) -> Tensor:
    """Fill a square around a random pixel; at the border a part of it falls outside."""
    height, width = images.shape[1:3]
    y, x = draws.integers(Stream.CUT_Y, 0, height - 1), draws.integers(Stream.CUT_X, 0, width - 1)
    rows = _inside(np.arange(height) - (y - side // 2)[:, None], side)
    columns = _inside(np.arange(width) - (x - side // 2)[:, None], side)
    hidden = torch.from_numpy(rows[:, :, None, None] & columns[:, None, :, None])
    return torch.where(hidden.to(images.device), fill.to(images.device), images)


@dataclass(frozen=True, slots=True)
class Mix:
    """How a whole batch is mixed with its partners: `own` is the share of each sample itself."""

    own: float
    box: tuple[int, int, int, int] | None = None
    """CutMix: top, bottom, left, right of what the partner covers; `None` blends all pixels."""


def draw_mix(
    spec: AugmentSpec, size: tuple[int, int], *, seed: int, epoch: int, batch: int
) -> Mix | None:
    """Draw how a batch is mixed: one share for all of it, as both papers' own code does.

    `size` is H and W; `batch` is a number of the batch within the epoch.
    """
    if not spec.mixup and not spec.cutmix:
        return None
    random = np.random.Generator(np.random.Philox(key=key(seed, Stream.MIX, epoch, batch)))
    cuts = bool(spec.cutmix) and (not spec.mixup or random.random() < 0.5)
    alpha = spec.cutmix if cuts else spec.mixup
    own = float(random.beta(alpha, alpha))
    if not cuts:
        return Mix(own)
    height, width = size
    half_y, half_x = (round(side * (1.0 - own) ** 0.5 / 2) for side in size)
    y, x = int(random.integers(height)), int(random.integers(width))
    top, bottom = max(y - half_y, 0), min(y + half_y, height)
    left, right = max(x - half_x, 0), min(x + half_x, width)
    covered = (bottom - top) * (right - left) / (height * width)
    return Mix(1.0 - covered, (top, bottom, left, right))


def mix_images(images: Tensor, partners: Tensor, mix: Mix) -> Tensor:
    """Return `[N, H, W, C]`: floats where all pixels are blended, uint8 where a box is covered."""
    if mix.box is None:
        return torch.lerp(partners.float(), images.float(), mix.own)
    top, bottom, left, right = mix.box
    covered = images.clone()
    covered[:, top:bottom, left:right] = partners[:, top:bottom, left:right]
    return covered


def mix_targets(targets: Tensor, partners: Tensor, mix: Mix, *, num_outputs: int | None) -> Tensor:
    """Return the mixed targets: shares of classes `[N, K]`, or mixed numbers `[N, …]`."""
    if targets.is_floating_point():
        return torch.lerp(partners, targets, mix.own)
    assert num_outputs is not None  # `Batches` has refused to mix others.
    shares = torch.zeros(len(targets), num_outputs, device=targets.device)
    for classes, share in ((targets, mix.own), (partners, 1.0 - mix.own)):
        index = classes[:, None]
        shares.scatter_add_(1, index, torch.full(index.shape, share, device=shares.device))
    return shares


# -- pictures --------------------------------------------------------------------------------


def mean_color(split: Split) -> Tensor:
    """Return the mean colour uint8 `[C]` of some of a split's images."""
    pixels = split.gather(_spread(len(split), _MEAN_FROM))
    return torch.from_numpy(pixels.mean(axis=(0, 1, 2)).round().astype(np.uint8))


def augmented_samples(
    split: Split, augment: AugmentSpec, seed: int, count: int, *, times: int = 6
) -> NDArray[np.uint8]:
    """Return some images as training sees them, for the report.

    At most `count` images are spread over the split. Of each there are `times` pictures: the image
    itself, then one an epoch.

    Returns:
        uint8 `[count, times, H, W, C]`.
    """
    positions = _spread(len(split), count)
    images = torch.from_numpy(split.gather(positions))
    size = (images.shape[1], images.shape[2])
    fill = mean_color(split)
    pictures = [images]
    for epoch in range(times - 1):
        varied = augment_batch(images, augment, CounterRNG(seed, epoch, positions), fill=fill)
        mix = draw_mix(augment, size, seed=seed, epoch=epoch, batch=0)
        if mix is not None:
            varied = mix_images(varied, varied.roll(-1, 0), mix)
        pictures.append(varied.round().to(torch.uint8) if varied.is_floating_point() else varied)
    stacked: NDArray[np.uint8] = torch.stack(pictures, dim=1).numpy()
    return stacked


def _spread(size: int, count: int) -> Whole:
    """Return at most `count` positions, evenly spread."""
    return np.linspace(0, max(size - 1, 0), min(size, count)).astype(np.int64)
