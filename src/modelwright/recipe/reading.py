"""From a recipe's text to a `Recipe`: `--set` and `--site` edit the document, then it is validated.

Whatever is wrong becomes a `RecipeError` with the line, what was received, what is allowed, and the
nearest right key or value. Pairs of settings are judged in `composition.py`, not here.
"""

from __future__ import annotations

import codecs
import contextlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from modelwright.errors import RecipeError, nearest
from modelwright.files import Json
from modelwright.recipe.document import (
    MAX_BYTES,
    MAX_DEPTH,
    Node,
    Plain,
    node_of,
    read_document,
    short,
)
from modelwright.recipe.faults import as_recipe_error, shown
from modelwright.recipe.recipe import Recipe
from modelwright.recipe.schema import tag_of
from modelwright.recipe.spec import Spec

Settings = TypeVar("Settings", bound=Spec)
_SITE = "A site file holds `resources`, and `data: {path: …}`"


def load_recipe(
    path: Path | str, *, overrides: Sequence[str] = (), site: Path | str | None = None
) -> Recipe:
    """Read a recipe from a file.

    Args:
        path: the recipe.
        overrides: settings in the form of `--set`: `train.epochs=3`, in order, after the site.
        site: a file that says where the run takes place; it never enters the result's digest.

    Raises:
        RecipeError: a file can't be read, or what it says isn't a recipe.
    """
    return Draft.from_file(Path(path)).recipe(overrides=overrides, site=site)


def parse_recipe(
    text: str, *, where: str, overrides: Sequence[str] = (), site: Path | str | None = None
) -> Recipe:
    """Read a recipe from text; `where` names its place in errors. Else as `load_recipe`.

    >>> parse_recipe("version: 1\\ndata: {source: digits}", where="recipe.yaml").train.epochs
    10.0
    """
    return Draft.from_text(text, where=where).recipe(overrides=overrides, site=site)


def load_settings(path: Path, kind: type[Settings]) -> Settings:
    """Read another file of settings as strictly as a recipe: of a server, of who is trusted.

    Validators find the file's folder as their context.

    Raises:
        RecipeError: it can't be read, or holds something else.
    """
    where = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise RecipeError(f"can't be read ({error.strerror or error})", where=where) from error
    except UnicodeDecodeError as error:
        raise RecipeError("this isn't text in UTF-8", where=where) from error
    except ValueError as error:  # A path with a NUL.
        raise RecipeError(f"can't be read ({error})", where=where) from error
    if len(data) > MAX_BYTES:
        raise RecipeError("this is longer than 1 MiB", where=where)
    root = read_document(text, where=where)
    if root.value is None:
        root = Node({}, where)  # So that what is missing is named.
    if not isinstance(root.value, dict):
        raise RecipeError("this isn't made of settings", where=where, fix="Write `key: value`")
    try:
        return kind.model_validate(root.plain(), context=path.parent)
    except ValidationError as error:
        raise as_recipe_error(error, root, where, kind) from error


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe as it was written: nothing is validated yet but that it is made of sections."""

    root: Node
    where: str
    """Names its place in errors."""

    @staticmethod
    def from_text(text: str, *, where: str) -> Draft:
        """Read YAML."""
        root = read_document(text, where=where)
        _sections(root)
        return Draft(root, where)

    @staticmethod
    def from_file(path: Path) -> Draft:
        """Read a file of YAML."""
        return Draft.from_text(_text(path), where=str(path))

    @staticmethod
    def from_settings(settings: Mapping[str, Json], *, where: str = "recipe") -> Draft:
        """Take a dict of sections."""
        return Draft(node_of(settings, where=where), where)

    def get(self, key: str) -> Plain:
        """Return what was written of a section; `None` where nothing was."""
        sections = _sections(self.root)
        return sections[key].plain() if key in sections else None

    def put(self, path: str, value: Json) -> None:
        """Set a value at a dotted path."""
        _put(self.root, path.split("."), node_of(value, where=self.where), self.where)

    def recipe(self, *, overrides: Sequence[str] = (), site: Path | str | None = None) -> Recipe:
        """Return the recipe, with a site file and overrides laid over; see `load_recipe`."""
        root = self.root
        _refuse_identity(root)
        placed = _place_site(root, Path(site)) if site is not None else set()
        for override in overrides:
            path = _set_value(root, override)
            placed = {item for item in placed if not f"{item}.".startswith(f"{path}.")}
        try:
            recipe = Recipe.model_validate(root.plain())
        except ValidationError as error:
            raise as_recipe_error(error, root, self.where) from error
        return recipe.read_from(root.places(), site=frozenset(placed))


_DATA = (".csv", ".tsv", ".jsonl", ".parquet", ".npz", ".gz", ".jpg", ".jpeg", ".png", ".wav")
"""How the names of data end, which someone may give in place of a recipe."""


def _text(path: Path) -> str:
    where = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise RecipeError("there is no such recipe", where=where, fix=_near_file(path)) from error
    except IsADirectoryError as error:
        raise RecipeError(
            "this is a folder, not a recipe",
            where=where,
            fix=f"Write a recipe for it with: modelwright new {shlex.quote(str(path))}",
        ) from error
    except OSError as error:
        raise RecipeError(f"can't be read ({error.strerror or error})", where=where) from error
    except ValueError as error:  # a NUL in the path
        raise RecipeError("this is no path of a file", where=repr(where)) from error
    if path.suffix.lower() in _DATA:
        raise RecipeError(
            "this is data, not a recipe",
            where=where,
            fix=f"Write a recipe for it with: modelwright new {shlex.quote(str(path))}",
        )
    if data[:2] == b"PK":
        raise RecipeError("this is a model file or a ZIP, not a recipe", where=where)
    if len(data) > MAX_BYTES:
        raise RecipeError("this is larger than 1 MiB, so it isn't a recipe", where=where)
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            "this isn't text in UTF-8", where=f"{where}:{line}", fix="Save it as UTF-8"
        ) from error


def _near_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"There is no folder {folder} either"
    names: list[str] = []
    with contextlib.suppress(OSError):  # a folder that may not be listed
        names = sorted(item.name for item in folder.iterdir() if item.suffix in (".yaml", ".yml"))
    return nearest(path.name, names) if names else "Write one with: modelwright new FOLDER"


def _sections(root: Node) -> dict[str, Node]:
    """Return the sections of a document; refuse one that has none."""
    if isinstance(root.value, dict):
        return root.value
    sections = f"a recipe is made of sections, and this is {shown(root)}"
    raise RecipeError(
        "this is empty" if root.value is None else sections,
        where=root.place,
        fix="Begin with `version: 1` and `data: {source: digits}`",
    )


def _refuse_identity(root: Node) -> None:
    """Refuse a recipe that says what opens sealed files: recipes are shared, and kept in models."""
    resources = _sections(root).get("resources")
    inner = resources.value if resources is not None else None
    if isinstance(inner, dict) and "identity" in inner and inner["identity"].plain():
        raise RecipeError(
            "`resources.identity` belongs in a site file, not in the recipe",
            where=inner["identity"].place,
            fix="Write it to a site file (--site FILE), or give --identity or MODELWRIGHT_IDENTITY",
        )


def _place_site(root: Node, site: Path) -> set[str]:
    """Lay a site file over the document; return what it gave beside `resources`."""
    sections = _sections(read_document(_text(site), where=str(site)))
    placed: set[str] = set()
    for key, node in sections.items():
        if key == "version":
            if node.value != 1 or isinstance(node.value, (bool, float)):
                raise RecipeError(
                    f"`version` must be `1`; received {shown(node)}", where=node.place
                )
        elif key == "resources":
            if not isinstance(node.value, dict):
                raise RecipeError("`resources` must be a section", where=node.place, fix=_SITE)
            for name, value in node.value.items():
                _put(root, ["resources", name], value, node.place)
        elif key == "data" and isinstance(node.value, dict) and set(node.value) <= {"path"}:
            for name, value in node.value.items():
                _put(root, ["data", name], value, node.place)
                placed.add(f"data.{name}")
        else:
            if key == "data" and isinstance(node.value, dict):
                key, node = next(
                    (f"data.{name}", value) for name, value in node.value.items() if name != "path"
                )
            raise RecipeError(
                f"`{key}` belongs in the recipe, not in a site file", where=node.place, fix=_SITE
            )
    return placed


def _set_value(root: Node, override: str) -> str:
    """Carry out one `--set`; return its path."""
    where = f"--set {short(override, 80)}"
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError("this sets nothing", where=where, fix="Write --set train.epochs=3")
    if len(override) > MAX_BYTES:
        raise RecipeError("this is longer than 1 MiB", where=where)
    if len(keys) > MAX_DEPTH:
        raise RecipeError("this is nested too deeply", where=where, why="No recipe needs that")
    text = text.strip()
    if text.startswith(">"):
        value = Node(text, where)  # The shell took the quotes of a target: >= 0.93
    elif not text:
        value = Node(None, where)
    else:
        value = read_document(text, where=where, lines=False)
    _put(root, keys, value, where)
    return ".".join(keys)


def _put(root: Node, keys: list[str], value: Node, place: str) -> None:
    """Put a value at a path; sections that are missing on the way are made."""
    node = root
    for depth, key in enumerate(keys):
        so_far = ".".join(keys[:depth])
        is_last = depth == len(keys) - 1
        children = node.value
        if isinstance(children, list):
            index = _index(key, children, so_far, place)
            if is_last:
                children[index] = value
            node = children[index]
        elif isinstance(children, dict):
            if is_last:
                children[key] = value
            elif key not in children or children[key].value is None:
                children[key] = _new_section(keys[: depth + 1], keys[depth + 1], place)
            node = children[key]
        else:
            raise RecipeError(
                f"`{so_far}` is {shown(node)}, not a section with settings of its own",
                where=place,
                fix=f"Set the whole of it: --set {so_far}=VALUE",
            )


def _index(key: str, entries: list[Node], so_far: str, place: str) -> int:
    if key.isascii() and key.isdigit() and len(key) < 9 and int(key) < len(entries):
        return int(key)
    last = f"0 to {len(entries) - 1}" if entries else "none"
    raise RecipeError(
        f"`{so_far}` is a list and has no entry `{key}`",
        where=place,
        fix=f"Its entries are numbered: {last}",
    )


def _new_section(keys: list[str], following: str, place: str) -> Node:
    """Return a section to set something in: of the kind that the default is."""
    if following.isdigit():
        path = ".".join(keys)
        raise RecipeError(
            f"`{path}` isn't in the recipe, so it has no entry {following}",
            where=place,
            fix=f"Set the whole list: --set {path}=[…]",
        )
    spec: type[object] = Recipe
    for key in keys:
        field = spec.model_fields.get(key) if issubclass(spec, Spec) else None
        spec = type(field.default) if field else object
    tag, word = tag_of(spec) if issubclass(spec, Spec) else ("", "")
    return Node({tag: Node(word, place)} if tag and tag != following else {}, place)
