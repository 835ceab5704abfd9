"""IDX files, the format that MNIST was published in, plain or compressed with gzip.

Two zero bytes, a type (0x08: unsigned bytes), the number of dimensions, each dimension as a big-endian
uint32, then the data, last dimension fastest. All of it is checked against the file's length before anything
is allocated.

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section on the file format.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Sequence

import numpy as np

from weightscope.training.image_set import LARGEST_BYTES, unreadable

_UNSIGNED_BYTES = 0x08
# What deflate can make of one byte at most (zlib's documentation), and gzip's own few bytes.
_LARGEST_RATIO, _GZIP_HEADER = 1032, 18


def read_idx(content: bytes, name: str, dimensions: Sequence[int]) -> np.ndarray:
    """The array in an IDX file.

    Args:
        content: All of the file, compressed or not.
        name: How to call it in an error.
        dimensions: The numbers of dimensions it may have: (1,) for labels, (3, 4) for pictures.

    Returns:
        uint8, writable, in memory of its own.

    Raises:
        DataFormatError: It is no such file, or its length is not what its header says.
    """
    compressed = content[:2] == b"\x1f\x8b"
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) if compressed else io.BytesIO(content) as stream:
            shape = _shape(stream.read(4), stream, name, dimensions)
            size = math.prod(shape)
            most = len(content) * _LARGEST_RATIO if compressed else len(content)
            if size > min(most, LARGEST_BYTES):
                raise unreadable(name, f"Its header speaks of {size:,} bytes, more than the file can hold.")
            data = stream.read(size)
            rest = stream.read(1)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(name, f"It cannot be decompressed ({error}).") from None
    if len(data) < size or rest:
        found = f"{len(data):,}" if len(data) < size else "more"
        raise unreadable(name, f"Its header says that {size:,} bytes follow, and there are {found}.")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape).copy()


def _shape(magic: bytes, stream: io.BufferedIOBase, name: str, dimensions: Sequence[int]) -> tuple[int, ...]:
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise unreadable(name, f"It begins with {magic.hex(' ') or 'nothing'}, and IDX files with two zeros.")
    if magic[2] != _UNSIGNED_BYTES:
        raise unreadable(name, f"Its elements are of type 0x{magic[2]:02x}, not unsigned bytes (0x08).")
    if magic[3] not in dimensions:
        expected = " or ".join(str(number) for number in dimensions)
        raise unreadable(name, f"It has {magic[3]} dimensions, and {expected} were expected.")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise unreadable(name, "It ends within its header.")
    shape = tuple(int(size) for size in np.frombuffer(sizes, dtype=">u4"))
    if 0 in shape:
        raise unreadable(name, f"It holds nothing: its dimensions are {' × '.join(map(str, shape))}.")
    return shape
