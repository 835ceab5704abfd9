"""GET requests over connections that are kept open, each answer read straight into the caller's memory.

The standard library's client, since it alone reads into memory of ours: half the processor time a byte of
the next best. Proxies and certificates come from the environment, as elsewhere.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Lock
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from weightscope.errors import TransferError

# Of a chunked answer, at most what is lost when it breaks off.
_WINDOW = 2**16
_REDIRECTS, _MOST_REDIRECTS = {301, 302, 303, 307, 308}, 5


class Answer:
    """An answer whose body has not been read yet; close it.

    Attributes:
        status: Of the last of the redirects.
        headers: Names in any case.
    """

    def __init__(self, transport: Transport, key: tuple[str, str], connection: HTTPConnection) -> None:
        self._transport, self._key, self._connection = transport, key, connection
        self._response: HTTPResponse = connection.getresponse()
        self.status = self._response.status
        self.headers = self._response.headers
        length = self._response.length
        self.length = length
        """Bytes of the body; None where the answer does not say."""
        self._left = length

    def readinto(self, target: memoryview) -> int:
        """Read what is there, at least a byte; 0 at the end of the body.

        Raises:
            OSError: The connection broke.
            HTTPException: What came is no HTTP.
        """
        if self._left is None:
            return self._response.readinto(target[:_WINDOW])
        if not self._left:
            return 0
        body = self._response.fp
        if body is None:
            return 0
        count: int = body.readinto1(target[: self._left])
        self._left -= count
        return count

    def close(self) -> None:
        """Let another request have the connection, if this answer was read to its end."""
        whole = self._left == 0 or self._response.isclosed()
        keeps = whole and not self._response.will_close
        self._response.close()
        self._transport.give_back(self._key, self._connection, keeps=keeps)


class Transport:
    """Connections to any number of servers, for any number of threads.

    Args:
        timeout: Seconds without a byte after which a connection counts as broken.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._idle: dict[tuple[str, str], list[HTTPConnection]] = {}
        self._busy: set[HTTPConnection] = set()
        self._lock = Lock()
        self._closed = False
        self._context: ssl.SSLContext | None = None

    def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Ask for a page, and for where it moved to. An `Authorization` goes to no other origin.

        Raises:
            OSError: No connection, or it broke.
            HTTPException: What came is no HTTP.
            TransferError: Too many redirects, one to an unsafe place, or the transport is closed.
        """
        try:
            return self._get(url, headers)
        except ValueError as error:  # of a port, a name or a character that no address has
            raise TransferError(
                f"A file was asked for from {_host(url)}.",
                f"The server sent us on to an address that is none ({str(error)[:80]}).",
                "Check HF_ENDPOINT and the network; a login page of the network may be in the way.",
            ) from None

    def _get(self, url: str, headers: Mapping[str, str]) -> Answer:
        sent = dict(headers)
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._ask(urlsplit(url), sent)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            answer.close()
            target = urljoin(url, location)
            if origin(target) != origin(url):
                sent = {name: value for name, value in sent.items() if name.lower() != "authorization"}
            check_redirect(url, target)
            url = target
        raise TransferError(
            f"A file was asked for from {_host(url)}.",
            f"The server redirected more than {_MOST_REDIRECTS} times.",
            "Try again later, or download the checkpoint with --cache.",
        )

    def give_back(self, key: tuple[str, str], connection: HTTPConnection, *, keeps: bool) -> None:
        """A connection that is no longer used; `keeps` if it can be used again."""
        with self._lock:
            self._busy.discard(connection)
            if keeps and not self._closed:
                self._idle.setdefault(key, []).append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close all connections; requests in other threads fail at once."""
        with self._lock:
            self._closed = True
            idle = [connection for connections in self._idle.values() for connection in connections]
            busy = list(self._busy)
            self._idle.clear()
        for connection in busy:
            if connection.sock is not None:
                with contextlib.suppress(OSError):  # closed by the other side already
                    connection.sock.shutdown(socket.SHUT_RDWR)
        for connection in idle:
            connection.close()

    def _ask(self, url: SplitResult, headers: Mapping[str, str]) -> Answer:
        key = (url.scheme, url.netloc)
        with self._lock:
            kept = self._idle.get(key)
            connection = kept.pop() if kept else None
        if connection is not None:
            try:
                return self._send(key, connection, url, headers)
            except (OSError, HTTPException):  # the server had closed it meanwhile
                connection.close()
        return self._send(key, self._connect(url), url, headers)

    def _send(
        self, key: tuple[str, str], connection: HTTPConnection, url: SplitResult, headers: Mapping[str, str]
    ) -> Answer:
        with self._lock:
            self._busy.add(connection)
        proxy = _proxy_for(url)
        page = f"{url.path or '/'}{'?' + url.query if url.query else ''}"
        sent = dict(headers)
        if proxy and url.scheme == "http":
            page = f"http://{url.netloc}{page}"
            sent.update(_proxy_credentials(proxy))
        try:
            if connection.sock is None:
                connection.connect()
            # Only now: `close` cannot shut down what has no socket yet.
            if self._closed:
                raise TransferError(
                    f"A file was asked for from {_host(url.geturl())}.",
                    "The checkpoint was closed.",
                    "Open it again.",
                )
            connection.request("GET", page, headers=sent)
            return Answer(self, key, connection)
        except BaseException:
            self.give_back(key, connection, keeps=False)
            raise

    def _connect(self, url: SplitResult) -> HTTPConnection:
        host, port = url.hostname or "", url.port
        proxy = _proxy_for(url)
        if url.scheme != "https":
            place = (proxy.hostname or "", proxy.port or 80) if proxy else (host, port or 80)
            return HTTPConnection(*place, timeout=self._timeout)
        if self._context is None:
            self._context = ssl.create_default_context()
        if not proxy:
            return HTTPSConnection(host, port or 443, timeout=self._timeout, context=self._context)
        tunnel = HTTPSConnection(
            proxy.hostname or "", proxy.port or 80, timeout=self._timeout, context=self._context
        )
        tunnel.set_tunnel(host, port or 443, headers=_proxy_credentials(proxy))
        return tunnel


def _host(url: str) -> str:
    """For messages: an address may hold a password."""
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2]


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what a secret may be sent to."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or (443 if scheme == "https" else 80)


def check_redirect(source: str, target: str) -> None:
    """Whether an address that a server names may be followed.

    Raises:
        TransferError: It is no address of the web, or less safe than the one before.
    """
    scheme = urlsplit(target).scheme.lower()
    if scheme not in ("http", "https") or (scheme == "http" and source.lower().startswith("https:")):
        raise TransferError(
            f"A file was asked for from {_host(source)}.",
            f"The server sent us on to an address that begins with '{scheme[:20]}:', which is not safe.",
            "Check HF_ENDPOINT and the network; a login page of the network may be in the way.",
        )


def _proxy_for(url: SplitResult) -> SplitResult | None:
    """By the environment: http_proxy, https_proxy, all_proxy, no_proxy."""
    proxies = getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address or proxy_bypass(url.netloc):
        return None
    proxy = urlsplit(address if "://" in address else f"http://{address}")
    if proxy.scheme != "http":
        raise TransferError(
            f"A file was asked for from {_host(url.geturl())} through a proxy.",
            f"Proxies of the type '{proxy.scheme[:20]}' are not supported when weights are streamed.",
            "Name an http:// proxy in the environment, or download the checkpoint with --cache.",
        )
    return proxy


def _proxy_credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
