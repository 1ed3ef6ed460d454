"""What our code uses of timm, in little: for the tests where timm itself can't be imported."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import torch
from torch import nn

NAMES = ["tiny", "tiny_deep", "tiny_fixed"]
USUAL = {"input_size": (3, 8, 8), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Tiny(nn.Module):
    def __init__(self, *, in_chans, num_classes, img_size=None, depth=1, **settings):
        super().__init__()
        assert not settings
        self.stem = nn.Conv2d(in_chans, 6, 3, padding=1)
        self.blocks = nn.Sequential(*(nn.Linear(6, 6) for _ in range(depth)))
        self.places = None if img_size is None else nn.Parameter(torch.zeros(6, *img_size))
        self.fc = nn.Linear(6, num_classes) if num_classes else nn.Identity()

    def forward(self, images):
        found = self.stem(images).relu()
        if self.places is not None:
            assert found.shape[1:] == self.places.shape, "Input size doesn't match model"
            found = found + self.places
        return self.fc(self.blocks(found.mean((2, 3))))


def timm_like():
    """Return the module."""
    found = ModuleType("timm")
    found.list_models = lambda: list(NAMES)
    found.models = SimpleNamespace(
        get_pretrained_cfg=lambda name: SimpleNamespace(
            to_dict=lambda: {**USUAL, "fixed_input_size": name == "tiny_fixed"}
        )
    )
    found.create_model = create_model
    return found


def create_model(name, *, pretrained, **settings):
    assert name in NAMES
    assert pretrained is False
    depth = {"depth": 2} if name == "tiny_deep" else {}
    return Tiny(**{**depth, **settings})
