"""A folder of a repository at one commit, and its safetensors files read by ranges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha1, sha256
from typing import Any

from weightscope.checkpoints.download import Downloader
from weightscope.checkpoints.header import header_length
from weightscope.checkpoints.hub import HubFile, HubRepository
from weightscope.checkpoints.json_object import check_json_size, parse_json_object, unreadable_json
from weightscope.checkpoints.listing import Listing
from weightscope.checkpoints.ranges import coalesce
from weightscope.checkpoints.remote import changed
from weightscope.checkpoints.safetensors import ShardFile, Wanted
from weightscope.checkpoints.source import FileRecord
from weightscope.errors import CheckpointNotFound

# What a first request takes: the header of most files is in it, and little more.
_FIRST_BYTES = 2**16


class RepositoryFolder(Listing):
    """What a repository's listing says of one folder; nothing that it does not name is ever asked for.

    Args:
        repository: At its commit.
        folder: Empty for the root.
        downloader: To read small files with.

    Raises:
        CheckpointNotFound: The listing has no such folder.
    """

    def __init__(self, repository: HubRepository, folder: str, downloader: Downloader) -> None:
        self._repository, self._downloader = repository, downloader
        self._prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        place = f" in '{self._prefix}'" if self._prefix else ""
        self.where = f"repository '{repository.repo_id}'{place} at commit {repository.commit[:12]}"
        inside = [path[len(self._prefix) :] for path in repository.entries if path.startswith(self._prefix)]
        if self._prefix and not inside:
            raise CheckpointNotFound(
                f"The {self.where} was asked for.",
                "The commit has no such folder.",
                f"Check --subfolder against the files on the page of '{repository.repo_id}'.",
            )
        self._files = sorted(name for name in inside if "/" not in name)
        self._names = sorted({name.partition("/")[0] for name in inside})

    @property
    def names(self) -> Sequence[str]:
        """What lies directly in it, sorted, folders too."""
        return self._names

    @property
    def files(self) -> Sequence[str]:
        """Those of `names` that are no folders."""
        return self._files

    def path(self, name: str) -> str:
        """A file's path in the repository."""
        return self._prefix + name

    def has(self, name: str) -> bool:
        """Whether the listing names such a file."""
        return self.path(name) in self._repository.entries

    def missing(self, name: str) -> CheckpointNotFound:
        """What to raise where there is no such file."""
        return CheckpointNotFound(
            f"The file {self.shown(name)} was asked for.",
            f"Commit {self._repository.commit[:12]} has no such file.",
            "Check the name on the repository's page.",
        )

    def read_json(self, name: str) -> dict[str, Any]:
        """The JSON object in a file, which is what the listing's digest says."""
        entry = self._repository.entries[self.path(name)]
        check_json_size(entry.size, self.shown(name))
        if local := self._repository.cached(entry.path):
            try:
                content = local.read_bytes()
            except OSError as error:
                raise unreadable_json(f"'{local}'", error) from None
            return parse_json_object(content, self.shown(name))
        buffer = bytearray(entry.size)
        file = self._repository.file(entry.path)
        if buffer:  # of an empty file no byte can be asked for
            self._downloader.begin(file, coalesce([Wanted(0, memoryview(buffer), name)]))()
        digest = sha256(buffer) if entry.sha256 else sha1(b"blob %d\0" % len(buffer) + buffer)
        if entry.etag and digest.hexdigest() != entry.etag:
            raise changed(file, "Its digest is not the one that the listing names.")
        return parse_json_object(bytes(buffer), self.shown(name))

    def shown(self, name: str) -> str:
        """Its name with the repository's, quoted."""
        return f"'{self._repository.repo_id}/{self.path(name)}'"

    def reference(self, name: str) -> str:
        """What to type to mean this file."""
        return f"{self._repository.repo_id}:{self.path(name)}"


class RemoteShard(ShardFile):
    """A safetensors file of a repository.

    Args:
        file: Which.
        downloader: To read it with.
    """

    def __init__(self, file: HubFile, downloader: Downloader) -> None:
        self._file, self._downloader = file, downloader
        entry = file.entry
        self.record = FileRecord(
            name=entry.path, bytes=entry.size, etag=entry.etag, checked="commit, size, etag"
        )

    @property
    def received(self) -> int:  # type: ignore[override]
        """Bytes that came so far, those of the header too."""
        return self._file.received

    def header(self) -> bytes:
        """The JSON of its header: one request for most files, two for long headers."""
        size = self.record.bytes
        buffer = bytearray(min(size, _FIRST_BYTES))
        self._fetch(0, buffer)
        length = header_length(bytes(buffer[:8]), shard=self.record.name, file_bytes=size)
        here = len(buffer)
        if 8 + length > here:
            buffer.extend(bytes(8 + length - here))
            self._fetch(here, memoryview(buffer)[here:])
        return bytes(memoryview(buffer)[8 : 8 + length])

    def _fetch(self, start: int, target: bytearray | memoryview) -> None:
        if len(target):
            self.fill([Wanted(start, memoryview(target), "header")])

    def fill(self, wanted: Sequence[Wanted], *, threads: int = 1) -> None:
        """Read byte ranges over several connections."""
        self.begin(wanted)()

    def begin(self, wanted: Sequence[Wanted], *, threads: int = 1) -> Callable[[], None]:
        """Begin to read; the result returns when all is there."""
        ranges = coalesce(wanted, connections=self._downloader.connections)
        return self._downloader.begin(self._file, ranges)
