"""A checkpoint of safetensors files, wherever each of them lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from weightscope.checkpoints.dtypes import ELEMENT_TYPES
from weightscope.checkpoints.header import TensorIndex, TensorInfo, parse_header, part_of_row
from weightscope.checkpoints.listing import CheckpointFiles, Listing
from weightscope.checkpoints.source import FileRecord, Source
from weightscope.errors import CheckpointFormatError

if TYPE_CHECKING:
    import torch


# The config that Meta and Mistral put beside files called consolidated.
PARAMS = "params.json"


class Wanted(NamedTuple):
    """Bytes of a file and where they go."""

    start: int
    """First byte in the file."""
    target: memoryview
    """As long as what is wanted."""
    what: str
    """For messages: the tensor's name."""


class ShardFile(ABC):
    """One safetensors file.

    Attributes:
        record: For the provenance.
        received: Bytes read so far, those of the header too where they cost something.
    """

    record: FileRecord
    received: int = 0

    @abstractmethod
    def header(self) -> bytes:
        """The JSON of its header, its length checked against the size of the file.

        Raises:
            CheckpointFormatError: It has none.
        """

    @abstractmethod
    def fill(self, wanted: Sequence[Wanted], *, threads: int = 1) -> None:
        """Read byte ranges. Several threads may do so at once.

        Args:
            wanted: Which ones, without overlaps.
            threads: How many to read with, where the file does not decide that itself.

        Raises:
            CheckpointFormatError: The file is no longer what it was.
        """

    def begin(self, wanted: Sequence[Wanted], *, threads: int = 1) -> Callable[[], None]:
        """Begin to `fill`, where that can go on by itself; the result returns when it is done."""
        return partial(self.fill, wanted, threads=threads)

    def close(self) -> None:  # noqa: B027 - nothing to give back is common
        """Give back what was opened."""


class SafetensorsSource(Source):
    """Reads each tensor by its byte range. Several threads may read at once.

    Args:
        reference: What the user called it.
        listing: The folder that `files` is of; config.json lies there too.
        files: Which files.
        shards: The opened files, by the names of `files`; closed with the source.
        headers: Theirs, as `ShardFile.header` gives them.
        revision: The commit; empty for local files.
    """

    def __init__(
        self,
        reference: str,
        listing: Listing,
        files: CheckpointFiles,
        shards: Mapping[str, ShardFile],
        headers: Sequence[bytes],
        revision: str = "",
    ) -> None:
        self.reference = reference
        self.revision = revision
        self.tied: dict[str, str] = {}
        self._shards = shards
        parsed = {
            name: parse_header(header, shard=name, file_bytes=shards[name].record.bytes)
            for name, header in zip(files.shards, headers, strict=True)
        }
        self.index = _by_weight_map(parsed, files, listing)
        self.config, self.has_config, missing = read_config(listing)
        self.notes = (*files.notes, *missing)
        self.files = tuple(shard.record for shard in shards.values())

    def read(self, info: TensorInfo, into: torch.Tensor | None = None) -> torch.Tensor:
        """The tensor in CPU memory: that of `into`, or fresh."""
        return self.read_all([info], None if into is None else [into])[0]

    def read_all(
        self,
        infos: Sequence[TensorInfo],
        into: Sequence[torch.Tensor] | None = None,
        *,
        threads: int = 1,
    ) -> list[torch.Tensor]:
        """The tensors in CPU memory: that of `into`, or fresh."""
        import torch

        buffers = into or [torch.empty(info.nbytes, dtype=torch.uint8) for info in infos]
        wanted: dict[str, list[Wanted]] = {}
        for info, buffer in zip(infos, buffers, strict=True):
            if info.nbytes:
                target = memoryview(buffer.numpy().data)
                wanted.setdefault(info.shard, []).append(Wanted(info.start, target, info.name))
        finish = [self._shards[shard].begin(pieces, threads=threads) for shard, pieces in wanted.items()]
        for wait in finish:
            wait()
        return [
            buffer.view(_torch_type(info)).view(info.shape)
            for info, buffer in zip(infos, buffers, strict=True)
        ]

    def read_columns(
        self, info: TensorInfo, start: int, stop: int, into: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Of each row of a tensor the elements [start, stop), in one go."""
        import torch

        rows = info.shape[0]
        size = info.nbytes // info.elements * (stop - start)
        buffer = torch.empty(rows * size, dtype=torch.uint8) if into is None else into
        target = memoryview(buffer.numpy().data)
        pieces = [
            Wanted(
                part_of_row(info, row, start, stop).start, target[row * size : (row + 1) * size], info.name
            )
            for row in range(rows)
        ]
        self._shards[info.shard].fill(pieces)
        return buffer.view(_torch_type(info)).view(rows, stop - start)

    @property
    def received_bytes(self) -> int:
        """Bytes of the shards read so far; of a remote one those of its header too."""
        return sum(shard.received for shard in self._shards.values())

    def close(self) -> None:
        """Close the files."""
        for shard in self._shards.values():
            shard.close()


def read_config(listing: Listing) -> tuple[dict[str, Any], bool, tuple[str, ...]]:
    """The folder's config.json, whether there is one, and what to tell the user if not.

    Beside consolidated files its place is taken by params.json, which names no model_type.
    """
    if listing.has("config.json"):
        return listing.read_json("config.json"), True, ()
    if listing.has(PARAMS) and any(name.startswith("consolidated") for name in listing.files):
        found = (
            f"There is no config.json: sizes were read from {PARAMS}, and the family was taken from the "
            "tensors' names alone."
        )
        return listing.read_json(PARAMS), False, (found,)
    return {}, False, ("There is no config.json: the family was taken from the tensors' names alone.",)


def _torch_type(info: TensorInfo) -> torch.dtype:
    import torch

    name = ELEMENT_TYPES[info.dtype].torch_name
    if name is None:
        raise ValueError(f"torch has no type for {info.dtype}")
    found: torch.dtype = getattr(torch, name)
    return found


def _by_weight_map(
    headers: Mapping[str, Sequence[TensorInfo]], files: CheckpointFiles, listing: Listing
) -> TensorIndex:
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
                f"The index of the {listing.where} was read.",
                f"It says that tensor {name[:200]!r} lies in {shard!r}, and that file has no such tensor.",
                "Fetch the index and that shard again from the same revision.",
            )
    return TensorIndex(tensors, tuple(unindexed))
