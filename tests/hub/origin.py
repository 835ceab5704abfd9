"""One origin: a listening socket and a thread for every connection to it."""

import contextlib
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable

from tests.hub.exchange import Exchange, State, split_target
from tests.hub.reply import Reply, Slice
from tests.hub.stats import Request
from tests.hub.wire import Broken, Shape, Wire, read_head

Answer = Callable[[Exchange], Reply]


class Origin(socketserver.ThreadingTCPServer):
    """A server that keeps connections alive and says nothing on stderr.

    Args:
        name: `hub`, `storage` or `foreign`.
        state: What the origins share.
        place: Of a path: `api`, `resolve`, `storage`; `control` is neither recorded nor delayed.
        answer: Makes the reply.
        host: An address of the loopback interface.
        port: 0 for a free one.
        tls: Serves https with it.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(
        self,
        name: str,
        state: State,
        place: Callable[[str], str],
        answer: Answer,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__((host, port), _Connection)
        self.name, self.state, self.place, self.answer, self.tls = name, state, place, answer, tls
        self.url = f"{'https' if tls else 'http'}://{host}:{self.server_address[1]}"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        # A short poll: stopping waits for it.
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def hold(self, sock: socket.socket) -> None:
        """Remember an open connection."""
        with self._lock:
            self._open.add(sock)

    def release(self, sock: socket.socket) -> None:
        """Forget it."""
        with self._lock:
            self._open.discard(sock)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients leave as they like."""

    def stop(self) -> None:
        """Close the listening socket and every connection."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        deadline = time.monotonic() + 2.0
        while self._open and time.monotonic() < deadline:
            with self._lock:
                held = list(self._open)
            for sock in held:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            time.sleep(0.002)


class _Connection(socketserver.BaseRequestHandler):
    """Reads requests from one connection and answers each."""

    server: Origin

    def handle(self) -> None:
        sock: socket.socket = self.request
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        origin = self.server
        if origin.tls is not None:
            try:
                sock = origin.tls.wrap_socket(sock, server_side=True)
            except OSError:
                sock.close()
                return
        origin.hold(sock)
        stream = sock.makefile("rb")
        number = next(origin.state.connections)
        wire = Wire(sock, origin.state.closing)
        try:
            while self._one(wire, stream, number):
                pass
        except (Broken, OSError, ValueError):
            pass
        finally:
            origin.release(sock)
            stream.close()
            wire.close()

    def _one(self, wire: Wire, stream: socket.SocketIO, number: int) -> bool:
        origin, state = self.server, self.server.state
        head = read_head(stream)  # type: ignore[arg-type]
        if head is None:
            return False
        method, target, headers = head
        body = stream.read(int(headers.get("content-length", 0)))
        path, query = split_target(target)
        request = Request(origin.name, method, path, query, headers, headers.get("range"), connection=number)
        request.time = time.monotonic() - state.started
        place = origin.place(path)
        request.name = path
        if place != "control":
            state.stats.add(request)
        reply = origin.answer(Exchange(state, request, place, body or b""))
        if isinstance(reply.body, Slice) and method != "HEAD":
            request.served = reply.body.start, reply.body.stop
        shape = state.shape if place == "storage" else Shape(None, state.shape.latency)
        close = headers.get("connection", "").lower() == "close"
        wire.send(reply, request, Shape() if place == "control" else shape, close=close)
        return not close

    def finish(self) -> None:
        """The connection is closed in `handle`."""
