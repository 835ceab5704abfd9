"""Byte ranges of remote files, over several connections, each going on from the byte where it broke off."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from http.client import HTTPException
from threading import Event, Lock
from time import monotonic
from urllib.parse import urlsplit

from weightscope.checkpoints.patience import Patience
from weightscope.checkpoints.ranges import ByteRange
from weightscope.checkpoints.remote import Address, Failure, RemoteFile, changed, check_answer
from weightscope.checkpoints.transport import Answer, Transport
from weightscope.errors import AccessDenied, TransferError, WeightscopeError

# Read at a time: what a hole's scratch memory takes, and how often progress is looked at.
_WINDOW = 2**20


class _Cursor:
    """How far a range is."""

    def __init__(self, wanted: ByteRange) -> None:
        self.position, self.stop = wanted.start, wanted.stop
        self._pieces = list(reversed(wanted.pieces))

    @property
    def done(self) -> bool:
        return self.position == self.stop

    def window(self) -> memoryview:
        """Where the next bytes go."""
        piece = self._pieces[-1]
        hole = piece.start - self.position
        if hole > 0:  # read and thrown away
            return memoryview(bytearray(min(hole, _WINDOW)))
        return piece.target[-hole : _WINDOW - hole]

    def advance(self, count: int) -> None:
        """So many bytes are in their place."""
        self.position += count
        if self._pieces and self.position >= self._pieces[-1].start + len(self._pieces[-1].target):
            self._pieces.pop()


class Downloader:
    """Fetches ranges, first come first served.

    Args:
        connections: How many requests at once.
        patience: When to give up.

    Attributes:
        connections: As given.
        requests: Sent so far.
        received: Bytes of bodies so far.
    """

    def __init__(self, connections: int, patience: Patience) -> None:
        self.requests = self.received = 0
        self.connections = connections
        self._patience = patience
        self._transport = Transport(self._patience.timeout)
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="weightscope-download")
        self._lock, self._closed = Lock(), Event()

    def begin(self, file: RemoteFile, ranges: Sequence[ByteRange]) -> Callable[[], None]:
        """Begin to fill every piece of these ranges; the result returns when all are full.

        Raises:
            TransferError: The downloader is closed.

        The result raises:
            TransferError: The network or the server failed too often.
            CheckpointFormatError: What came is not that part of that file.
            AccessDenied: The server refuses.
        """
        if self._closed.is_set():
            raise _closed(file)
        jobs = [self._pool.submit(self._fetch, file, one) for one in ranges]
        # Not `as_completed`: it is never told of jobs that are cancelled while they wait for a thread.
        over, left = Event(), len(jobs)

        def note(job: Future[None]) -> None:
            nonlocal left
            with self._lock:
                left -= 1
                last = left == 0
            if last or job.cancelled() or job.exception():
                over.set()

        for job in jobs:
            job.add_done_callback(note)

        def finish() -> None:
            try:
                if jobs:
                    over.wait()
                for job in jobs:
                    if job.done():
                        job.result()
            except CancelledError:
                raise _closed(file) from None
            finally:
                for job in jobs:
                    job.cancel()

        return finish

    def close(self) -> None:
        """Stop what is under way and close the connections."""
        self._closed.set()
        self._transport.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, file: RemoteFile, wanted: ByteRange) -> None:
        cursor, failures, tries = _Cursor(wanted), 0, 0
        address = file.address()
        while not cursor.done:
            before = cursor.position
            try:
                self._read(file, address, cursor)
            except WeightscopeError:  # some are OSErrors too
                raise
            except (Failure, OSError, HTTPException) as error:
                failure = _as_failure(error, file, address)
                came = cursor.position > before and not failure.slow
                tries += 1
                failures = 1 if came and tries < self._patience.most_tries else failures + 1
                self._pause(file, cursor.position, failures, failure)
                if failure.expired:
                    address = file.address(after=address)

    def _read(self, file: RemoteFile, address: Address, cursor: _Cursor) -> None:
        """One request for the rest of a range, and what comes of it."""
        headers = {**address.headers, "Range": f"bytes={cursor.position}-{cursor.stop - 1}"}
        with self._lock:
            self.requests += 1
        answer = self._transport.get(address.url, headers)
        started, first = monotonic(), cursor.position
        try:
            stop = check_answer(answer, file, cursor.position, cursor.stop)
            self._note_etag(answer, file)
            while cursor.position < stop:
                count = answer.readinto(cursor.window()[: stop - cursor.position])
                if not count:
                    raise Failure("the answer ended too early")
                cursor.advance(count)
                with self._lock:
                    self.received += count
                    file.received += count
                seconds = monotonic() - started
                patience = self._patience
                if seconds > patience.slow_seconds and cursor.position - first < patience.slowest * seconds:
                    raise Failure("hardly anything came", slow=True)
        finally:
            answer.close()

    def _note_etag(self, answer: Answer, file: RemoteFile) -> None:
        etag = answer.headers.get("ETag") or ""
        with self._lock:
            file.etag = file.etag or etag
        if etag and etag != file.etag:
            raise changed(file, f"Its mark changed from {file.etag[:80]} to {etag[:80]} meanwhile.")

    def _pause(self, file: RemoteFile, position: int, failures: int, failure: Failure) -> None:
        """Wait before the next try.

        Raises:
            TransferError: There will be none.
            AccessDenied: Nor would it help.
        """
        pause = 0.0 if failure.expired and failures == 1 else self._patience.wait(failures, failure.asked)
        if self._closed.is_set() or (pause and self._closed.wait(pause)):
            raise _closed(file)
        if pause is None:
            raise _given_up(file, position, failures, failure)


def _closed(file: RemoteFile) -> TransferError:
    return TransferError(f"The file {file.name} was read.", "The checkpoint was closed.", "Open it again.")


def _as_failure(error: Exception, file: RemoteFile, address: Address) -> Failure:
    """What may pass; raises what may not."""
    if isinstance(error, Failure):
        return error
    host = urlsplit(address.url).hostname or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        raise TransferError(
            f"The file {file.name} was asked for from {host}.",
            f"Its certificate is not trusted: {error.verify_message}.",
            "If a proxy of your network signs it, name its authority in SSL_CERT_FILE.",
        ) from None
    if isinstance(error, socket.gaierror):
        return Failure(f"the name {host!r} is not known ({error.strerror})")
    if isinstance(error, TimeoutError):
        return Failure("nothing came for a while")
    if isinstance(error, OSError):
        return Failure(error.strerror or type(error).__name__)
    return Failure(f"what came is no HTTP ({type(error).__name__})")


def _given_up(file: RemoteFile, position: int, failures: int, failure: Failure) -> WeightscopeError:
    asked = f"The file {file.name} was read from byte {position:,} on."
    if failure.expired:
        return AccessDenied(
            asked,
            f"The storage refuses it: {failure}, also at a fresh address, {failures} times in a row.",
            "Check that your token may read this repository, and try again later.",
        )
    if failure.asked is not None and failures == 1:
        return TransferError(
            asked,
            f"The server asks to wait {failure.asked:,.0f} seconds: {failure}.",
            "Try again then; --resume goes on where an analysis with --out stopped.",
        )
    return TransferError(
        asked,
        f"{failures} tries in a row failed; of the last, {failure}.",
        "Check the network; --resume goes on where an analysis with --out stopped.",
    )
