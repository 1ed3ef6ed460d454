"""The declared preprocessing: host steps (decode, orient, resize) and graph steps (normalize).

Host steps are one function, the same in training and in serving. Graph steps are part of the
exported network.
"""

from __future__ import annotations

from modelwright.transforms.image import ImageInput, decode_image, decode_sized, read_image
from modelwright.transforms.views import speed_views, view_batches

__all__ = [
    "ImageInput",
    "decode_image",
    "decode_sized",
    "read_image",
    "speed_views",
    "view_batches",
]
