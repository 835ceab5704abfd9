"""A file on a server, and whether an answer is the part of it that was asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from re import fullmatch
from typing import NamedTuple

from weightscope.checkpoints.patience import PASSING_STATUS, seconds_asked
from weightscope.checkpoints.transport import Answer
from weightscope.errors import CheckpointFormatError

# A signed address that has expired answers like one that was never good.
_EXPIRED = {401, 403, 404, 410}


class Address(NamedTuple):
    """Where a file can be read at the moment."""

    url: str
    headers: Mapping[str, str]
    """To send along, the token if it may go there."""


class RemoteFile(ABC):
    """A file on a server.

    Attributes:
        name: For messages.
        size: Bytes, as the listing says.
        etag: Of the storage's first answer; every other one must have the same.
        received: Bytes of it that came so far.
    """

    name: str
    size: int
    etag: str = ""
    received: int = 0

    @abstractmethod
    def address(self, after: Address | None = None) -> Address:
        """Where it can be read.

        Args:
            after: An address that is good no longer; another is asked for.
        """


class Failure(Exception):
    """Something that may pass."""

    def __init__(self, reason: str, *, asked: float | None = None, expired: bool = False, slow: bool = False):
        super().__init__(reason)
        self.asked, self.expired, self.slow = asked, expired, slow


def check_answer(answer: Answer, file: RemoteFile, start: int, stop: int) -> int:
    """Where in the file an answer to a request for [start, stop) ends; it begins where it should.

    Raises:
        Failure: It is none, which may pass.
        CheckpointFormatError: It is not what was asked for.
    """
    status = answer.status
    if status in PASSING_STATUS:
        raise Failure(f"the server answered {status}", asked=seconds_asked(answer.headers))
    if status in _EXPIRED:
        raise Failure(f"the server answered {status}", expired=True)
    if status == 416:
        raise changed(file, f"The server says that it has no byte {start:,}.")
    kind = (answer.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if kind == "text/html":
        raise changed(file, "The server answered with a web page: a login page of the network, perhaps.")
    if status == 200 and start == 0 and stop == file.size == answer.length:
        return stop  # all of it was asked for
    if status != 206:
        raise changed(file, f"The server answered {status} to a request for a part of it.")
    if (answer.headers.get("Content-Encoding") or "identity").lower() != "identity":
        raise changed(file, "The server compressed a part of it, although it was asked not to.")
    text = answer.headers.get("Content-Range") or ""
    found = fullmatch(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", text.strip())
    if not found:
        raise changed(file, f"The server did not say which part it sends ({text[:80]!r}).")
    first, last = int(found[1]), int(found[2])
    if first != start or not first <= last < stop:
        raise changed(
            file,
            f"Bytes {start:,} to {stop - 1:,} were asked for and {first:,} to {last:,} sent.",
        )
    if found[3] != "*" and int(found[3]) != file.size:
        raise changed(
            file, f"The server says that it has {int(found[3]):,} bytes, and the listing {file.size:,}."
        )
    if answer.length is not None and answer.length > last + 1 - start:
        raise changed(file, f"The server sends {answer.length:,} bytes and calls them {text[:80]!r}.")
    return last + 1


def changed(file: RemoteFile, found: str) -> CheckpointFormatError:
    """What to raise where an answer is not what was asked for."""
    return CheckpointFormatError(
        f"A part of the file {file.name} was asked for.", found, "Try again; if it stays so, use --cache."
    )
