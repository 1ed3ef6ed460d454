"""Networks: one module a family, built from the recipe's section `model`."""

from __future__ import annotations

from modelwright.models.building import (
    BUILDERS,
    architecture,
    build,
    build_network,
    rebuild,
    replace_output,
    resized,
)
from modelwright.models.network import FeatureNetwork, ImageNetwork
from modelwright.models.speednet import whiten
from modelwright.models.steps import PixelSteps
from modelwright.models.summary import Layer, Summary, multiply_adds, summarise_sample, summary

__all__ = [
    "BUILDERS",
    "FeatureNetwork",
    "ImageNetwork",
    "Layer",
    "PixelSteps",
    "Summary",
    "architecture",
    "build",
    "build_network",
    "multiply_adds",
    "rebuild",
    "replace_output",
    "resized",
    "summarise_sample",
    "summary",
    "whiten",
]
