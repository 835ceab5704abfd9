"""A forward proxy: plain requests in absolute form, and tunnels by CONNECT."""

import base64
import contextlib
import select
import socket
import socketserver
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.hub.exchange import split_target
from tests.hub.stats import Request
from tests.hub.wire import read_head


class ForwardProxy(socketserver.ThreadingTCPServer):
    """Runs between `with` and its end.

    Args:
        credentials: `user:password` that it wants, or 407.

    Attributes:
        url: What HTTP_PROXY or HTTPS_PROXY takes; without the credentials.
        requests: What it was asked; `path` is the whole address, or host:port of a tunnel.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, credentials: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Client)
        self.wanted = base64.b64encode(credentials.encode()).decode() if credentials else None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients and servers leave as they like."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Client(socketserver.StreamRequestHandler):
    """One request a connection: the answer ends it."""

    server: ForwardProxy
    rbufsize = 0  # what follows the headers belongs to the other side

    def handle(self) -> None:
        head = read_head(self.rfile)
        if head is None:
            return
        method, target, headers = head
        self.server.requests.append(Request("proxy", method, target, "", headers, headers.get("range")))
        if self.server.wanted and headers.get("proxy-authorization") != f"Basic {self.server.wanted}":
            self._refuse("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="proxy"\r\n')
            return
        host, _, port = (target if method == "CONNECT" else urlsplit(target).netloc).rpartition(":")
        try:
            upstream = socket.create_connection((host, int(port)), timeout=10)
        except (OSError, ValueError):
            self._refuse("502 Bad Gateway")
            return
        with upstream:
            if method == "CONNECT":
                self.connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                upstream.sendall(_forwarded(method, target, headers))
            self._relay(upstream)

    def _refuse(self, status: str, header: str = "") -> None:
        text = f"HTTP/1.1 {status}\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n"
        self.connection.sendall(text.encode())

    def _relay(self, upstream: socket.socket) -> None:
        """Bytes both ways until one side ends."""
        other = {self.connection: upstream, upstream: self.connection}
        with contextlib.suppress(OSError):
            while not self.server.closing.is_set():
                ready, _, _ = select.select(list(other), [], [], 0.2)
                for sock in ready:
                    piece = sock.recv(1 << 18)
                    if not piece:
                        return
                    other[sock].sendall(piece)


def _forwarded(method: str, target: str, headers: dict[str, str]) -> bytes:
    path, query = split_target(target)
    kept = {name: text for name, text in headers.items() if not name.startswith(("proxy-", "connection"))}
    lines = [f"{method} {path}{'?' + query if query else ''} HTTP/1.1"]
    lines += [f"{name}: {text}" for name, text in (kept | {"connection": "close"}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
