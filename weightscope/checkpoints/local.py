"""A file on this machine's disk.

Weights are read with plain positioned reads into memory of their own: a mapped file that shrinks
while it is read kills the process (SIGBUS), a short read is an error we can name. Where the kernel can help
it, a checkpoint too large to stay in the page cache does not push out what others have there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Lock

from weightscope.checkpoints.digests import check_digest, hub_etag
from weightscope.checkpoints.header import header_length
from weightscope.checkpoints.listing import as_text
from weightscope.checkpoints.safetensors import ShardFile, Wanted
from weightscope.checkpoints.source import FileRecord
from weightscope.errors import CheckpointFormatError, CheckpointNotFound

# Linux 6.14: pages that a read brings into the page cache leave it again. Python has no name for it yet.
_RWF_DONTCACHE = 0x80
# Larger files than this share of the memory would not be found in the cache by a second run.
_CACHED_SHARE = 0.5


class LocalFile(ShardFile):
    """An open file.

    Args:
        path: Where it is.
        name: Its name in the checkpoint.
        etag: The Hub's mark of it, if it came from there; else one of its time and size.
        cached: Whether what is read may stay in the page cache.

    Raises:
        CheckpointNotFound: It cannot be opened.
    """

    def __init__(self, path: Path, name: str, etag: str = "", *, cached: bool = True) -> None:
        self._name, self._path = name, path
        self._flags = 0 if cached else _RWF_DONTCACHE
        self._counting = Lock()
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise CheckpointNotFound(
                f"The file '{path}' was asked for.",
                f"It cannot be opened: {error.strerror}.",
                "Check the path and its permissions.",
            ) from None
        status = os.fstat(self._descriptor)
        self.record = FileRecord(
            name=as_text(name),
            bytes=status.st_size,
            etag=etag or hub_etag(path) or f"{status.st_mtime_ns:x}-{status.st_size:x}",
            checked="size",
        )

    def header(self) -> bytes:
        """The JSON of its header."""
        try:
            prefix = os.pread(self._descriptor, 8, 0)
            length = header_length(prefix, shard=self._name, file_bytes=self.record.bytes)
            return os.pread(self._descriptor, length, 8)
        except OSError as error:
            raise _unreadable(f"The header of '{self._path}' was read.", error) from None

    def verify(self) -> None:
        """Compare the whole file with the Hub's mark of it.

        Raises:
            CheckpointFormatError: It is another file, or the Hub's mark is not known.
        """
        check_digest(self._path, self.record.etag)
        self.record = replace(self.record, checked="digest")

    def fill(self, wanted: Sequence[Wanted], *, threads: int = 1) -> None:
        """Read byte ranges."""
        if threads == 1 or len(wanted) == 1:
            for piece in wanted:
                self._fill(piece)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self._fill, wanted))

    def _fill(self, piece: Wanted) -> None:
        done, size = 0, len(piece.target)
        while done < size:
            try:
                count = os.preadv(self._descriptor, [piece.target[done:]], piece.start + done, self._flags)
            except OSError as error:
                if self._flags and error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                    self._flags = 0  # an older kernel, or a file system that cannot
                    continue
                raise _unreadable(f"Tensor {piece.what!r} was read from {self._name!r}.", error) from None
            if count == 0:
                raise CheckpointFormatError(
                    f"Tensor {piece.what!r} was read from {self._name!r}.",
                    f"The file ends {size - done:,} bytes before the tensor does: it shrank while it "
                    "was read.",
                    "Let whatever writes the file finish, then run again.",
                )
            done += count
        with self._counting:
            self.received += done

    def close(self) -> None:
        """Close it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def fits_page_cache(paths: Sequence[Path]) -> bool:
    """Whether files are small enough beside this machine's memory to be found in the page cache again."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    sizes = (path.stat().st_size for path in paths if path.exists())
    return sum(sizes) <= _CACHED_SHARE * memory


def _unreadable(asked: str, error: OSError) -> CheckpointFormatError:
    return CheckpointFormatError(
        asked, f"The system could not read it: {error.strerror}.", "Check the disk, or copy the file first."
    )
