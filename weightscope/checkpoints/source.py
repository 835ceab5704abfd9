"""The one interface the floors above see: tensors by name, whatever they lie in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, Self

from weightscope.checkpoints.header import TensorIndex, TensorInfo, part_of_row

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file that was read, for the provenance."""

    name: str
    """Its name in the checkpoint."""
    bytes: int
    """Its size."""
    etag: str = ""
    """The Hub's or the file system's mark of this version; empty where there is none."""
    checked: str = ""
    """What of it was compared with what was expected: `digest` is everything, others are parts."""


class Source(ABC):
    """An opened checkpoint: its headers now, its weights when asked.

    Attributes:
        reference: What the user called it.
        revision: The commit it is pinned to; empty for local files and live models.
        config: The content of config.json, empty if there is none.
        has_config: Whether there was a config at all.
        index: Every tensor by name.
        files: The files the tensors lie in; empty for tensors in memory.
        notes: Sentences the user should see: what was passed over, what was assumed.
        tied: Names that are other names of a tensor in `index`, each with that tensor's name.
        buffers: Names known to be no parameters; empty where nothing but the names tells.
    """

    reference: str
    revision: str = ""
    config: Mapping[str, Any]
    has_config: bool
    index: TensorIndex
    files: tuple[FileRecord, ...] = ()
    notes: tuple[str, ...] = ()
    tied: Mapping[str, str]
    buffers: frozenset[str] = frozenset()

    @abstractmethod
    def read(self, info: TensorInfo, into: torch.Tensor | None = None) -> torch.Tensor:
        """The tensor as stored: its dtype, its shape, on the device it lies on.

        Args:
            info: Which one, or some of its rows (`header.rows_of`).
            into: `info.nbytes` of uint8 on the CPU that may hold it; what lies in memory already stays there.

        Raises:
            CheckpointFormatError: The file is no longer what its header said.
        """

    def read_all(
        self,
        infos: Sequence[TensorInfo],
        into: Sequence[torch.Tensor] | None = None,
        *,
        threads: int = 1,
    ) -> list[torch.Tensor]:
        """As `read`, for several tensors, which a source may fetch together.

        Args:
            infos: Which ones.
            into: For each what `read` takes.
            threads: How many may read from a disk at once.
        """
        return [self.read(info, buffer) for info, buffer in zip(infos, into or repeat(None), strict=False)]

    def read_columns(
        self, info: TensorInfo, start: int, stop: int, into: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Of each row of a tensor, flattened behind its first dimension, the elements [start, stop).

        In a file that is one read for each row.

        Args:
            info: Which one; it has at least one row.
            start: First column.
            stop: One past the last column.
            into: As for `read`.

        Raises:
            CheckpointFormatError: The file is no longer what its header said.
        """
        import torch

        rows = info.shape[0]
        size = info.nbytes // info.elements * (stop - start)
        buffer = torch.empty(rows * size, dtype=torch.uint8) if into is None else into
        for row in range(rows):
            piece = part_of_row(info, row, start, stop)
            found = self.read(piece, buffer[row * size : (row + 1) * size])
        return buffer.view(found.dtype).view(rows, stop - start)

    def is_remote(self, info: TensorInfo) -> bool:
        """Whether a tensor comes over a network."""
        return False

    def interrupt(self) -> None:  # noqa: B027 - local reads end by themselves
        """Let reads that are under way in other threads fail soon."""

    @property
    def requests(self) -> int:
        """Requests sent over the network so far."""
        return 0

    @property
    def received_bytes(self) -> int:
        """Bytes of weights read so far."""
        return 0

    def close(self) -> None:  # noqa: B027 - sources in memory have nothing to close
        """Give back what was opened."""

    def __enter__(self) -> Self:
        """The source itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()
