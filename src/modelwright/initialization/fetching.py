"""The network of a hub that a recipe names: which commit a run takes, and where its files are.

`hub` asks, `hub_cache` downloads and keeps; here stands what a recipe makes of it, and what is said
where it fails.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelwright.errors import DataError, MissingExtraError, ModelwrightError
from modelwright.initialization.hub import web_page
from modelwright.initialization.hub_cache import Snapshot, cached, fetch
from modelwright.recipe import Recipe
from modelwright.recipe.model import HubSpec
from modelwright.run import Observe, Run, RunRequest


def _from_hub(recipe: Recipe) -> HubSpec | None:
    """Return the section of a network that comes from a hub, if it does."""
    model = recipe.model
    return model if isinstance(model, HubSpec) and model.hub is not None else None


def fetch_network(
    request: RunRequest, *, name: str = "", with_weights: bool = True, observe: Observe
) -> Snapshot | None:
    """Return the files of the network of a hub that a recipe names, downloading what isn't here.

    Args:
        request: a recipe.
        name: the repository, where it isn't the one of the recipe.
        with_weights: whether the weights are downloaded, or only listed.
        observe: called with the bytes that were received.

    Returns:
        The files; `None` where the recipe names no hub.

    Raises:
        ModelwrightError: they can't be had; it says where in the recipe, and how to do it by hand.
    """
    model = _from_hub(request.recipe)
    if model is None:
        return None
    name = name or str(model.hub)
    try:
        return fetch(name, model.files, with_weights=with_weights, observe=observe)
    except ModelwrightError as error:
        if not error.where and not isinstance(error, MissingExtraError):
            files = ", ".join(f"`{file}`" for file in model.files.required)
            error.fix = (
                f"{error.fix}. By hand: download {files} and the weights as safetensors from "
                f"{web_page(name)} into a folder, and write `{model.folder_setting}: FOLDER` in "
                "place of `hub`"
            )
        error.at(request.recipe.place_of("model.hub"))
        raise


def pin_network(request: RunRequest, context: Run, *, with_weights: bool = True) -> RunRequest:
    """Return a request whose network of a hub is the one of a commit, with its files in the cache.

    A run that goes on after a stop takes the commit that it began with.

    Raises:
        ModelwrightError: the files can't be had.
        DataError: they aren't those that the run began with.
    """
    begun = context.decisions.taken().get("hub")
    found = fetch_network(
        request,
        name=f"{begun['repo']}@{begun['commit']}" if begun else "",
        with_weights=with_weights,
        observe=context.observe,
    )
    if found is None:
        return request
    for name, digest in found.digests().items():
        if begun and begun["files"].get(name) != digest:
            raise DataError(
                f"`{name}` of {found.repo} isn't the one that this run began with",
                where=request.recipe.place_of("model.hub"),
                fix="Give the run another `--name`",
            )
    model = request.recipe.model
    assert isinstance(model, HubSpec)
    pinned = model.model_copy(update={"hub": found.name})
    return replace(request, recipe=request.recipe.model_copy(update={"model": pinned}))


def pending_network(recipe: Recipe) -> Snapshot | None:
    """Return the files of a network of a hub whose weights aren't here yet, if that is so."""
    model = _from_hub(recipe)
    if model is None:
        return None
    found = snapshot_of(model)
    return None if found.is_whole else found


def snapshot_of(spec: HubSpec) -> Snapshot:
    """Return the files of the commit that `pin_network` has put into a section."""
    assert spec.hub is not None
    return cached(spec.hub, spec.files)


def began_with(found: Snapshot, context: Run) -> dict[str, Any]:
    """Write down which files a run begins with, for when it goes on after a stop.

    Returns:
        What a model file keeps of where its weights came from.
    """
    kept = {"commit": found.commit, "files": found.digests()}
    context.decisions.decide("hub", lambda: {"repo": found.repo, **kept})
    return {"hub": found.repo, **kept}


@contextlib.contextmanager
def hub_errors(recipe: Recipe) -> Iterator[None]:
    """Say of an error about a file from a hub whose it is, and at the line of the recipe."""
    try:
        yield
    except ModelwrightError as error:
        model = _from_hub(recipe)
        if model is None:
            raise
        folder, place = snapshot_of(model).folder, Path(error.where)
        if folder.parent in place.parents:
            file = "" if place == folder else f"`{place.name.removesuffix('.part')}` of "
            error.what = f"{file}{str(model.hub).partition('@')[0]}: {error.what}"
            error.where = recipe.place_of("model.hub")
            error.fix = error.fix or "Take another repository or revision"
        raise
