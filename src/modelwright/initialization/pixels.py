"""By which mean and deviation pixels are normalised where weights come from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from modelwright.data import Prepared
from modelwright.errors import RecipeError
from modelwright.run import Run, RunRequest


def pixel_statistics(
    mean: Sequence[float],
    std: Sequence[float],
    source: str,
    *,
    request: RunRequest,
    prepared: Prepared,
    context: Run,
) -> tuple[Sequence[float], Sequence[float]]:
    """Return the mean and deviation by which pixels are normalised, and say which these are.

    Args:
        mean: what the weights were trained with, of each channel `[C]`, pixels in 0…1.
        std: the same of the deviation.
        source: who says so, for the message: `the weights' folder says`.
        request: its `transforms.normalize` decides, unless that is `auto`.
        prepared: the images.
        context: the run.

    Raises:
        RecipeError: the weights are for images with other channels.
    """
    channels, own = len(mean), prepared.image.channels
    if own != channels:
        raise RecipeError(
            f"the weights are for images of {channels} channels, and these have {own}",
            where=request.recipe.place_of("transforms.color_mode"),
            fix="Write `transforms: {color_mode: rgb}`" if channels == 3 else "",
        )
    shown = f"mean {_shown(mean)}, deviation {_shown(std)}"
    asked_for = request.recipe.transforms.normalize
    if asked_for != "auto":
        context.say(
            f"Pixels are normalised as the recipe says (`{asked_for}`); the network's weights "
            f"were trained with {shown}"
        )
        return prepared.mean, prepared.std
    context.say(f"Pixels are normalised as {source}: {shown}")
    return mean, std


def _shown(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)
