"""Every source by its name in the recipe, and the source that some path is likely to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from modelwright.data.arrays import list_arrays
from modelwright.data.boxed import list_boxes
from modelwright.data.cifar10 import list_cifar10
from modelwright.data.digits import list_digits
from modelwright.data.documents import list_documents
from modelwright.data.folder import list_folder
from modelwright.data.labelled_lines import list_labelled_lines
from modelwright.data.labels import labels_of
from modelwright.data.listing import Kind, Listing
from modelwright.data.multi_label import renamed
from modelwright.data.parallel_text import list_parallel_text
from modelwright.data.table import guess_table, is_table, is_table_folder, list_table
from modelwright.data.transcripts import list_transcripts
from modelwright.errors import DataError, RecipeError, nearest
from modelwright.files import json_digest
from modelwright.recipe import Recipe
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
from modelwright.run import Observe
from modelwright.tasks import Target, task_of


def kind_of(recipe: Recipe) -> Kind:
    """Return what a recipe's samples are."""
    if recipe.task == "regression" and isinstance(recipe.data, TableData):
        return recipe.data.input_kind
    return task_of(recipe).input


def list_source(
    spec: DataSpec,
    *,
    base: Path,
    observe: Observe,
    kind: Kind = "image",
    target: Target = "label",
) -> Listing:
    """Return what a source holds, of the kind that the task takes, under the labels' new names.

    Raises:
        DataError: the source can't be used, or holds another kind.
        RecipeError: a label that is to be renamed doesn't occur.
    """
    listing = _list_source(spec, base=base, observe=observe, kind=kind, target=target)
    if listing.kind != kind:
        raise DataError(
            f"`source: {spec.source}` holds {listing.kind}s, and the task takes {kind}s",
            where="data.source",
            fix="Look at `task`",
        )
    if not spec.rename:
        return listing
    known = {label for held in listing.labels for label in labels_of(held, target)}
    for name in spec.rename:
        if name not in known:
            raise RecipeError(
                f"`data.rename` names the label `{name}`, which doesn't occur",
                where="data.rename",
                fix=nearest(name, sorted(known)),
            )
    labels = [renamed(held, spec.rename, target) for held in listing.labels]
    return replace(listing, labels=labels, key=json_digest([listing.key, spec.rename]))


def _list_source(
    spec: DataSpec, *, base: Path, observe: Observe, kind: Kind, target: Target
) -> Listing:
    match spec:
        case DigitsData():
            return list_digits()
        case Cifar10Data():
            return list_cifar10(spec.path, base=base, observe=observe)
        case FolderData():
            group = spec.split.column if spec.split.by == "group" else None
            if target == "letters":
                return list_transcripts(spec.path, base=base, group=group)
            return list_folder(spec.path, base=base, group=group, kind=kind)
        case TableData():
            return list_table(spec, base=base, kind=kind, target=target)
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


def list_like(
    path: Path,
    *,
    kind: Kind,
    like: DataSpec | None,
    observe: Observe,
    target: Target,
    names: tuple[str, ...],
) -> Listing:
    """Return what some path holds, for a model that exists: the form of the source is told from it.

    Args:
        path: a folder, a table, a file, or the name of a known source.
        kind: what the model's samples are.
        like: the section `data` that the model was made from, whose columns are taken.
        observe: called with progress.
        target: what is wanted of the samples.
        names: of numbers, what they are called.

    Raises:
        DataError: it can't be used.
    """
    base = Path.cwd()
    if str(path) == "digits" and not path.exists():
        return list_digits()
    if str(path) == "cifar10" and not path.exists():
        return list_cifar10(None, base=base, observe=observe)
    is_binary = path.is_dir() and (path / "data_batch_1.bin").is_file()
    if is_binary or path.name.endswith(".tar.gz"):
        return list_cifar10(str(path), base=base, observe=observe)
    if path.suffix.lower() == ".npz":
        return list_arrays(ArraysData(source="arrays", path=str(path)), base=base)
    if target == "boxes":
        chosen_boxes = like if isinstance(like, BoxesData) else BoxesData(source="boxes", path="")
        update = {"path": str(path), "split": SplitSpec(), "images": None}
        likely = chosen_boxes.images
        return list_boxes(chosen_boxes.model_copy(update=update), base=base, likely=likely)
    if is_table(path) or is_table_folder(path):
        columns = (
            like
            if isinstance(like, TableData)
            else TableData.model_validate(
                {"source": "table", "path": str(path), **guess_table(path, kind)[1]}
            )
        )
        chosen = columns.model_copy(
            update={
                "path": str(path),
                "split": SplitSpec(),
                "split_column": None,
                "target_columns": names if target == "numbers" else columns.target_columns,
            }
        )
        return list_table(chosen, base=base, kind=kind, target=target)
    if target == "labels":
        raise DataError(
            "this is no table, and samples that may have several labels come in one",
            where=str(path),
            fix="Give a JSONL or Parquet table with lists of labels, or a CSV table with a "
            "separator between them",
        )
    if target == "text" and path.is_file():
        suffix = Path(like.target).suffix if isinstance(like, ParallelTextData) else ""
        other = path.with_suffix(suffix) if suffix else path
        if other == path or not other.is_file():
            raise DataError(
                "there is no file beside it with the texts that are wanted",
                where=str(path),
                fix="Give a table with a column of texts and one of those wanted, or two files "
                f"such as test.en and test{suffix or '.de'}",
            )
        pairs = ParallelTextData(source="parallel_text", path=str(path), target=str(other))
        return list_parallel_text(pairs, base=base)
    if target == "next":
        return list_documents(DocumentsData(source="documents", path=str(path)), base=base)
    if path.is_dir() and target == "letters":
        return list_transcripts(str(path), base=base, group=None)
    if path.is_file() and kind == "text":
        return list_labelled_lines(
            LabelledLinesData(source="labelled_lines", path=str(path)), base=base
        )
    return list_folder(str(path), base=base, group=None, kind=kind)
