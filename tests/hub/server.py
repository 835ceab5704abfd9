"""A Hub on the loopback interface: an origin for the API and /resolve, another for the storage."""

import ssl
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from tests.hub import api, control, resolve, storage
from tests.hub.exchange import Exchange, State
from tests.hub.faults import Fault, Faults
from tests.hub.origin import Origin
from tests.hub.reply import Reply
from tests.hub.repository import Content, Repository
from tests.hub.stats import Stats
from tests.hub.wire import Shape

_ANSWERS = {"api": api.answer, "resolve": resolve.answer, "storage": storage.answer}


class LoopbackHub:
    """Both servers, running in threads between `with` and its end.

    Attributes:
        endpoint: What HF_ENDPOINT or `endpoint=` takes.
        storage: Base address of the storage.
        foreign: Base address of a host that is neither, where no token may go; it serves the same files.
        stats: Every request and what was sent.
        users: Tokens that are good, and whose they are. Others are refused with 401, as on the real Hub.
    """

    def __init__(self, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.state = State()
        self.faults = Faults()
        self._origins = [
            Origin("hub", self.state, _hub_place, self._answer, port=port, tls=tls),
            Origin("storage", self.state, lambda path: "storage", self._answer, tls=tls),
            # All of 127/8 is the loopback interface: a host of another name, not only another port.
            Origin("foreign", self.state, _foreign_place, self._answer, host="127.0.0.2", tls=tls),
        ]
        self.state.origins |= {origin.name: origin.url for origin in self._origins}
        self.endpoint, self.storage, self.foreign = (origin.url for origin in self._origins)

    def _answer(self, exchange: Exchange) -> Reply:
        if exchange.place == "control":
            return control.answer(self, exchange)
        exchange.request.name = _file_name(exchange)
        return self.faults.answer(exchange, lambda: _ANSWERS[exchange.place](exchange))

    @property
    def stats(self) -> Stats:
        """Every request since the last reset."""
        return self.state.stats

    @property
    def users(self) -> dict[str, str]:
        """Token -> user name."""
        return self.state.users

    def add(self, repo_id: str, files: Mapping[str, Content | None], **options: Any) -> Repository:
        """A repository with one commit on `main`.

        Args:
            repo_id: `org/name` or `name`; `datasets/org/name` is a data set.
            files: Content by name: bytes, text, or the Path of a file, which is read as it is sent.
            options: As `Repository` takes them.
        """
        repo = Repository(repo_id, **options)
        repo.commit_files(files)
        if repo.token:
            self.users.setdefault(repo.token, "owner")
        self.state.repositories[repo_id] = repo
        return repo

    def add_user(self, token: str, name: str = "someone") -> None:
        """A token that is good but opens no private or gated repository."""
        self.users[token] = name

    def rename(self, old: str, new: str) -> None:
        """The repository goes by another name; the old one redirects."""
        repo = self.state.repositories.pop(old)
        repo.id = new
        self.state.repositories[new] = repo
        self.state.renamed[old] = new

    def fault(
        self, kind: str, times: int | None = 1, on: str | None = None, match: str = "*", **parameters: Any
    ) -> AbstractContextManager[Fault]:
        """A fault for the time of a `with` block; `kinds.py` says which there are and what they take.

        Args:
            kind: `status`, `reset`, `close`, `stall`, …
            times: How often; None for always.
            on: `storage` (where the kind does not say otherwise), `resolve`, `api`, or `any`.
            match: Glob for the file's name in its repository, or for the API's path.
            parameters: The kind's own; also `method`, and `after`: so many fitting requests pass first.
        """
        return self.faults.during(kind, times, on, match, **parameters)

    def random_faults(self, seed: int, rate: float, places: tuple[str, ...] = ("storage",)) -> None:
        """From now on a share `rate` of the requests meets a fault that a good client survives."""
        self.faults.at_random(seed, rate, places)

    def shape(self, bytes_per_second_per_connection: float | None = None, latency_s: float = 0.0) -> None:
        """Link of the storage; the latency, before every answer, is the hub's too."""
        self.state.shape = Shape(bytes_per_second_per_connection, latency_s)

    def close(self) -> None:
        """Stop: no connection, file or thread stays."""
        self.state.closing.set()
        for origin in self._origins:
            origin.stop()
        for repo in self.state.repositories.values():
            repo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _hub_place(path: str) -> str:
    if path.startswith("/__ctl/"):
        return "control"
    return "resolve" if resolve.split_resolve(path) else "api"


def _foreign_place(path: str) -> str:
    return "storage" if path.startswith("/repos/") else _hub_place(path)


def _file_name(exchange: Exchange) -> str:
    """What faults match and the stats say: the file's name in its repository, or the path."""
    if exchange.place == "storage":
        return exchange.query.get("file", [exchange.request.path])[-1]
    if exchange.place == "resolve" and (split := resolve.split_resolve(exchange.request.path)):
        return resolve.unquote(split[2])
    return exchange.request.path


def folder_files(folder: Any, names: Iterable[str] = ("**/*",)) -> dict[str, Content]:
    """The files below a folder, by their names in it, to give to `add`; caches and hidden files left out."""
    found = {path for pattern in names for path in folder.glob(pattern) if path.is_file()}
    relative = {path.relative_to(folder).as_posix(): path for path in sorted(found)}
    return {
        name: path
        for name, path in relative.items()
        if not any(part.startswith(".") for part in name.split("/"))
    }
