"""Downloading beforehand what a recipe needs from a hub, for a machine without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelwright.initialization import fetch_network
from modelwright.pipeline.request import RecipeLike, read_request
from modelwright.progress import shown
from modelwright.recipe import check_composition
from modelwright.run import Observe

if TYPE_CHECKING:
    from modelwright.initialization.hub_cache import Snapshot


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What a recipe needs from a hub, which is in the cache now."""

    networks: tuple[Snapshot, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `fetch --json` prints."""
        return {
            "fetched": [
                {
                    "repo": found.repo,
                    "revision": found.revision,
                    "commit": found.commit,
                    "folder": str(found.folder),
                    "files": [
                        {
                            "name": name,
                            "size_bytes": (found.folder / name).stat().st_size,
                            "sha256": item.sha256,
                            "downloaded": name in found.downloaded,
                        }
                        for name, item in found.files.items()
                    ],
                }
                for found in self.networks
            ]
        }


def fetch(
    recipe: RecipeLike,
    *,
    overrides: Sequence[str] = (),
    site: Path | None = None,
    observe: Observe | None = None,
) -> FetchResult:
    """Download what a recipe needs from a hub into the cache; what is there already stays.

    The arguments are those of `run`.

    Raises:
        ModelwrightError: the recipe makes no sense, or the files can't be had.
    """
    request = read_request(recipe, overrides=overrides, site=site)
    check_composition(request.recipe)
    with shown(observe) as watch:
        found = fetch_network(request, observe=watch)
    return FetchResult(() if found is None else (found,))
