"""The one exception family: what went wrong, where, why, and what to do next.

Every error that a user can cause is a `ModelwrightError`. Low code raises small ones; the edge of a
room adds the place, by `located` or `error.at`, and keeps the cause.

    ModelwrightError
    ├── RequestError       a request that makes no sense (command line: exit 2)
    │   └── RecipeError    a recipe that can't be read or carried out
    ├── DataError          the data is missing, broken or unfit
    ├── ModelFileError     a model file that isn't one, is damaged, or is of another version
    │   └── SignatureError one that isn't signed by whom it must be
    ├── SealError          a sealed file that can't be opened, or a key that can't be used
    ├── TrainingError      training diverged or can't go on
    ├── ResourceError      disk, memory, permission, a lock held by another run
    ├── MissingExtraError  an optional library isn't installed
    └── StoppedError       a stop was requested; what was done is saved
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
from collections.abc import Iterable, Iterator
from types import ModuleType


class ModelwrightError(Exception):
    """An error with its place, reason and way out.

    Args:
        what: what is wrong, one sentence without a full stop.
        where: the place, as `file`, `file:line` or `file, row 12`.
        why: the reason, where it isn't plain.
        fix: what to do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", why: str = "", fix: str = "") -> None:
        self.what, self.where, self.why, self.fix = what, where, why, fix
        super().__init__(what)

    def at(self, where: str) -> ModelwrightError:
        """Return the same error with its place, unless it already has one."""
        if not self.where:
            self.where = where
        return self

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return " ".join(_sentence(part) for part in (head, self.why, self.fix) if part)


class RequestError(ModelwrightError):
    """A request that makes no sense."""

    exit_code = 2


class RecipeError(RequestError):
    """A recipe that can't be read or carried out."""


class DataError(ModelwrightError):
    """The data is missing, broken or unfit for the task."""


class ModelFileError(ModelwrightError):
    """Not a model file, a damaged one, or one of another version."""


class SignatureError(ModelFileError):
    """A model file that isn't signed, or not by one whom the trust policy names."""


class SealError(ModelwrightError):
    """A sealed file that can't be opened, or a key that can't be used."""


class TrainingError(ModelwrightError):
    """Training diverged or can't go on."""


class CompressionError(ModelwrightError):
    """A step of `compress` costs more of the main metric than is allowed."""


class ResourceError(ModelwrightError):
    """The disk, the memory, a permission, or a lock held by another run."""


class MissingExtraError(ModelwrightError):
    """An optional library isn't installed."""


class StoppedError(ModelwrightError):
    """A stop was requested; what was done is saved."""


@contextlib.contextmanager
def located(where: object, kind: type[ModelwrightError] = ModelwrightError) -> Iterator[None]:
    """Give errors of a kind that the block raises this place, unless they have one already."""
    try:
        yield
    except kind as error:
        error.at(str(where))
        raise


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "?", "!", ":")) else text + "."


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return `Did you mean `x`?` for the nearest choice, else the list of choices.

    >>> nearest("widht", ["width", "depth"])
    'Did you mean `width`?'
    """
    choices = list(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f"Did you mean `{close[0]}`?"
    shown = ", ".join(f"`{choice}`" for choice in choices[:12])
    return f"Use one of {shown}" + (f" (and {len(choices) - 12} more)" if len(choices) > 12 else "")


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional library, or say which extra installs it.

    Raises:
        MissingExtraError: the library isn't installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise
        raise MissingExtraError(
            f"{purpose} needs the library `{module.partition('.')[0]}`, which isn't installed",
            fix=f"Install it with: pip install -c constraints.txt 'modelwright[{extra}]'",
        ) from error
