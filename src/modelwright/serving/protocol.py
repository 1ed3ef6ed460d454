"""HTTP/1.1 as uvicorn reads it with httptools, with a bound on all that isn't a body."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 << 10
"""So long the head of a request may be; what comes at once, up to 256 KiB, is read in any case."""
_A_BODY_BYTE = 6
"""A chunk of one byte comes as six."""
_ANSWER = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
_ANSWER += b"content-length: 0\r\nconnection: close\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection whose heads, trailers or chunk sizes go on and on; httptools keeps them."""

    _unread, _in_head = 0, False

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_ANSWER)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._unread, self._in_head = 0, True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer, which nothing here asks for, is passed over."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the application answer."""
        self._unread, self._in_head = 0, False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._unread = max(0, self._unread - _A_BODY_BYTE * len(body))
        super().on_body(body)
