"""What server and workers tell each other over a socket: a JSON header, then bytes.

A message is the lengths of its header and of each of its parts, the header, and the parts. Inputs
and answers are parts, so nothing is encoded twice, and nothing is ever unpickled.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Sequence

from modelwright.files import JsonObject

Message = tuple[JsonObject, list[bytes]]
"""A header, and what goes with it."""
_LENGTHS = struct.Struct("<II")
"""Of the header and of all parts."""


def encode(header: JsonObject, parts: Sequence[bytes] = ()) -> bytes:
    """Return a message's bytes."""
    head = json.dumps({**header, "sizes": [len(part) for part in parts]}).encode()
    return b"".join([_LENGTHS.pack(len(head), sum(map(len, parts))), head, *parts])


def _decode(head: bytes, body: bytes) -> Message:
    header, parts, start = json.loads(head), [], 0
    for size in header.pop("sizes"):
        parts.append(body[start : start + size])
        start += size
    return header, parts


async def receive(reader: asyncio.StreamReader) -> Message:
    """Return the next message.

    Raises:
        EOFError: the other side has closed the socket.
    """
    head, body = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    data = await reader.readexactly(head + body)
    return _decode(data[:head], data[head:])


def receive_blocking(connection: socket.socket) -> Message:
    """Return the next message, as `receive` does, in a process without an event loop."""
    head, body = _LENGTHS.unpack(_exactly(connection, _LENGTHS.size))
    return _decode(_exactly(connection, head), _exactly(connection, body))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = connection.recv_into(view[done:])
        if not count:
            raise EOFError
        done += count
    return bytes(data)
