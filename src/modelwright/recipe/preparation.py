"""The sections `transforms`, `text`, `audio` and `augment`: how samples are read and varied."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelwright.kinds import ANY_OUTPUT, OutputKind
from modelwright.recipe.spec import AUDIO, IMAGES, TEXTS, For, FromList, Rare, Spec

Area = Annotated[float, Field(gt=0.0, le=1.0)]
Ratio = Annotated[float, Field(gt=0.0, le=20.0)]

_ONE_LABEL = (OutputKind.SINGLE_LABEL,)
_FOR_IMAGES, _FOR_AUDIO = For(inputs=IMAGES), For(inputs=AUDIO)

Side = Annotated[int, Field(ge=4, le=1024)]


class TransformsSpec(Spec):
    """How an image becomes fixed-size pixels: the same steps in training and in serving."""

    inputs = IMAGES
    size: Side | Annotated[tuple[Side, Side], FromList] | Literal["auto"] = "auto"
    """Pixels fed to the network: a side, `[height, width]`, or `auto`, as the published weights of
    a classifier were trained, else from the training images."""
    resize: Literal["stretch", "shorter", "letterbox"] = "shorter"
    """`stretch` ignores the shape, `shorter` scales the shorter side and crops the centre,
    `letterbox` pads."""
    interpolation: Annotated[Literal["nearest", "bilinear", "bicubic", "lanczos"], Rare()] = (
        "bilinear"
    )
    """Pillow's antialiased filter."""
    color_mode: Literal["auto", "rgb", "grayscale"] = "auto"
    """Channels: three, one, or `auto` (grey if every training image is grey, unless the network
    starts from published weights)."""
    background: Annotated[int, Field(ge=0, le=255), Rare()] = 0
    """The grey level behind transparent pixels and around a letterboxed image."""
    normalize: Literal["auto", "dataset", "half", "none"] = "auto"
    """`dataset`: by the training split's mean and deviation; `half`: to −1…1; `none`: to 0…1;
    `auto`: as the pretrained weights were trained, if there are any, else `dataset`.
    """


class CropAugment(Spec):
    """A random part of the image, resized to the full size (Szegedy et al. 2015, section 6)."""

    scale: Annotated[tuple[Area, Area], FromList] = (0.35, 1.0)
    """The smallest and the largest share of the area."""
    ratio: Annotated[tuple[Ratio, Ratio], FromList, Rare()] = (0.75, 1.3333)
    """The smallest and the largest width over height."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.scale[0] > self.scale[1] or self.ratio[0] > self.ratio[1]:
            raise ValueError("write the smaller figure first")
        return self


class ColorJitter(Spec):
    """Random brightness, contrast and saturation, each a factor in 1 ± the figure."""

    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far brightness may move."""
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far contrast may move."""
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far saturation may move; nothing happens to grey images."""


class AugmentSpec(Spec):
    """Random variation of the training samples: a pure function of seed, epoch and position."""

    inputs = (*IMAGES, *AUDIO)
    flip: Annotated[
        Literal["none", "random", "alternating"],
        _FOR_IMAGES,
        For(outputs=ANY_OUTPUT - {OutputKind.BOXES}, values=("alternating",)),
    ] = "none"
    """Mirror left-right at `random`, or `alternating`: each image takes turns (Jordan 2024)."""
    vertical_flip: Annotated[bool, _FOR_IMAGES, Rare()] = False
    """Turn every second image upside down, at random."""
    translate: Annotated[int, Field(ge=0, le=64), _FOR_IMAGES] = 0
    """Shift by up to this many pixels each way."""
    padding: Annotated[Literal["reflect", "zero"], _FOR_IMAGES, Rare()] = "reflect"
    """What stands at the border that a shift uncovers; where images have boxes, `zero` always."""
    crop: Annotated[CropAugment | None, _FOR_IMAGES] = None
    """A random resized crop."""
    color_jitter: Annotated[ColorJitter | None, _FOR_IMAGES] = None
    """Random brightness, contrast and saturation."""
    cutout: Annotated[
        int, Field(ge=0, le=512), For(inputs=IMAGES, outputs=ANY_OUTPUT - {OutputKind.BOXES})
    ] = 0
    """The side of a random square set to the mean (DeVries and Taylor 2017)."""
    mixup: Annotated[float, Field(ge=0, le=10), For(inputs=IMAGES, outputs=_ONE_LABEL)] = 0.0
    """The α of MixUp (Zhang et al. 2018); 0 leaves it out."""
    cutmix: Annotated[float, Field(ge=0, le=10), For(inputs=IMAGES, outputs=_ONE_LABEL)] = 0.0
    """The α of CutMix (Yun et al. 2019); 0 leaves it out. With both, each batch draws one."""
    time_masks: Annotated[int, Field(ge=0, le=10), _FOR_AUDIO] = 2
    """Stretches of time of the spectrogram that are masked (SpecAugment, Park et al. 2019)."""
    freq_masks: Annotated[int, Field(ge=0, le=10), _FOR_AUDIO] = 2
    """Ranges of mel bands that are masked."""
    waveform: Annotated[bool, _FOR_AUDIO] = True
    """Vary speed, loudness and the gain of each band, add noise, and set silence around."""

    @property
    def varies_images(self) -> bool:
        """Whether any setting for images differs from its default."""
        defaults = AugmentSpec()
        audio = {name: getattr(defaults, name) for name in ("time_masks", "freq_masks", "waveform")}
        return self.model_copy(update=audio) != defaults


class TextSpec(Spec):
    """How a text becomes numbers; the tokenizer is made from the training split alone."""

    inputs = TEXTS
    tokenizer: Literal["auto", "word", "bpe", "character"] = "auto"
    """Words and punctuation; byte-level BPE (Sennrich et al. 2016); characters. `auto`: `bpe` for
    generated texts and for scripts without blanks between words, else `word`."""
    vocab_size: Annotated[int, Field(ge=16, le=1 << 18)] | Literal["auto"] = "auto"
    """The most tokens of the vocabulary; `auto`: 30,000, or 8,000 for generated texts."""
    min_count: Annotated[int, Field(ge=1, le=1000), Rare()] = 1
    """Words, characters and BPE pairs that occur less often in training get no token."""
    vectors: Annotated[str | None, Rare()] = None
    """A text file of word vectors (word2vec, GloVe), perhaps gzipped, that initialize the
    embeddings of known words; their width must be the network's."""
    lowercase: bool | Literal["auto"] = "auto"
    """Convert texts to lower case; `auto` does so unless texts are generated."""
    max_length: Annotated[int, Field(ge=4, le=100_000)] = 512
    """The most tokens of a text; longer ones are truncated, and counted. A language model is
    trained on windows of this length."""


AudioNormalize = Literal["none", "peak", "bands"]


class AudioSpec(Spec):
    """How a recording becomes numbers."""

    inputs = AUDIO
    sampling_rate: Annotated[int, Field(ge=2000, le=96_000)] | Literal["auto"] = "auto"
    """Samples a second that the network is given; `auto` takes the training recordings' commonest,
    at most 16,000."""
    max_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """The most seconds of a recording; longer ones are truncated, and counted."""
    n_mels: Annotated[int, Field(ge=8, le=256), Rare()] = 64
    """Bands of the log-mel spectrogram."""
    normalize: AudioNormalize = "none"
    """How features are normalized. `peak`: by the recording's own peak, so that its loudness
    doesn't matter; `bands`: also by each band's mean over the recording, so that the
    microphone doesn't matter either. `peak` suits single words, of which that mean is a feature."""
