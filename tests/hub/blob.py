"""The content of one file of a repository: bytes in memory or a file on disk, read in pieces."""

import hashlib
import os
from functools import cached_property
from pathlib import Path

_PIECE = 1 << 20


class Blob:
    """Content by offset. A file on disk is never held whole: it is read by pread or sent by sendfile.

    Args:
        content: Bytes, or the path of a file.
        real_digest: False makes a digest up from the file's name and size, for files too large to hash.
    """

    def __init__(self, content: bytes | Path, *, real_digest: bool = True) -> None:
        self.path = content if isinstance(content, Path) else None
        self.fd: int | None = None
        self._real_digest = real_digest
        if isinstance(content, Path):
            self.fd = os.open(content, os.O_RDONLY)
            self._view = memoryview(b"")
            self.size = os.fstat(self.fd).st_size
        else:
            self._view = memoryview(bytes(content))
            self.size = len(self._view)

    def read(self, offset: int, count: int) -> bytes | memoryview:
        """At most `count` bytes from `offset`; fewer only at the end."""
        if self.fd is None:
            return self._view[offset : offset + count]
        return os.pread(self.fd, count, offset)

    def close(self) -> None:
        """Give the file descriptor back."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _digest(self, name: str, prefix: bytes = b"") -> str:
        digest = hashlib.new(name, prefix, usedforsecurity=False)
        if not self._real_digest:
            digest.update(f"{self.path} {self.size}".encode())
            return digest.hexdigest()
        for offset in range(0, self.size, _PIECE):
            digest.update(self.read(offset, _PIECE))
        return digest.hexdigest()

    @cached_property
    def sha256(self) -> str:
        """The digest that LFS and the Hub's X-Linked-Etag go by."""
        return self._digest("sha256")

    @cached_property
    def git_id(self) -> str:
        """The object id that git gives the content itself."""
        return self._digest("sha1", f"blob {self.size}\0".encode())

    @cached_property
    def pointer(self) -> bytes:
        """The text that git keeps in place of an LFS file."""
        version = "version https://git-lfs.github.com/spec/v1"
        return f"{version}\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @cached_property
    def pointer_id(self) -> str:
        """The object id of that text."""
        text = self.pointer
        return hashlib.sha1(f"blob {len(text)}\0".encode() + text, usedforsecurity=False).hexdigest()

    @cached_property
    def storage_etag(self) -> str:
        """The ETag of the storage, quoted: not the digest that X-Linked-Etag gives, as on the real Hub."""
        return f'"{hashlib.md5(self.sha256.encode(), usedforsecurity=False).hexdigest()}-1"'

    @cached_property
    def xet_hash(self) -> str:
        """64 hex digits of the right form; no content-addressed storage stands behind them."""
        return hashlib.sha256(b"xet" + self.sha256.encode()).hexdigest()
