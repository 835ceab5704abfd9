"""Connections that are closed while other threads use them."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from weightscope.checkpoints.transport import Transport
from weightscope.errors import TransferError


class Connecting:
    """A server that takes connections and never answers, and a client that is slow to connect to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/"
        connect = socket.create_connection

        def slowly(*args: object, **kwargs: object) -> socket.socket:
            self.begun.set()
            assert self.may_end.wait(10)
            return connect(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(socket, "create_connection", slowly)

    def asked(self) -> bytes:
        """What came over the connection until it was closed."""
        connection, _ = self._server.accept()
        with connection, self._server:
            connection.settimeout(10)
            return connection.recv(1000)


def test_what_was_connecting_when_the_transport_was_closed_asks_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connecting = Connecting(monkeypatch)
    transport = Transport(timeout=30)
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            transport.get(connecting.url, {})
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert connecting.begun.wait(10)
    closed = time.monotonic()
    transport.close()
    connecting.may_end.set()
    thread.join(20)
    assert time.monotonic() - closed < 5  # not the 30 seconds of an answer that does not come
    assert isinstance(caught[0], TransferError)
    assert connecting.asked() == b""
