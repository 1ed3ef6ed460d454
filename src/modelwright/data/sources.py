"""Every source by its name in the recipe, and the source that some path is likely to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from modelwright.data.arrays import list_arrays
from modelwright.data.boxed import list_boxes
from modelwright.data.cifar10 import list_cifar10
from modelwright.data.digits import list_digits
from modelwright.data.documents import list_documents
from modelwright.data.folder import list_folder
from modelwright.data.labelled_lines import list_labelled_lines
from modelwright.data.listing import Listing
from modelwright.data.parallel_text import list_parallel_text
from modelwright.data.sealed import plain_name, stored
from modelwright.data.table import list_table
from modelwright.data.table_reader import columns_of, is_table, is_table_folder
from modelwright.data.targets import TARGETS
from modelwright.data.transcripts import list_transcripts
from modelwright.errors import DataError, RecipeError, nearest
from modelwright.files import JsonObject, find_path, json_digest
from modelwright.kinds import InputKind, OutputKind
from modelwright.recipe.data import (
    ArraysData,
    BoxesData,
    Cifar10Data,
    DataSpec,
    DigitsData,
    DocumentsData,
    FolderData,
    LabelledLinesData,
    ParallelTextData,
    SplitSpec,
    TableData,
)
from modelwright.recipe.schema import tag_of
from modelwright.run import Observe, silent

GuessColumns = Callable[[Path, InputKind], JsonObject]
"""Returns the settings that are likely meant for a table with some kind of input."""


def usual_columns(path: Path, kind: InputKind) -> JsonObject:
    """Return nothing: the columns are called as usual."""
    return {}


def list_source(
    spec: DataSpec,
    *,
    base: Path,
    observe: Observe,
    kind: InputKind = InputKind.IMAGE,
    output_kind: OutputKind = OutputKind.SINGLE_LABEL,
) -> Listing:
    """Return what a source holds, of the kind that the task takes, under the labels' new names.

    Raises:
        DataError: the source can't be used, or holds another kind.
        RecipeError: a label that is to be renamed doesn't occur.
    """
    listing = _list_source(spec, base=base, observe=observe, kind=kind, output_kind=output_kind)
    if listing.kind != kind:
        raise DataError(
            f"`source: {spec.source}` holds {listing.kind.plural}, and the task takes "
            f"{kind.plural}",
            where="data.source",
            fix="Look at `task`",
        )
    if not spec.rename:
        return listing
    adapter = TARGETS[output_kind]
    known = {label for stored in listing.labels for label in adapter.labels_of(stored)}
    for name in spec.rename:
        if name not in known:
            raise RecipeError(
                f"`data.rename` names the label `{name}`, which doesn't occur",
                where="data.rename",
                fix=nearest(name, sorted(known)),
            )
    labels = [adapter.rename(stored, spec.rename) for stored in listing.labels]
    return replace(listing, labels=labels, key=json_digest([listing.key, spec.rename]))


def _list_source(
    spec: DataSpec, *, base: Path, observe: Observe, kind: InputKind, output_kind: OutputKind
) -> Listing:
    match spec:
        case DigitsData():
            return list_digits()
        case Cifar10Data():
            return list_cifar10(spec.path, base=base, observe=observe)
        case FolderData():
            if spec.labels is not None:
                return list_table(
                    labels_table(spec, base=base, kind=kind),
                    base=base,
                    kind=kind,
                    output_kind=output_kind,
                )
            group = spec.split.column if spec.split.by == "group" else None
            if output_kind == OutputKind.CTC:
                return list_transcripts(spec.path, base=base, group=group)
            return list_folder(spec, base=base, group=group, kind=kind)
        case TableData():
            return list_table(spec, base=base, kind=kind, output_kind=output_kind)
        case LabelledLinesData():
            return list_labelled_lines(spec, base=base)
        case DocumentsData():
            return list_documents(spec, base=base)
        case ParallelTextData():
            return list_parallel_text(spec, base=base)
        case BoxesData():
            return list_boxes(spec, base=base)
        case ArraysData():
            return list_arrays(spec, base=base)


def labels_table(spec: FolderData, *, base: Path, kind: InputKind) -> TableData:
    """Return the source that a folder with a table of labels is.

    Raises:
        DataError: the table isn't there, or has no column of labels.
    """
    path = stored(find_path(spec.path, base) / str(spec.labels))
    columns = columns_of(path) if path.is_file() else []
    if len(columns) < 2:
        raise DataError(
            "this table has no column of labels" if columns else "there is no such table",
            where=f"{path} (data.labels)",
            fix="Give a table of which the first column names the files and the others the labels",
        )
    labels = {"label": columns[1]} if len(columns) == 2 else {"target_columns": columns[1:]}
    shared = {
        name: getattr(spec, name) for name in ("split", "leaks", "limit", "rename", "encoding")
    }
    return TableData.model_validate(
        {"source": "table", "path": str(path), kind: columns[0], "multi_label": True, **labels}
    ).model_copy(update=shared)


@dataclass(frozen=True, slots=True)
class Existing:
    """What an existing model declares of the data that it is measured on."""

    kind: InputKind
    """What its samples are."""
    output_kind: OutputKind
    """What is predicted of them."""
    names: tuple[str, ...]
    """The model's labels, characters, or the names of its numbers."""
    data: DataSpec | None
    """The section `data` that it was made from, whose columns are taken."""


def list_like(path: Path, model: Existing, *, guess: GuessColumns, observe: Observe) -> Listing:
    """List the samples of a path for an existing model; the kind of source follows from its form.

    `guess` returns the likely settings of a table, where the model has no section `data`.

    Raises:
        DataError: it can't be used.
    """
    base, like = Path.cwd(), model.data
    if str(path) == "digits" and not path.exists():
        return list_digits()
    if str(path) == "cifar10" and not path.exists():
        return list_cifar10(None, base=base, observe=observe)
    is_binary = path.is_dir() and stored(path / "data_batch_1.bin").is_file()
    name = plain_name(path.name).lower()
    if is_binary or name.endswith(".tar.gz"):
        return list_cifar10(str(path), base=base, observe=observe)
    if name.endswith(".npz"):
        return list_arrays(ArraysData(source="arrays", path=str(path)), base=base)
    if model.output_kind == OutputKind.BOXES:
        return _boxes_like(path, like if isinstance(like, BoxesData) else None)
    if is_table(path) or is_table_folder(path):
        return _table_like(path, model, guess)
    return _files_like(path, model)


def _boxes_like(path: Path, like: BoxesData | None) -> Listing:
    """List images with boxes as a model's own data; of a table, by the columns that it names."""
    spec = BoxesData(source="boxes", path=str(path))
    if like is not None and (is_table(path) or is_table_folder(path)):
        update = {"path": str(path), "split": SplitSpec(), "images": None}
        if like.split_column not in columns_of(path, like.columns, encoding=like.encoding):
            update["split_column"] = None
        spec = like.model_copy(update=update)
    return list_boxes(spec, base=Path.cwd(), likely=None if like is None else like.images)


def _table_like(path: Path, model: Existing, guess: GuessColumns) -> Listing:
    if isinstance(model.data, TableData):
        spec = model.data
    else:
        settings = guess(path, model.kind)
        spec = TableData.model_validate({"source": "table", "path": str(path), **settings})
    has_columns = spec.metadata_columns or spec.split_column is not None
    columns = columns_of(path, spec.columns, encoding=spec.encoding) if has_columns else []
    update = {
        "path": str(path),
        "split": SplitSpec(),
        "split_column": spec.split_column if spec.split_column in columns else None,
        "target_columns": model.names
        if model.output_kind == OutputKind.REGRESSION
        else spec.target_columns,
        "metadata_columns": tuple(name for name in spec.metadata_columns if name in columns),
    }
    copy = spec.model_copy(update=update)
    return list_table(copy, base=Path.cwd(), kind=model.kind, output_kind=model.output_kind)


def _files_like(path: Path, model: Existing) -> Listing:
    """List a file or a folder that is no table, by the first source that such a model can have."""
    like, base = model.data, Path.cwd()
    listed = partial(list_source, base=base, observe=silent, kind=model.kind)
    if isinstance(like, FolderData) and like.labels is not None and path.is_dir():
        folder = like.model_copy(update={"path": str(path), "split": SplitSpec()})
        return listed(folder, output_kind=model.output_kind)
    source = next(
        (
            source
            for source in (_FOLDER_SOURCES if path.is_dir() else _FILE_SOURCES)
            if model.kind in source.inputs and model.output_kind in source.outputs
        ),
        None,
    )
    if source is None or model.output_kind == OutputKind.MULTI_LABEL:
        raise DataError(
            f"this is no table, and samples with {model.output_kind.noun} come in one",
            where=str(path),
            fix="Give a CSV, JSONL or Parquet table with the columns that the model was trained on",
        )
    settings = {"source": tag_of(source)[1], "path": str(path)}
    if source is ParallelTextData:
        settings["target"] = str(_target_texts(path, str(getattr(like, "target", ""))))
    return listed(source.model_validate(settings), output_kind=model.output_kind)


_FOLDER_SOURCES: tuple[type[DataSpec], ...] = (DocumentsData, FolderData)
_FILE_SOURCES: tuple[type[DataSpec], ...] = (
    ParallelTextData,
    DocumentsData,
    LabelledLinesData,
    FolderData,  # Which says that a folder is needed.
)


def _target_texts(path: Path, like: str) -> Path:
    """Return the file of target texts that stands beside one of source texts.

    It has the suffix of `like`, the target texts that the model was trained on.

    Raises:
        DataError: there is none.
    """
    suffix, plain = Path(plain_name(like)).suffix, path.with_name(plain_name(path.name))
    other = plain.with_suffix(suffix) if suffix else plain
    if other == plain or not stored(other).is_file():
        raise DataError(
            "there is no file of target texts beside it",
            where=str(path),
            fix="Give a table with a column of source texts and one of target texts, or two "
            f"files such as test.en and test{suffix or '.de'}",
        )
    return stored(other)
