"""How a sample becomes what a network takes: one declaration a kind of input."""

from __future__ import annotations

from modelwright.transforms.audio import AudioInput
from modelwright.transforms.image import ImageInput
from modelwright.transforms.ngrams import NgramInput
from modelwright.transforms.text import TextInput

Input = ImageInput | TextInput | NgramInput | AudioInput
