"""The one image decoder, and the declaration of how an image becomes fixed-size pixels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from modelwright.files import json_digest


@dataclass(frozen=True, slots=True)
class ImageInput:
    """How an image file becomes uint8 pixels `[H, W, C]`: the host steps, resolved."""

    height: int
    width: int
    channels: Literal[1, 3]
    resize: Literal["stretch", "shorter", "letterbox"] = "shorter"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    background: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the declaration as the model file holds it."""
        return {"kind": "image", **asdict(self)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> ImageInput:
        """Read what `to_json` returned."""
        return ImageInput(**{key: item for key, item in value.items() if key != "kind"})

    def digest(self) -> str:
        """Return the digest by which derived views are kept."""
        return json_digest(self.to_json())
