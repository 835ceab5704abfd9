"""`open_hub`: a checkpoint of the Hub, streamed, from the cache, or some of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from weightscope.checkpoints.download import Downloader
from weightscope.checkpoints.folder import Folder, find_checkpoint
from weightscope.checkpoints.header import TensorInfo
from weightscope.checkpoints.hub import HubRepository, cached_snapshot, default_patience, is_offline
from weightscope.checkpoints.listing import CheckpointFiles, choose_files
from weightscope.checkpoints.local import LocalFile
from weightscope.checkpoints.local_source import open_local, refuse_gguf
from weightscope.checkpoints.patience import Patience
from weightscope.checkpoints.reading import Reading
from weightscope.checkpoints.reference import CheckpointRef
from weightscope.checkpoints.repository import RemoteShard, RepositoryFolder
from weightscope.checkpoints.safetensors import PARAMS, SafetensorsSource, ShardFile
from weightscope.checkpoints.source import Source
from weightscope.errors import CheckpointFormatError, CheckpointNotFound, OptionError, TransferError

_HEADERS_AT_ONCE = 16


class HubSource(SafetensorsSource):
    """Files of one commit: those in the cache are read there, the others by ranges from the Hub."""

    def __init__(
        self,
        reference: str,
        folder: RepositoryFolder,
        files: CheckpointFiles,
        shards: Mapping[str, ShardFile],
        headers: Sequence[bytes],
        *,
        repository: HubRepository,
        downloader: Downloader,
    ) -> None:
        super().__init__(reference, folder, files, shards, headers, revision=repository.commit)
        self._repository, self._downloader = repository, downloader

    @property
    def requests(self) -> int:
        """Sent so far; those of huggingface_hub count once a call."""
        return self._repository.requests + self._downloader.requests

    def is_remote(self, info: TensorInfo) -> bool:
        """What the cache does not have."""
        return isinstance(self._shards[info.shard], RemoteShard)

    def interrupt(self) -> None:
        """Let reads that are under way in other threads fail soon."""
        self._repository.close()
        self._downloader.close()

    def close(self) -> None:
        """Close files and connections."""
        self.interrupt()
        super().close()


def open_hub(
    shown: str, reference: CheckpointRef, reading: Reading, *, patience: Patience | None = None
) -> Source:
    """Open a checkpoint of the Hub.

    Args:
        shown: What the user called it.
        reference: Which.
        reading: Which way.
        patience: With the network.

    Raises:
        CheckpointNotFound: No such repository, revision, folder or file.
        AccessDenied: It may not be read.
        TransferError: The network or the Hub failed too often.
        CheckpointFormatError: What is there cannot be trusted.
        OptionError: `reading` contradicts itself.
    """
    revision = reference.revision or None
    patience = patience or default_patience()
    if reading.verify and not reading.cache:
        raise OptionError(
            f"The files of {shown!r} were to be verified.",
            "A SHA-256 is that of a whole file, and a stream reads parts.",
            "Add --cache to download whole files first.",
        )
    if is_offline():
        with _nor_a_folder(reference):
            snapshot = cached_snapshot(reference.location, revision)
        return _open_cached(shown, reference, snapshot, reading)
    try:
        with _nor_a_folder(reference):
            repository = HubRepository(reference.location, revision, patience)
    except TransferError:
        if not reading.cache:
            raise
        with _nor_a_folder(reference):
            snapshot = cached_snapshot(reference.location, revision)
        source = _open_cached(shown, reference, snapshot, reading)
        commit = source.revision[:12]
        source.notes = (
            f"The Hub could not be reached: commit {commit} was read from the cache.",
            *source.notes,
        )
        return source
    with ExitStack() as to_close:
        downloader = Downloader(reading.connections, patience)
        to_close.callback(downloader.close)
        to_close.callback(repository.close)  # first: nothing waits for another try then
        folder_name, file_name = _place(reference.subfolder, repository)
        folder = RepositoryFolder(repository, folder_name, downloader)
        files = choose_files(folder, file_name)
        if reading.cache:
            names = [*files.shards, *_beside(folder)]
            snapshot = repository.download([folder.path(name) for name in names])
            here = Folder(snapshot / folder_name)
            return open_local(shown, here, files, reading, revision=repository.commit)
        if files.pickled:
            raise CheckpointFormatError(
                f"The checkpoint {shown!r} was asked for.",
                f"Its weights are in a Python pickle ({files.shards[0]}), which cannot be read in parts.",
                "Choose a revision with safetensors, or pass --cache --allow-pickle to download and load it.",
            )
        source = _stream(shown, folder, files, repository, downloader, to_close)
        to_close.pop_all()  # all is well: they stay open
    return source


@contextmanager
def _nor_a_folder(reference: CheckpointRef) -> Iterator[None]:
    """Say of what may be a misspelt path that it is none, where the repository cannot be had either."""
    try:
        yield
    except (CheckpointNotFound, TransferError) as error:
        if reference.forced or reference.revision:
            raise
        found = f"{error.found.removesuffix('.')}, and there is no such folder here."
        raise type(error)(error.asked, found, error.advice) from None


def _place(subfolder: str, repository: HubRepository) -> tuple[str, str | None]:
    """The folder, and the file in it if one is meant."""
    if subfolder in repository.entries:
        path = PurePosixPath(subfolder)
        return ("" if path.parent == PurePosixPath() else str(path.parent)), path.name
    return subfolder, None


def _beside(folder: RepositoryFolder) -> list[str]:
    """What is read beside the weights."""
    configs = ("config.json", PARAMS)
    return [name for name in folder.files if name in configs or name.endswith(".index.json")]


def _stream(
    shown: str,
    folder: RepositoryFolder,
    files: CheckpointFiles,
    repository: HubRepository,
    downloader: Downloader,
    to_close: ExitStack,
) -> HubSource:
    refuse_gguf(shown, files)
    shards: dict[str, ShardFile] = {}
    for name in files.shards:
        path = folder.path(name)
        if local := repository.cached(path):
            shards[name] = LocalFile(local, name, etag=repository.entries[path].etag)
            to_close.callback(shards[name].close)
        else:
            shards[name] = RemoteShard(repository.file(path), downloader)
    headers = _headers(list(shards.values()))
    return HubSource(shown, folder, files, shards, headers, repository=repository, downloader=downloader)


def _headers(shards: Sequence[ShardFile]) -> list[bytes]:
    """Of every shard, many at once; when one fails the others are not waited for."""
    pool = ThreadPoolExecutor(_HEADERS_AT_ONCE)
    try:
        return list(pool.map(lambda shard: shard.header(), shards))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _open_cached(shown: str, reference: CheckpointRef, snapshot: Path, reading: Reading) -> Source:
    """From a snapshot that is there, without a request."""
    path = snapshot / reference.subfolder if reference.subfolder else snapshot
    folder, files = find_checkpoint(path)
    return open_local(shown, folder, files, reading, revision=snapshot.name)
