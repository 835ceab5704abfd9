"""Safetensors headers, read as hostile input.

A safetensors file is 8 bytes of little-endian header length N, N bytes of JSON, then the data:
`{"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}, "__metadata__": {...}}`,
offsets relative to the end of the header, covering the data without holes or overlaps. Nothing is
allocated or trusted before it has been checked against the size of the file.
"""

import gc
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from reprlib import repr as brief  # bounded in length and depth, whatever a header holds
from typing import Any, NamedTuple

from weightscope.checkpoints.dtypes import ELEMENT_TYPES
from weightscope.checkpoints.header_json import (
    FIELDS,
    MAX_NAME_CHARACTERS,
    Entry,
    broken,
    check_bounds,
    parse_json,
)
from weightscope.errors import CheckpointFormatError

# The reference implementation's own limit (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
MAX_HEADER_BYTES = 100_000_000
# torch stores a tensor's sizes inline up to 5; nobody's weights come near 64 dimensions.
MAX_DIMENSIONS = 64
# Past this, products of dimensions leave the 64-bit integers every reader computes with.
MAX_ELEMENTS = 2**63 - 1
_BITS = {name: element.bits for name, element in ELEMENT_TYPES.items()}


class TensorInfo(NamedTuple):  # made in a third of the time that a frozen dataclass takes
    """What a header says of one tensor."""

    name: str
    """The parameter's full name in the checkpoint."""
    dtype: str
    """Element type in safetensors' spelling, such as `BF16`."""
    shape: tuple[int, ...]
    """Sizes as stored."""
    shard: str
    """Name of the file it lies in; empty for tensors in memory."""
    start: int
    """First byte in that file."""
    stop: int
    """One past its last byte in that file."""

    @property
    def nbytes(self) -> int:
        """Bytes of data."""
        return self.stop - self.start

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class TensorIndex(Mapping[str, TensorInfo]):
    """All tensors of a checkpoint by name, in file order."""

    tensors: Mapping[str, TensorInfo] = field(default_factory=dict)
    """Name to info, in the order the bytes lie in the shards."""
    unindexed: tuple[TensorInfo, ...] = ()
    """Tensors that lie in a shard but that the index does not name; never read."""

    def __getitem__(self, name: str) -> TensorInfo:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of data of all tensors."""
        return sum(info.nbytes for info in self.tensors.values())


def rows_of(info: TensorInfo, start: int, stop: int) -> TensorInfo:
    """Rows [start, stop) of a stored tensor, along its first dimension: a range of bytes too."""
    size = info.nbytes // info.shape[0]
    return info._replace(
        shape=(stop - start, *info.shape[1:]),
        start=info.start + start * size,
        stop=info.start + stop * size,
    )


def piece_of(info: TensorInfo, number: int, count: int) -> TensorInfo:
    """One of `count` tensors of two dimensions that are stored as one, along its first dimension."""
    rows = math.prod(info.shape[:-1]) // count
    size = info.nbytes // count
    return info._replace(
        shape=(rows, info.shape[-1]), start=info.start + number * size, stop=info.start + (number + 1) * size
    )


def part_of_row(info: TensorInfo, row: int, start: int, stop: int) -> TensorInfo:
    """Elements [start, stop) of what lies under one first index: a range of bytes too."""
    size = info.nbytes // info.elements
    begin = info.start + (row * (info.elements // info.shape[0]) + start) * size
    return info._replace(shape=(stop - start,), start=begin, stop=begin + (stop - start) * size)


def header_length(prefix: bytes, *, shard: str, file_bytes: int) -> int:
    """Length of the JSON header in bytes, from the first 8 bytes of a file of `file_bytes`.

    Raises:
        CheckpointFormatError: The file is too short for it, or it is absurd.
    """
    if len(prefix) < 8:
        raise broken(shard, f"The file has {file_bytes} bytes and a header needs at least 8.")
    length = int.from_bytes(prefix[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise broken(
            shard,
            f"Its first 8 bytes announce a header of {length:,} bytes, over the format's limit of "
            f"{MAX_HEADER_BYTES:,}.",
        )
    if 8 + length > file_bytes:
        raise broken(
            shard,
            f"Its first 8 bytes announce a header of {length:,} bytes in a file of {file_bytes:,}.",
        )
    return length


def parse_header(header: bytes, *, shard: str, file_bytes: int) -> list[TensorInfo]:
    """The tensors of one file, sorted by where they lie.

    Args:
        header: The JSON part, exactly.
        shard: The file's name, for messages and for `TensorInfo.shard`.
        file_bytes: Size of the whole file.

    Raises:
        CheckpointFormatError: Anything in it contradicts the format, itself or the file's size.
    """
    check_bounds(header, shard)
    data_start = 8 + len(header)
    with _collector_paused():
        entries = parse_json(header, shard)
        _check_metadata(entries.pop("__metadata__", None), shard)
        _check_names(entries, shard)
        tensors = [_parse_entry(name, entry, shard, data_start) for name, entry in entries.items()]
        tensors.sort(key=attrgetter("start", "stop"))
    expected = data_start
    for info in tensors:
        if info.start != expected:
            problem = "overlaps the tensor before it" if info.start < expected else "leaves a hole before it"
            raise broken(
                shard, f"Tensor {info.name!r} begins at byte {info.start:,} of the file and {problem}."
            )
        expected = info.stop
    if expected > file_bytes:
        raise broken(
            shard,
            f"Its header describes {expected:,} bytes and the file has {file_bytes:,}: it is cut short.",
        )
    if expected < file_bytes:
        raise broken(
            shard,
            f"Its header describes {expected:,} bytes and the file has {file_bytes:,}: "
            f"{file_bytes - expected:,} belong to nothing.",
        )
    return tensors


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Nothing made here is part of a cycle, and to look for one takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _check_metadata(metadata: Any, shard: str) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise broken(shard, "Its '__metadata__' is not an object of texts.")
    try:
        for text in (*metadata, *metadata.values()):
            text.encode("utf-8")
    except UnicodeEncodeError:  # an escaped lone surrogate
        raise broken(shard, "Its '__metadata__' holds what is no text.") from None


def _check_names(names: Collection[str], shard: str) -> None:
    if "".join(names).isprintable() and max(map(len, names), default=0) <= MAX_NAME_CHARACTERS:
        return
    for name in names:
        if len(name) > MAX_NAME_CHARACTERS:
            raise broken(shard, f"Its header names a tensor with {len(name):,} characters, {name[:40]!r}….")
        if not name.isprintable():  # nor is a lone surrogate
            raise broken(shard, f"Its header names a tensor {name!r}, with unprintable characters.")


def _parse_entry(name: str, entry: Entry | Any, shard: str, data_start: int) -> TensorInfo:
    if type(entry) is not tuple:
        raise _no_entry(name, entry, shard)
    dtype, shape, begin, end = entry
    bits = _BITS.get(dtype) if type(dtype) is str else None
    if bits is None:
        raise broken(shard, f"Tensor {name!r} has the unknown dtype {brief(dtype)}.")
    elements = 1
    for size in shape:
        # type() rather than isinstance(): JSON's true is a Python int too.
        if type(size) is not int or not 0 <= size <= MAX_ELEMENTS:
            raise _impossible_shape(name, shape, shard)
        elements *= size
        if elements > MAX_ELEMENTS:
            raise _impossible_shape(name, shape, shard)
    if len(shape) > MAX_DIMENSIONS:
        raise _impossible_shape(name, shape, shard)
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end <= MAX_ELEMENTS:
        raise broken(shard, f"Tensor {name!r} has the impossible offsets {brief([begin, end])}.")
    if elements * bits != 8 * (end - begin):
        needed = elements * bits / 8
        raise broken(
            shard,
            f"Tensor {name!r} of shape {brief([*shape])} and dtype {dtype} needs {needed:,g} bytes and its "
            f"offsets span {end - begin:,}.",
        )
    return TensorInfo(name, dtype, shape, shard, data_start + begin, data_start + end)


def _no_entry(name: str, entry: Any, shard: str) -> CheckpointFormatError:
    if not isinstance(entry, dict) or not entry.keys() >= set(FIELDS):
        return broken(shard, f"Tensor {name!r} has no dtype, shape and data_offsets in the header.")
    if not isinstance(entry["shape"], list):
        return _impossible_shape(name, entry["shape"], shard)
    return broken(shard, f"Tensor {name!r} has the impossible offsets {brief(entry['data_offsets'])}.")


def _impossible_shape(name: str, shape: Any, shard: str) -> CheckpointFormatError:
    shown = [*shape] if isinstance(shape, tuple) else shape
    return broken(shard, f"Tensor {name!r} has the impossible shape {brief(shown)}.")
