"""The source `boxes`: images with boxes, from VOC XML, COCO JSON or a Parquet table."""

from __future__ import annotations

from pathlib import Path

from modelwright.data.listing import Listing
from modelwright.errors import DataError
from modelwright.recipe.data import BoxesData


def list_boxes(spec: BoxesData, *, base: Path) -> Listing:
    """Return the images of a source with their boxes.

    Raises:
        DataError: a file can't be read.
    """
    raise DataError("boxes aren't read yet", where=spec.path)
