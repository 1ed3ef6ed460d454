"""The sections `data`, `transforms` and `augment`: which samples, decoded how, varied how."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelwright.recipe.spec import FromList, Spec

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)] | Annotated[int, Field(ge=0)]


class SplitSpec(Spec):
    """How the samples are split where the source doesn't come split already."""

    by: Literal["stratified", "group", "time"] = "stratified"
    """`stratified` keeps each label's share; `group` keeps a group on one side; `time` tests on the latest."""
    val: Share = 0.1
    """Held out for choosing the best epoch: a share below 1, or a count. 0 holds out nothing."""
    test: Share = 0.2
    """Held out for the final measurement: a share below 1, or a count. Unused where the source has a test split."""
    column: str | None = None
    """The column that holds the group or the time; for a folder of files, `group` may be `parent`."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides which samples go where."""

    @model_validator(mode="after")
    def _check_column(self) -> Self:
        if self.by != "stratified" and self.column is None:
            raise ValueError(f"`by: {self.by}` needs `column`, the column that holds the {self.by}")
        return self


class _DataSpec(Spec):
    split: SplitSpec = SplitSpec()
    """How to split; given splits are kept, and what is missing is taken from the training split."""
    allow_leaks: bool = False
    """Go on although identical samples stand in train and test. The report says so."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use at most this many samples of each split (the first ones of a seeded order), for a quick try."""


class DigitsData(_DataSpec):
    """1,797 real handwritten digits, 8×8 grey pixels, from scikit-learn: comes with the install."""

    source: Literal["digits"]
    """The kind of source."""


class Cifar10Data(_DataSpec):
    """CIFAR-10: 50,000 + 10,000 colour images, 32×32, ten classes."""

    source: Literal["cifar10"]
    """The kind of source."""
    path: str | None = None
    """The binary archive, its folder, or a folder with train.parquet and test.parquet; else looked for, else downloaded."""


class FolderData(_DataSpec):
    """A folder with one folder of images a class; `train/`, `val/` and `test/` above them are kept as splits."""

    source: Literal["folder"]
    """The kind of source."""
    path: str
    """The folder."""


class TableData(_DataSpec):
    """A CSV, TSV, JSONL or Parquet table with an image column (a path or the bytes) and a label column."""

    source: Literal["table"]
    """The kind of source."""
    path: str
    """The table, or a folder with train, val and test tables."""
    image: str = "image"
    """The column with the image's path (beside the table, or absolute) or its bytes."""
    label: str = "label"
    """The column with the label."""
    split_column: str | None = None
    """The column that says train, val or test."""


DataSpec = Annotated[
    DigitsData | Cifar10Data | FolderData | TableData, Field(discriminator="source")
]

Side = Annotated[int, Field(ge=4, le=1024)]


class TransformsSpec(Spec):
    """How an image becomes fixed-size pixels: the same steps in training and in serving."""

    size: Side | Annotated[tuple[Side, Side], FromList] | Literal["auto"] = "auto"
    """Pixels fed to the network: a side, `[height, width]`, or `auto` (from the training images)."""
    resize: Literal["stretch", "shorter", "letterbox"] = "shorter"
    """`stretch` ignores the shape, `shorter` scales the shorter side and crops the centre, `letterbox` pads."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    """Pillow's antialiased filter."""
    colour: Literal["auto", "rgb", "grey"] = "auto"
    """Channels: three, one, or `auto` (grey if every training image is grey)."""
    background: Annotated[int, Field(ge=0, le=255)] = 0
    """The grey level behind transparent pixels and around a letterboxed image."""
    normalise: Literal["dataset", "half", "none"] = "dataset"
    """`dataset`: by the training split's mean and deviation; `half`: to −1…1; `none`: to 0…1."""


class CropAugment(Spec):
    """A random part of the image, resized to the full size (Szegedy et al. 2015, section 6)."""

    scale: Annotated[tuple[Fraction | Literal[1], Fraction | Literal[1]], FromList] = (0.35, 1)
    """The smallest and the largest share of the area."""
    ratio: Annotated[tuple[float, float], FromList] = (0.75, 1.3333)
    """The smallest and the largest width over height."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.scale[0] > self.scale[1] or self.ratio[0] > self.ratio[1] or self.ratio[0] <= 0:
            raise ValueError("write the smaller figure first, both above 0")
        return self


class ColourAugment(Spec):
    """Random brightness, contrast and saturation, each a factor in 1 ± the figure."""

    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far brightness may move."""
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far contrast may move."""
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far saturation may move; nothing happens to grey images."""


class AugmentSpec(Spec):
    """Random variation of the training images, on whole batches; a pure function of seed, epoch and position."""

    flip: Literal["none", "random", "alternating"] = "none"
    """Mirror left-right: at random, or `alternating`, where each image takes turns (Jordan 2024)."""
    translate: Annotated[int, Field(ge=0, le=64)] = 0
    """Shift by up to this many pixels each way."""
    padding: Literal["reflect", "zero"] = "reflect"
    """What stands at the border that a shift uncovers."""
    crop: CropAugment | None = None
    """A random resized crop."""
    colour: ColourAugment | None = None
    """Random brightness, contrast and saturation."""
    cutout: Annotated[int, Field(ge=0, le=512)] = 0
    """The side of a random square set to the mean (DeVries and Taylor 2017)."""
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    """The α of MixUp (Zhang et al. 2018); 0 leaves it out."""
    cutmix: Annotated[float, Field(ge=0, le=10)] = 0.0
    """The α of CutMix (Yun et al. 2019); 0 leaves it out. With both, each batch draws one."""
