"""One request while it is answered, and the servers' common state that its answer depends on."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.repository import Entry, Repository
from tests.hub.signatures import Signer
from tests.hub.stats import Request, Stats
from tests.hub.wire import Shape


@dataclass
class State:
    """What the hub and the storage share."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)  # token -> user name
    stored: dict[str, Entry] = field(default_factory=dict)  # path on the storage -> file
    origins: dict[str, str] = field(default_factory=dict)  # origin -> "http://host:port"
    stats: Stats = field(default_factory=Stats)
    shape: Shape = field(default_factory=Shape)  # of the storage; the hub has its latency only
    signer: Signer = field(default_factory=Signer)
    page_size: int = 1000  # entries of a page of the tree
    closing: threading.Event = field(default_factory=threading.Event)
    connections: Iterator[int] = field(default_factory=count)
    started: float = field(default_factory=time.monotonic)


@dataclass
class Exchange:
    """A request with all that its answer needs.

    Attributes:
        place: `api`, `resolve` or `storage`.
        etag: Instead of the file's own on the storage, if a fault says so.
    """

    state: State
    request: Request
    place: str
    body: bytes = b""
    etag: str | None = None

    @property
    def segments(self) -> list[str]:
        """The path's parts, decoded; an encoded slash stays inside its part."""
        return [unquote(part) for part in self.request.path.lstrip("/").split("/")]

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's values by name."""
        return parse_qs(self.request.query, keep_blank_values=True)

    def flag(self, name: str) -> bool:
        """Whether the query says `name=true` (or True, or 1)."""
        return self.query.get(name, [""])[-1].lower() in ("true", "1")

    @property
    def token(self) -> str | None:
        """The bearer token, or None."""
        kind, _, token = (self.request.authorization or "").partition(" ")
        return token if kind.lower() == "bearer" and token else None

    @property
    def url(self) -> str:
        """The whole address that was asked."""
        query = f"?{self.request.query}" if self.request.query else ""
        return f"{self.state.origins[self.request.origin]}{self.request.path}{query}"


def split_target(target: str) -> tuple[str, str]:
    """Path and query of a request target, absolute-form included; nothing is normalised."""
    if not target.startswith("/"):
        parts = urlsplit(target)
        return parts.path, parts.query
    path, _, query = target.partition("?")
    return path, query
