"""Safetensors files on this machine's disk.

Weights are read with plain positioned reads into memory of their own: a mapped file that shrinks
while it is read kills the process (SIGBUS), a short read is an error we can name.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from weightscope.checkpoints.dtypes import ELEMENT_TYPES
from weightscope.checkpoints.folder import CheckpointFiles, as_text, read_json
from weightscope.checkpoints.header import TensorIndex, TensorInfo, header_length, parse_header
from weightscope.checkpoints.source import FileRecord, Source
from weightscope.errors import CheckpointFormatError, CheckpointNotFound

if TYPE_CHECKING:
    import torch


class LocalSource(Source):
    """A checkpoint of safetensors files; opens them once and reads each tensor by its byte range.

    Several threads may read at once.
    """

    def __init__(self, reference: str, files: CheckpointFiles) -> None:
        self.reference = reference
        self.tied: dict[str, str] = {}
        self._received, self._counting = 0, Lock()
        self._descriptors: dict[str, int] = {}
        try:
            headers = {shard: self._open(files.folder / shard, shard) for shard in files.shards}
            self.index = _by_weight_map(headers, files)
            self.config, self.has_config, missing = read_config(files.folder)
        except BaseException:
            self.close()
            raise
        self.notes = (*files.notes, *missing)
        self.files = tuple(
            FileRecord(
                name=as_text(shard), bytes=status.st_size, etag=f"{status.st_mtime_ns:x}-{status.st_size:x}"
            )
            for shard, descriptor in self._descriptors.items()
            for status in (os.fstat(descriptor),)
        )

    def _open(self, path: Path, shard: str) -> list[TensorInfo]:
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise CheckpointNotFound(
                f"The file '{path}' was asked for.",
                f"It cannot be opened: {error.strerror}.",
                "Check the path and its permissions.",
            ) from None
        self._descriptors[shard] = descriptor
        size = os.fstat(descriptor).st_size
        try:
            length = header_length(os.pread(descriptor, 8, 0), shard=shard, file_bytes=size)
            header = os.pread(descriptor, length, 8)
        except OSError as error:
            raise _unreadable(f"The header of '{path}' was read.", error) from None
        return parse_header(header, shard=shard, file_bytes=size)

    def read(self, info: TensorInfo, into: torch.Tensor | None = None) -> torch.Tensor:
        """The tensor in CPU memory: that of `into`, or fresh."""
        import torch

        torch_name = ELEMENT_TYPES[info.dtype].torch_name
        if torch_name is None:
            raise ValueError(f"torch has no type for {info.dtype}")
        dtype = getattr(torch, torch_name)
        buffer = torch.empty(info.nbytes, dtype=torch.uint8) if into is None else into
        if info.nbytes:
            self._fill(memoryview(buffer.numpy().data), info)
        return buffer.view(dtype).view(info.shape)

    def _fill(self, target: memoryview, info: TensorInfo) -> None:
        done = 0
        while done < info.nbytes:
            try:
                count = os.preadv(self._descriptors[info.shard], [target[done:]], info.start + done)
            except OSError as error:
                raise _unreadable(f"Tensor {info.name!r} was read from {info.shard!r}.", error) from None
            if count == 0:
                raise CheckpointFormatError(
                    f"Tensor {info.name!r} was read from {info.shard!r}.",
                    f"The file ends {info.nbytes - done:,} bytes before the tensor does: it shrank while it "
                    "was read.",
                    "Let whatever writes the file finish, then run again.",
                )
            done += count
        with self._counting:
            self._received += done

    @property
    def received_bytes(self) -> int:
        """Bytes of weights read so far."""
        return self._received

    def close(self) -> None:
        """Close the files."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])


def _unreadable(asked: str, error: OSError) -> CheckpointFormatError:
    return CheckpointFormatError(
        asked, f"The system could not read it: {error.strerror}.", "Check the disk, or copy the file first."
    )


def read_config(folder: Path) -> tuple[dict[str, Any], bool, tuple[str, ...]]:
    """The folder's config.json, whether there is one, and what to tell the user if not."""
    path = folder / "config.json"
    if path.is_file():
        return read_json(path), True, ()
    return {}, False, ("There is no config.json: the family was taken from the tensors' names alone.",)


def _by_weight_map(headers: dict[str, list[TensorInfo]], files: CheckpointFiles) -> TensorIndex:
    tensors: dict[str, TensorInfo] = {}
    unindexed: list[TensorInfo] = []
    for shard, infos in headers.items():
        for info in infos:
            if files.weight_map is not None and files.weight_map.get(info.name) != shard:
                unindexed.append(info)
            else:
                tensors[info.name] = info
    for name, shard in (files.weight_map or {}).items():
        if name not in tensors:
            raise CheckpointFormatError(
                f"The index of '{files.folder}' was read.",
                f"It says that tensor {name[:200]!r} lies in {shard!r}, and that file has no such tensor.",
                "Fetch the index and that shard again from the same revision.",
            )
    return TensorIndex(tensors, tuple(unindexed))
