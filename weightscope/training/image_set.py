"""`ImageSet`: pictures with labels in memory, and the files that they were read from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from weightscope.errors import DataFormatError, DataNotFound

# Of a file, and of the pixels. ImageNet at 64×64 has 16 GB: sets of that size want another loader.
LARGEST_BYTES = 2**33
LARGEST_LABEL = 2**16 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A file that was read, whole."""

    name: str
    """Its name in the data set's folder."""
    bytes: int
    """Its size."""
    sha256: str
    """Of all of it: of the very bytes that were decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """Where a data set came from, for the provenance; `dataclasses.asdict` makes it JSON."""

    reference: str
    """A folder, a repository on the Hub, or a package with its version."""
    revision: str = ""
    """Commit on the Hub; empty elsewhere."""
    split: str
    """Which part of the set."""
    files: tuple[DataFile, ...]
    """In the order in which they were read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageSet:
    """Pictures of one size, each with its class."""

    name: str
    """`mnist`, or the name of a folder."""
    images: Tensor
    """Shape (count, height, width), or (count, height, width, 3) with red, green and blue last; uint8."""
    labels: Tensor
    """Shape (count,), int64, from 0."""
    class_names: tuple[str, ...]
    """Of label 0, 1, …"""
    white: int = 255
    """The value of a pixel that is full on: 255, and 16 in scikit-learn's digits."""
    source: DataSource
    """What it was read from."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def pixels(self) -> int:
        """Numbers in one picture, colours too: what `flat` has for columns."""
        return self.images[0].numel()

    def flat(self) -> Tensor:
        """A view of the pictures as rows, shape (count, pixels), uint8."""
        return self.images.flatten(1)


def read_whole(path: Path, name: str) -> tuple[bytes, DataFile]:
    """All of a file, and the record of it.

    Args:
        path: Where it lies.
        name: What the record calls it.

    Raises:
        DataFormatError: It cannot be read, or is far too large.
    """
    asked = f"The file '{path}' was to be read."
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise DataFormatError(
                asked,
                f"It has {size:,} bytes, and data sets here are held in memory, up to {LARGEST_BYTES:,}.",
                "Use a smaller set.",
            )
        content = path.read_bytes()
    except OSError as error:
        raise DataFormatError(
            asked, f"The system could not read it: {error.strerror}.", "Check the disk and the permissions."
        ) from None
    return content, DataFile(name=name, bytes=len(content), sha256=sha256(content).hexdigest())


def unreadable(name: str, found: str) -> DataFormatError:
    """What to raise where a file is not what its name says."""
    return DataFormatError(
        f"The data file '{name}' was read.", found, "Fetch it again, or pass another folder."
    )


def not_found(asked: str, looked_for: Iterable[str], found: Iterable[Any]) -> DataNotFound:
    """What to raise where no file of a data set is there."""
    names = sorted({str(name) for name in found})
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return DataNotFound(
        asked,
        f"Looked for {', '.join(looked_for)}; there is {shown or 'nothing'}.",
        "Pass a folder that has it (--data-dir), or another split.",
    )


def classes_of(highest: int) -> tuple[str, ...]:
    """Names for classes that have none: their numbers."""
    return tuple(str(label) for label in range(highest + 1))
