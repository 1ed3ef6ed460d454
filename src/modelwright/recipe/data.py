"""The section `data`: which samples, and how they are split."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from modelwright.kinds import ANY_OUTPUT, CLASSIFICATION, VECTOR_OUTPUTS, OutputKind
from modelwright.recipe.spec import AUDIO, IMAGES, TEXTS, For, FromList, Rare, Spec, TypeDescription

_ONE_LABEL = (OutputKind.SINGLE_LABEL,)
_FOR_IMAGES, _FOR_AUDIO = For(inputs=IMAGES), For(inputs=AUDIO)
_RENAMED = (*CLASSIFICATION, OutputKind.CTC, OutputKind.BOXES)
_FOR_SEVERAL_LABELS = For(outputs=(OutputKind.MULTI_LABEL,))


def _one_zero(value: float | int) -> float | int:
    return value or 0  # 0.0 and 0 ask for the same, so they must have one digest


Share = Annotated[
    Annotated[float, Field(ge=0.0, lt=1.0)] | Annotated[int, Field(ge=0)],
    AfterValidator(_one_zero),
    TypeDescription("a share below 1, or a whole number of samples"),
]


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise ValueError(f"`{twice}` stands here twice, and each column is named once")
    return names


def _encoding(name: str) -> str:
    # Python's name for it: two ways of writing one encoding must have one digest.
    try:
        info = codecs.lookup(name)
    except LookupError:
        raise ValueError(
            f"there is no encoding `{name}`; usual ones are utf-8, gb18030, big5, cp932, euc_kr, "
            "cp1251 and cp1252"
        ) from None
    if not info._is_text_encoding:
        raise ValueError(f"`{name}` isn't an encoding of text")
    return info.name


Encoding = Annotated[Annotated[str, AfterValidator(_encoding)] | None, Rare()]
"""The encoding of text files without a byte order mark; UTF-8 where not said."""
Unlabelled = Annotated[str | None, For(outputs=VECTOR_OUTPUTS), Rare()]
"""Samples without labels, for which the answer must be of the whole sample."""


class SplitSpec(Spec):
    """How the samples are split where the source doesn't come split already."""

    by: Literal["stratified", "group", "time"] = "stratified"
    """`stratified` keeps each label's share; `group` keeps a group on one side; `time` tests on the
    latest."""
    val: Share = 0.1
    """Held out for choosing the best epoch, of what the test split leaves; 0 holds out nothing."""
    test: Share = 0.2
    """Held out for the final measurement. Unused where the source has a test split."""
    column: str | None = None
    """The column that holds the group or the time; `parent` groups the files of a folder."""
    seed: Annotated[int, Field(ge=0, lt=2**63), Rare()] = 0
    """Decides which samples go where."""

    @model_validator(mode="after")
    def _check_column(self) -> Self:
        if self.by != "stratified" and self.column is None:
            raise ValueError(f"`by: {self.by}` needs `column`, the column that holds the {self.by}")
        if self.by == "stratified" and self.column is not None:
            raise ValueError("`column` has no effect without `by: group` or `by: time`")
        return self


LeakRule = Literal["refuse", "drop_from_train", "allow"]


class _DataSpec(Spec):
    """What all sources take."""

    split_columns: ClassVar[Mapping[str, str] | None] = MappingProxyType({})
    """The column that a source without columns of its own can be split by, by `split.by`; `None`:
    it has columns of its own."""
    side: ClassVar[int | None] = None
    """The height and width of its images, where they are always the same."""
    is_grayscale: ClassVar[bool] = False
    """Whether its images are always grey."""
    may_have_splits: ClassVar[bool] = True
    """Whether its files may tell splits that its settings don't."""

    split: SplitSpec = SplitSpec()
    """How to split; given splits are kept, and what is missing is taken from the training split."""
    leaks: Annotated[LeakRule, Rare()] = "refuse"
    """What happens where identical samples stand in train and in a split that is measured: stop,
    take them out of the training split, or go on. The report says so."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use at most this many samples of each split (the first of a seeded order): a quick try."""
    rename: Annotated[dict[str, str], For(outputs=_RENAMED), Rare()] = Field(default_factory=dict)
    """Other names for labels, by the name in the data: `{"0": "zero"}`; of speech, other texts."""
    sealed: Annotated[bool, Rare()] = False
    """Whether `modelwright seal` has encrypted its files. They are opened in memory, with the
    identities of `--identity`, MODELWRIGHT_IDENTITY or `resources.identity` in a site file."""

    @property
    def is_multi_label(self) -> bool:
        """Whether a sample may have several labels."""
        return False

    @property
    def unlabelled_path(self) -> str | None:
        """Where samples without labels are, if it names some."""
        return getattr(self, "unlabelled", None)

    @property
    def given_splits(self) -> tuple[str, ...]:
        """The splits that its settings name."""
        return tuple(name for name in ("val", "test") if getattr(self, name, None) is not None)

    @property
    def own_splits(self) -> tuple[str, ...]:
        """The splits that it may come with."""
        return ("val", "test") if self.may_have_splits else self.given_splits


class DigitsData(_DataSpec):
    """1,797 real handwritten digits, 8×8 grey pixels, from scikit-learn: comes with the install."""

    inputs, outputs = IMAGES, _ONE_LABEL
    side, is_grayscale, may_have_splits = 8, True, False
    source: Literal["digits"]
    unlabelled: Unlabelled = None
    """A folder of files without labels, or a table of which only the inputs are read: more samples
    for the step `distill`, which learns the teacher's answers to them. Those that the validation or
    the test split has too are left out."""


class Cifar10Data(_DataSpec):
    """CIFAR-10: 50,000 + 10,000 colour images, 32×32, ten classes."""

    inputs, outputs = IMAGES, _ONE_LABEL
    side, may_have_splits = 32, False
    source: Literal["cifar10"]
    path: str | None = None
    """The binary archive, its folder, or a folder with train.parquet and test.parquet; else looked
    for under MODELWRIGHT_DATA and in the cache, else downloaded."""
    unlabelled: Unlabelled = None
    """A folder of files without labels, or a table of which only the inputs are read: more samples
    for the step `distill`, which learns the teacher's answers to them. Those that the validation or
    the test split has too are left out."""

    @property
    def given_splits(self) -> tuple[str, ...]:
        return ("test",)


def _pattern(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"this isn't a regular expression: {error}") from error
    if groups != 1:
        raise ValueError(f"the pattern needs one group, the label, and has {groups}")
    return text


class FolderData(_DataSpec):
    """A folder with a folder of files a class; `train/`, `val/`, `test/` above them are splits.

    The files are images, texts (`.txt`) or recordings, by the task. To recognise speech, the text
    of `NAME.wav` stands beside it in `NAME.txt`, or in a `*.trans.txt` as LibriSpeech has them.
    """

    outputs = (*CLASSIFICATION, OutputKind.CTC)
    split_columns = MappingProxyType({"group": "parent"})
    source: Literal["folder"]
    path: str
    """The folder."""
    labels: Annotated[str | None, _FOR_SEVERAL_LABELS] = None
    """A table in the folder, such as `labels.csv`, for samples with several labels: its first
    column names the files, the second one the labels with `|` between them, or all others are
    columns of 0 and 1, one a label."""
    label_pattern: Annotated[
        Annotated[str, AfterValidator(_pattern)] | None, For(outputs=_ONE_LABEL)
    ] = None
    """A regular expression with one group, searched in each file's path below the folder, without
    its ending: the group is the label. `([^/]+)_\\d+$` takes `cat` from `cat_001.jpg`."""
    encoding: Annotated[Encoding, For(inputs=TEXTS)] = None
    """The encoding of texts that aren't UTF-8 and have no byte order mark, such as `gb18030`."""
    unlabelled: Unlabelled = None
    """A folder of files without labels, or a table of which only the inputs are read: more samples
    for the step `distill`, which learns the teacher's answers to them. Those that the validation or
    the test split has too are left out."""

    @property
    def is_multi_label(self) -> bool:
        return self.labels is not None


def _one_or_four(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) not in (1, 4):
        raise ValueError("name four columns, or the one that holds four numbers")
    return _each_once(names)


def _has_place(text: str) -> str:
    if text.count("{}") != 1:
        raise ValueError("write `{}` once, where the cell's text stands in the path")
    return text


class TableData(_DataSpec):
    """A table with a column of inputs and one of labels: CSV, TSV, JSONL, a JSON list, or Parquet.

    Text tables may be gzipped. Label Studio's exports (JSON, JSON-MIN, CSV) are tables as well.
    """

    outputs = ANY_OUTPUT - {OutputKind.BOXES}
    split_columns = None
    source: Literal["table"]
    path: str
    """The table, or a folder with train, val and test tables."""
    image: Annotated[str, _FOR_IMAGES] = "image"
    """The column with the image's path (beside the table, or absolute) or its bytes."""
    text: Annotated[str, For(inputs=TEXTS)] = "text"
    """The column with the text."""
    audio: Annotated[str, _FOR_AUDIO] = "audio"
    """The column with the recording's path or bytes (WAV, FLAC, OGG, MP3)."""
    files: Annotated[
        Annotated[str, AfterValidator(_has_place)], For(inputs=(*IMAGES, *AUDIO)), Rare()
    ] = "{}"
    """The path of a cell's file, `{}` for the cell: `train/{}.jpg`, where cells are names without
    folder and ending. `{table}` stands for the table's name without its ending: `{table}/{}`; `*`
    for any one folder: `*/{}.jpg`."""
    sampling_rate: Annotated[
        Annotated[int, Field(ge=1000, le=384_000)] | None, _FOR_AUDIO, Rare()
    ] = None
    """Samples a second, where the recordings are bytes of plain 16-bit PCM and so don't say."""
    label: Annotated[
        str, For(outputs=ANY_OUTPUT - {OutputKind.REGRESSION, OutputKind.CAUSAL_LM})
    ] = "label"
    """The column with the label."""
    multi_label: Annotated[bool, _FOR_SEVERAL_LABELS] = False
    """Each sample may have several labels, or none. The column `label` holds lists (JSONL,
    Parquet), or labels with `separator` between them (CSV, TSV); or `target_columns` names a column
    of 0 and 1 for each label. A label is predicted from a probability of 0.5 on."""
    separator: Annotated[str, Field(min_length=1, max_length=8), _FOR_SEVERAL_LABELS, Rare()] = "|"
    """What stands between several labels in a cell of a CSV or TSV table."""
    target_columns: Annotated[
        tuple[str, ...],
        FromList,
        Field(min_length=1),
        AfterValidator(_each_once),
        For(outputs=(OutputKind.REGRESSION, OutputKind.MULTI_LABEL)),
    ] = ("target",)
    """The columns with the numbers that are predicted; or, where samples have several labels, two
    or more columns of 0 and 1, one a label, in place of `label`."""
    input_kind: Annotated[
        Literal["image", "text", "audio"], For(outputs=(OutputKind.REGRESSION,))
    ] = "image"
    """What the numbers are predicted from; other tasks know it themselves."""
    split_column: str | None = None
    """The column with the split of each row: train, val or test."""
    metadata_columns: Annotated[tuple[str, ...], FromList, AfterValidator(_each_once)] = ()
    """Columns that are kept beside each sample, such as a speaker or a place; the run's
    `splits.parquet` has them, as `metadata.NAME`."""
    columns: Annotated[Annotated[tuple[str, ...], FromList, Field(min_length=1)] | None, Rare()] = (
        None
    )
    """Names for the columns, from the left, where no line of a text table names them. The file may
    then be called `.txt` too; a name of `-` leaves a column out."""
    encoding: Encoding = None
    """The encoding of text files that aren't UTF-8 and have no byte order mark, such as `gb18030`
    or `cp1252`."""
    unlabelled: Unlabelled = None
    """A folder of files without labels, or a table of which only the inputs are read: more samples
    for the step `distill`, which learns the teacher's answers to them. Those that the validation or
    the test split has too are left out."""

    @property
    def is_multi_label(self) -> bool:
        return self.multi_label

    @model_validator(mode="after")
    def _check_one_hot(self) -> Self:
        is_default = self.target_columns == ("target",)
        if self.multi_label and not is_default and len(self.target_columns) < 2:
            raise ValueError("`target_columns` of several labels are two or more; one is `label`")
        if self.multi_label and not is_default:
            for name in ("label", "separator"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"`{name}` has no effect beside `target_columns`, a column for each label"
                    )
        return self


class LabelledLinesData(_DataSpec):
    """Lines of a label, a blank or tab, and a text (the form of TREC and SST), also gzipped."""

    inputs, outputs = TEXTS, _ONE_LABEL
    may_have_splits = False
    source: Literal["labelled_lines"]
    path: str
    """The file of training lines."""
    val: str | None = None
    """The file of validation lines; else they are drawn from the training lines."""
    test: str | None = None
    """The file of test lines; else they are drawn from the training lines."""
    encoding: Encoding = None
    """The encoding of text files that aren't UTF-8 and have no byte order mark, such as `gb18030`
    or `cp1252`."""
    unlabelled: Unlabelled = None
    """A folder of files without labels, or a table of which only the inputs are read: more samples
    for the step `distill`, which learns the teacher's answers to them. Those that the validation or
    the test split has too are left out."""


FilePair = Annotated[tuple[str, str], FromList]


class DocumentsData(_DataSpec):
    """Text without labels for language modeling: a file, or a folder of `.txt` files.

    A file of more than 4,096 characters is cut into passages of so many; `split: {by: time, column:
    order}` keeps their order, and holds out the last.
    """

    inputs, outputs = TEXTS, (OutputKind.CAUSAL_LM,)
    split_columns = MappingProxyType({"time": "order"})
    may_have_splits = False
    source: Literal["documents"]
    path: str
    """The file or folder of the training texts."""
    val: str | None = None
    """The file or folder of validation texts; else they are drawn from the training texts."""
    test: str | None = None
    """The file or folder of test texts; else they are drawn from the training texts."""
    encoding: Encoding = None
    """The encoding of text files that aren't UTF-8 and have no byte order mark, such as `gb18030`
    or `cp1252`."""


class ParallelTextData(_DataSpec):
    """Two text files whose lines belong together (`train.en`, `train.de`), also gzipped."""

    inputs, outputs = TEXTS, (OutputKind.SEQ2SEQ,)
    may_have_splits = False
    source: Literal["parallel_text"]
    path: str
    """The file of source lines."""
    target: str
    """The file of target lines."""
    val: FilePair | None = None
    """Both files of validation lines; else they are drawn from the training lines."""
    test: FilePair | None = None
    """Both files of test lines; else they are drawn from the training lines."""
    encoding: Encoding = None
    """The encoding of text files that aren't UTF-8 and have no byte order mark, such as `gb18030`
    or `cp1252`."""


class BoxesData(_DataSpec):
    """Images with boxes: a folder as VOC, COCO, YOLO or LabelMe write it, or a table.

    VOC and LabelMe have a file an image (XML, JSON), COCO one JSON document, YOLO a text file an
    image and `data.yaml` or `classes.txt` with the names of the classes. A table has a column of
    images and one of boxes: VOC XML as text, or a list of objects with `label`, `x1`, `y1`, `x2`,
    `y2`. Or, with `box_columns`, it has a box a row, and as many rows of an image as it has boxes;
    a row with empty cells is an image without boxes.
    """

    inputs, outputs = IMAGES, (OutputKind.BOXES,)
    split_columns = None
    source: Literal["boxes"]
    path: str
    """The folder, the COCO file or the table; `train`, `val`, `test` in it or beside it are
    splits."""
    images: Annotated[str | None, Rare()] = None
    """The folder of a COCO file's images; its own folder where not said."""
    image: str = "image"
    """The column of a table with the image's path or its bytes."""
    boxes: str = "boxes"
    """The column of a table with the boxes."""
    box_columns: Annotated[
        Annotated[tuple[str, ...], FromList, AfterValidator(_one_or_four)] | None, Rare()
    ] = None
    """The four columns of a table with a box a row, such as `[xmin, ymin, xmax, ymax]`; or the one
    column with these four numbers, or with a list of such boxes. They are pixels, or all of them
    shares of the image's sides."""
    box_format: Annotated[Literal["xyxy", "xywh", "cxcywh"], Rare()] = "xyxy"
    """What `box_columns` hold: two corners, a corner with width and height, or the centre with
    width and height."""
    label: Annotated[str, Rare()] = "label"
    """The column with the class of each box, where there are `box_columns`."""
    files: Annotated[str, AfterValidator(_has_place), Rare()] = "{}"
    """The path of an image, `{}` for its cell in a table: `images/{}.jpg`."""
    split_column: Annotated[str | None, Rare()] = None
    """The column of a table with the split of each row: train, val or test."""
    columns: Annotated[Annotated[tuple[str, ...], FromList, Field(min_length=1)] | None, Rare()] = (
        None
    )
    """Names for the columns of a text table without a line that names them; `-` leaves one out."""
    encoding: Encoding = None
    """The encoding of a text table that isn't UTF-8."""

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        fields = type(self).model_fields
        given = {
            name
            for name in ("boxes", "label", "box_format")
            if getattr(self, name) != fields[name].default
        }
        alone = sorted(given - {"boxes"})
        if self.box_columns is None and alone:
            raise ValueError(f"`{alone[0]}` has no effect without `box_columns`")
        if self.box_columns is not None and "boxes" in given:
            raise ValueError("`boxes` has no effect beside `box_columns`")
        if self.label in (self.box_columns or ()):
            raise ValueError(f"`{self.label}` is the label, and one of `box_columns`")
        return self


class ArraysData(_DataSpec):
    """A NumPy archive (`.npz`) of images: `train_images`, `train_labels`, and so for `val`, `test`.

    This is the form of MedMNIST (Yang et al. 2023). Without prefixes: `images` and `labels`.
    """

    inputs, outputs = IMAGES, _ONE_LABEL
    source: Literal["arrays"]
    path: str
    """The archive."""
    unlabelled: Unlabelled = None
    """A folder of files without labels, or a table of which only the inputs are read: more samples
    for the step `distill`, which learns the teacher's answers to them. Those that the validation or
    the test split has too are left out."""


DataSpec = Annotated[
    DigitsData
    | Cifar10Data
    | FolderData
    | TableData
    | LabelledLinesData
    | DocumentsData
    | ParallelTextData
    | BoxesData
    | ArraysData,
    Field(discriminator="source"),
]
