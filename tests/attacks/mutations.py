"""Changes at random of bytes and of JSON values. The same generator makes the same changes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

_SPECIAL = (b"\x00", b"\xff", b"\n", b'"', b"-", b"9" * 20, b"[" * 40, b"\xed\xa0\x80", b"1e999")
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**40, 0.5, -1e308, 1e308),
    *("", "x", "\x00", "\ud83d", "N", "a" * 5000, [], {}, [[]], [None], {"": 0}),
)
"""JSON values of all kinds."""


def mutated_bytes(data: bytes, draw: random.Random, *, most: int = 4) -> bytes:
    """Return the bytes with some changes: flips, cuts, copies, insertions."""
    changed_data = bytearray(data)
    for _ in range(draw.randint(1, most)):
        at = draw.randrange(len(changed_data) + 1)
        size = draw.choice((1, 1, 2, 4, 16, 256))
        match draw.randrange(6):
            case 0 if at < len(changed_data):
                changed_data[at] ^= 1 << draw.randrange(8)
            case 1:
                changed_data[at : at + size] = draw.randbytes(size)
            case 2:
                del changed_data[at : at + size]
            case 3:
                changed_data[at:at] = changed_data[at : at + size]
            case 4:
                changed_data[at : at + draw.randint(0, 4)] = draw.choice(_SPECIAL)
            case _:
                other = draw.randrange(len(changed_data) + 1)
                changed_data[at : at + size] = changed_data[other : other + size]
    return bytes(changed_data)


def mutated_json(value: Any, draw: random.Random) -> Any:
    """Return a JSON value in which one to three values were replaced, removed or given twice."""
    value = json.loads(json.dumps(value))
    for _ in range(draw.randint(1, 3)):
        found = list(places(value))
        if not found:
            return deepcopy(draw.choice(VALUES))
        holder, key = draw.choice(found)
        match draw.randrange(5):
            case 0:
                del holder[key]
            case 1:
                holder[key] = deepcopy(draw.choice(found)[0])
            case 2 if isinstance(holder, dict):
                name = draw.choice(("x", "", "kind", f"{key}s"))
                holder[name] = deepcopy(holder[key])
            case 3 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
                holder[key] += draw.choice((-1, 1, 2**16, 0.5))
            case _:
                holder[key] = deepcopy(draw.choice(VALUES))
    return value


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each place in a JSON value: what holds it, and the key or number there."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, dict | list):
            yield from places(item)
