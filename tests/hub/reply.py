"""An answer before it is sent: status, headers, a body that is read in pieces, and how to deliver it."""

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

from tests.hub.blob import Blob


class Body(Protocol):
    """Bytes by offset; `fd` and `start` allow sendfile where the bytes are a file's own."""

    size: int
    start: int
    fd: int | None

    def read(self, offset: int, count: int) -> bytes | memoryview: ...


class Text:
    """A body in memory."""

    fd = None
    start = 0

    def __init__(self, content: bytes = b"") -> None:
        self._view = memoryview(content)
        self.size = len(content)

    def read(self, offset: int, count: int) -> memoryview:
        return self._view[offset : offset + count]


class Slice:
    """Bytes `start` to `stop` of a blob."""

    def __init__(self, blob: Blob, start: int, stop: int) -> None:
        self.blob, self.start, self.stop = blob, start, stop
        self.size = stop - start
        self.fd = blob.fd

    def read(self, offset: int, count: int) -> bytes | memoryview:
        return self.blob.read(self.start + offset, min(count, self.size - offset))


@dataclass
class Delivery:
    """How the bytes go onto the wire; the defaults are an honest server's."""

    header_delay: float = 0.0  # seconds from the request to the end of the headers
    drip: bool = False  # the headers come one byte at a time over that delay
    chunk: int | None = None  # Transfer-Encoding: chunked, in chunks of so many bytes
    stall_after: int | None = None  # bytes of the body before the pause
    stall: float = 0.0  # seconds of the pause
    cut_after: int | None = None  # bytes of the body after which the connection ends; -1: before the headers
    ending: str = "close"  # "close" is a FIN, "reset" an RST
    hang_up: bool = False  # close after a complete answer without having said so


@dataclass
class Reply:
    """An answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Body = field(default_factory=Text)
    delivery: Delivery = field(default_factory=Delivery)

    def head(self, *, close: bool) -> bytes:
        """The status line and the headers."""
        reason = HTTPStatus(self.status).phrase if self.status in HTTPStatus._value2member_map_ else "Unknown"
        headers = {"Server": "loopback", "Date": "Thu, 01 Jan 2026 00:00:00 GMT", **self.headers}
        if self.delivery.chunk is not None:
            headers.pop("Content-Length", None)
            headers["Transfer-Encoding"] = "chunked"
        elif self.status not in (204, 304):
            headers.setdefault("Content-Length", str(self.body.size))
        if close:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {self.status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def json_reply(value: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON answer; header names are given with `_` for `-`."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    body = Text(json.dumps(value).encode())
    return Reply(status, {"Content-Type": "application/json; charset=utf-8", **named}, body)


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """An error as the Hub words it: X-Error-Code (if any), X-Error-Message, and the message as JSON."""
    reply = json_reply({"error": message}, status, **headers)
    if code:
        reply.headers["X-Error-Code"] = code
    reply.headers["X-Error-Message"] = message
    return reply


def redirect(location: str, status: int = 302, **headers: str) -> Reply:
    """A redirect; the body says where to, as the Hub's does."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    body = Text(f"{HTTPStatus(status).phrase}. Redirecting to {location}".encode())
    return Reply(status, {"Content-Type": "text/plain; charset=utf-8", "Location": location, **named}, body)
