"""The boxes of an image as the store keeps them."""

from __future__ import annotations

import json

from modelwright.tasks.boxes import BoxedImage, LabelledBox


def write_boxes(image: BoxedImage) -> str:
    """Return an image's boxes as the store keeps them."""
    rows = [[box.label, box.x1, box.y1, box.x2, box.y2] for box in image.boxes]
    return json.dumps([image.width, image.height, rows])


def read_boxes(stored: str) -> BoxedImage:
    """Read what `write_boxes` returned."""
    width, height, rows = json.loads(stored)
    return BoxedImage(width, height, tuple(LabelledBox(*row) for row in rows))
