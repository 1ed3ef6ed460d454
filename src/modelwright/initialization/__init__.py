"""Which weights a network begins with: drawn, word vectors, a model file, or published weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelwright.errors import require
from modelwright.initialization.fetching import (
    fetch_network,
    hub_errors,
    pending_network,
    pin_network,
)

if TYPE_CHECKING:
    from modelwright.data import Prepared
    from modelwright.models.candidate import Candidate
    from modelwright.run import Run, RunRequest
    from modelwright.transforms.inputs import Input


def settled_input(request: RunRequest) -> Input | None:
    """Return how the network that training starts from takes its samples, if there is one.

    Whatever is wrong with it is refused here, before the data is prepared.

    Raises:
        RecipeError: it can't be used, or was made for other inputs or outputs than the recipe's.
    """
    if request.recipe.model == "auto":
        return None
    require("torch", extra="train", purpose="to train")
    from modelwright.initialization import origins

    with hub_errors(request.recipe):
        return origins.settled_input(request)


def initialize_model(request: RunRequest, prepared: Prepared, context: Run) -> Candidate:
    """Return the network that training starts from, the same for the same seed and data."""
    from modelwright.initialization import initialize

    with hub_errors(request.recipe):
        return initialize.initialize_model(request, prepared, context)


__all__ = ["fetch_network", "initialize_model", "pending_network", "pin_network", "settled_input"]
