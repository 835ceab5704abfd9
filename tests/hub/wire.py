"""One connection: requests are read from it, answers are sent, at their pace, with their breaks."""

import contextlib
import fcntl
import os
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tests.hub.reply import Body, Delivery, Reply
from tests.hub.stats import Request

_PIECE = 1 << 20  # bytes of one send
_PACED_SECONDS = 0.01  # a paced piece takes about so long


class Broken(Exception):
    """The connection is over: the client left, or a fault ended it."""


@dataclass
class Shape:
    """A link: bytes a second of each connection (None: as fast as it goes), seconds before every answer."""

    bytes_per_second: float | None = None
    latency: float = 0.0


def read_head(stream: BinaryIO) -> tuple[str, str, dict[str, str]] | None:
    """Method, target and headers (lower case, repeated ones joined) of the next request; None at the end."""
    line = stream.readline(1 << 16)
    parts = line.decode("latin-1").split()
    if len(parts) != 3:
        return None
    headers: dict[str, str] = {}
    while (line := stream.readline(1 << 16)) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return parts[0], parts[1], headers


class Wire:
    """The sending side of a connection.

    Args:
        sock: A connected socket, plain or TLS.
        closing: Set when the server stops: no pause outlives it.
    """

    def __init__(self, sock: socket.socket, closing: threading.Event) -> None:
        self.sock, self._closing = sock, closing
        self._due = 0.0  # when the connection may send again
        self._plain = not hasattr(sock, "do_handshake")  # the kernel cannot encrypt: no sendfile under TLS

    def send(self, reply: Reply, request: Request, shape: Shape, *, close: bool) -> None:
        """Send an answer.

        Raises:
            Broken: The connection ended before the answer did.
        """
        try:
            self._send(reply, request, shape, close)
        except OSError as error:
            raise Broken from error

    def _send(self, reply: Reply, request: Request, shape: Shape, close: bool) -> None:
        delivery = reply.delivery
        self._sleep(shape.latency)
        if delivery.cut_after is not None and delivery.cut_after < 0:
            self._end(delivery)
        request.status = reply.status
        head = reply.head(close=close)
        empty = request.method == "HEAD" or reply.status in (204, 304)
        total = 0 if empty else reply.body.size
        if not empty and delivery == Delivery() and shape.bytes_per_second is None and 0 < total <= 1 << 14:
            request.sent_bytes += total
            self.sock.sendall(head + bytes(reply.body.read(0, total)))
            return
        self._send_head(head, delivery)
        if not empty:
            self._send_body(reply, request, shape, total)
        if delivery.hang_up:
            raise Broken

    def _send_head(self, head: bytes, delivery: Delivery) -> None:
        if delivery.drip:
            for byte in head:
                self._sleep(delivery.header_delay / len(head))
                self.sock.sendall(bytes([byte]))
        else:
            self._sleep(delivery.header_delay)
            self.sock.sendall(head)

    def _send_body(self, reply: Reply, request: Request, shape: Shape, total: int) -> None:
        delivery = reply.delivery
        cut = delivery.cut_after
        stop = total if cut is None else min(cut, total)
        largest = delivery.chunk or _PIECE
        if shape.bytes_per_second is not None:
            largest = max(1, min(largest, int(shape.bytes_per_second * _PACED_SECONDS)))
        stall_at = min(delivery.stall_after, total) if delivery.stall_after is not None else None
        for offset, count in _pieces(stop, largest, stall_at):
            if offset == stall_at:
                self._sleep(delivery.stall)
            self._pace(shape, count)
            self._send_piece(reply.body, request, offset, count, chunked=delivery.chunk is not None)
        if stall_at == stop:
            self._sleep(delivery.stall)
        if cut is not None and (cut < total or delivery.chunk is not None):
            self._end(delivery)
        if delivery.chunk is not None:
            self.sock.sendall(b"0\r\n\r\n")

    def _send_piece(self, body: Body, request: Request, offset: int, count: int, *, chunked: bool) -> None:
        # Counted before it is sent, so that a client that has it all never reads a record that lags behind.
        request.sent_bytes += count
        sent = 0
        view = memoryview(b"")
        try:
            if chunked:
                self.sock.sendall(b"%x\r\n" % count + bytes(body.read(offset, count)) + b"\r\n")
                sent = count
            while sent < count:
                if body.fd is not None and self._plain:
                    more = os.sendfile(self.sock.fileno(), body.fd, body.start + offset + sent, count - sent)
                else:
                    view = view or memoryview(body.read(offset + sent, count - sent))
                    more = self.sock.send(view)
                    view = view[more:]
                if not more:
                    raise BrokenPipeError("the file is shorter than it was")
                sent += more
        except OSError:
            request.sent_bytes -= count - sent
            raise

    def _pace(self, shape: Shape, count: int) -> None:
        if shape.bytes_per_second is None:
            return
        now = time.monotonic()
        self._due = max(self._due, now - _PACED_SECONDS) + count / shape.bytes_per_second
        self._sleep(self._due - now)

    def _sleep(self, seconds: float) -> None:
        if seconds > 0 and self._closing.wait(seconds):
            raise Broken

    def _end(self, delivery: Delivery) -> None:
        if delivery.ending == "reset":
            self._drain()
            # Linger 0: close sends RST instead of FIN.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Broken

    def _drain(self) -> None:
        """Wait until the peer's kernel has what was sent: an RST throws the rest of the send buffer away."""
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            (waiting,) = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, struct.pack("i", 0)))
            if not waiting:
                return
            self._sleep(0.001)

    def close(self) -> None:
        """Close the socket: a FIN, or the RST that was prepared."""
        with contextlib.suppress(OSError):
            self.sock.close()


def _pieces(stop: int, largest: int, border: int | None) -> Iterator[tuple[int, int]]:
    """Offset and length of pieces of at most `largest` that cover 0 to `stop`, none across `border`."""
    offset = 0
    while offset < stop:
        end = min(stop, offset + largest)
        if border is not None and offset < border < end:
            end = border
        yield offset, end - offset
        offset = end
