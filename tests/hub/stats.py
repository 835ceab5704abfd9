"""What the servers saw and sent: one record a request, made before the first byte of the answer."""

import threading
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Request:
    """One request and what became of it.

    Attributes:
        origin: `hub`, `storage` or `foreign`.
        path: As it came over the wire, percent-encoded, without the query.
        query: The raw query, empty if there is none.
        headers: Names in lower case; `authorization` shows where a token went.
        range: The Range header's value, or None.
        status: Of the answer; 0 as long as there is none, and if the connection broke before it.
        sent_bytes: Of the body, given to the kernel; after a reset fewer may have arrived.
        served: First and one past the last byte of the file that the answer holds, or None.
        name: The file's name in its repository, or the API's path.
        faults: The kinds of fault that were done to this answer.
        connection: Number of the TCP connection, counted over all origins.
        time: Seconds since the hub started, when the request had been read.
    """

    origin: str
    method: str
    path: str
    query: str
    headers: dict[str, str]
    range: str | None = None
    status: int = 0
    sent_bytes: int = 0
    served: tuple[int, int] | None = None
    name: str = ""
    faults: list[str] = field(default_factory=list)
    connection: int = 0
    time: float = 0.0

    @property
    def authorization(self) -> str | None:
        """The token header, or None."""
        return self.headers.get("authorization")


class Stats:
    """All requests since the start or the last reset, in the order in which they came."""

    def __init__(self, requests: list[Request] | None = None) -> None:
        self.requests: list[Request] = requests or []
        self._lock = threading.Lock()

    def add(self, request: Request) -> None:
        """Note a request."""
        with self._lock:
            self.requests.append(request)

    def bytes_sent(self, origin: str | None = None) -> int:
        """Bytes of bodies, of one origin or of all."""
        return sum(request.sent_bytes for request in list(self.requests) if origin in (None, request.origin))

    def of(
        self, origin: str | None = None, method: str | None = None, name: str | None = None
    ) -> list[Request]:
        """The requests that fit."""
        return [
            request
            for request in list(self.requests)
            if origin in (None, request.origin)
            and method in (None, request.method)
            and name in (None, request.name)
        ]

    def reset(self) -> None:
        """Forget all requests."""
        with self._lock:
            self.requests = []

    def as_json(self) -> list[dict[str, Any]]:
        """The records as plain data."""
        return [asdict(request) for request in list(self.requests)]

    @classmethod
    def from_json(cls, records: list[dict[str, Any]]) -> "Stats":
        """The records back from plain data."""
        requests = [Request(**record) for record in records]
        for request in requests:
            request.served = tuple(request.served) if request.served else None  # type: ignore[assignment]
        return cls(requests)
