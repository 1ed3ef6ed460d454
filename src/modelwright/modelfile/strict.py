"""Reading JSON from a file that may be hostile: canonical bytes or nothing.

A member is accepted only where encoding what was read gives its bytes again, so that keys given
twice, blanks, NaN and other spellings of one value are refused by one law.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TypeVar

from modelwright.errors import ModelFileError
from modelwright.files import Json, JsonObject, canonical_json

T = TypeVar("T")

MOST_JSON_BYTES = 64 << 20
"""A JSON member is at most this long; 100,000 labels take some 2 MiB."""
MOST_VALUES = 1 << 21
"""Its commas and opening brackets are at most so many: in memory a value takes some 80 bytes."""
DEEPEST = 32
"""JSON is nested at most this deep."""


def parse_json(data: bytes, *, name: str) -> Json:
    """Return the value of a canonical JSON member."""
    check_json_size(data, name=name)
    try:
        value = json.loads(data.decode(), object_pairs_hook=_once)
        if _is_deep(value):
            raise _refused(name, "is nested too deep")
        if canonical_json(value) != data:
            raise _refused(name, "isn't written in the canonical form")
    except RecursionError as error:
        raise _refused(name, "is nested too deep") from error
    except ValueError as error:
        raise _refused(name, f"isn't valid JSON ({error})") from error
    return value


def check_json_size(data: bytes, *, name: str) -> None:
    """Refuse a member whose JSON, or whose lines of JSON, would take much memory."""
    if len(data) > MOST_JSON_BYTES:
        raise _refused(name, f"is longer than {MOST_JSON_BYTES >> 20} MiB")
    if _counted(data) > MOST_VALUES:
        raise _refused(name, f"holds more than {MOST_VALUES:,} values")


def json_member(value: Json, *, name: str) -> bytes:
    """Return the canonical bytes of a member that is about to be written."""
    try:
        data = canonical_json(value)
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"`{name}` can't be written as JSON ({error})") from error
    if _is_deep(value) or len(data) > MOST_JSON_BYTES or _counted(data) > MOST_VALUES:
        raise ModelFileError(f"`{name}` is too long or nested too deep to be written")
    return data


def field(value: Json, key: str, kind: type[T], *, name: str) -> T:
    """Return an entry of a JSON object, which must be there and of this kind."""
    entry = value.get(key) if isinstance(value, dict) else None
    if not isinstance(entry, kind) or (isinstance(entry, bool) and kind is not bool):
        raise _refused(name, f"has no `{key}` of the right kind")
    return entry


def only_keys(value: JsonObject, keys: Iterable[str], *, name: str) -> None:
    """Refuse keys that this version doesn't know: what they mean might change a prediction."""
    others = sorted(set(value) - set(keys))
    if others:
        raise ModelFileError(
            f"`{name}` holds `{others[0]}`, which this version doesn't know",
            fix="Update modelwright: a newer one may have written the file",
        )


def _refused(name: str, why: str) -> ModelFileError:
    return ModelFileError(f"`{name}` {why}")


def _once(pairs: list[tuple[str, Json]]) -> JsonObject:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is given twice")
    return value


def _counted(data: bytes) -> int:
    return sum(data.count(mark) for mark in (b",", b"[", b"{"))


def _is_deep(value: Json) -> bool:
    level = [value] if isinstance(value, dict | list | tuple) else []
    for _ in range(DEEPEST):
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [item for items in inner for item in items if isinstance(item, dict | list | tuple)]
    return bool(level)
