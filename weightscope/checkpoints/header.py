"""Safetensors headers, read as hostile input.

A safetensors file is 8 bytes of little-endian header length N, N bytes of JSON, then the data:
`{"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}, "__metadata__": {...}}`,
offsets relative to the end of the header, covering the data without holes or overlaps. Nothing is
allocated or trusted before it has been checked against the size of the file.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from reprlib import repr as brief  # bounded in length and depth, whatever a header holds
from typing import Any

from weightscope.checkpoints.dtypes import ELEMENT_TYPES
from weightscope.errors import CheckpointFormatError

# The reference implementation's own limit (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
MAX_HEADER_BYTES = 100_000_000
# torch stores a tensor's sizes inline up to 5; nobody's weights come near 64 dimensions.
MAX_DIMENSIONS = 64
# Past this, products of dimensions leave the 64-bit integers every reader computes with.
MAX_ELEMENTS = 2**63 - 1
# Real names stay below 200 characters; one of megabytes would be repeated in every message.
MAX_NAME_CHARACTERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
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
    return replace(
        info,
        shape=(stop - start, *info.shape[1:]),
        start=info.start + start * size,
        stop=info.start + stop * size,
    )


def part_of_row(info: TensorInfo, row: int, start: int, stop: int) -> TensorInfo:
    """Elements [start, stop) of what lies under one first index: a range of bytes too."""
    size = info.nbytes // info.elements
    begin = info.start + (row * (info.elements // info.shape[0]) + start) * size
    return replace(info, shape=(stop - start,), start=begin, stop=begin + (stop - start) * size)


def header_length(prefix: bytes, *, shard: str, file_bytes: int) -> int:
    """Length of the JSON header in bytes, from the first 8 bytes of a file of `file_bytes`.

    Raises:
        CheckpointFormatError: The file is too short for it, or it is absurd.
    """
    if len(prefix) < 8:
        raise _broken(shard, f"The file has {file_bytes} bytes and a header needs at least 8.")
    length = int.from_bytes(prefix[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise _broken(
            shard,
            f"Its first 8 bytes announce a header of {length:,} bytes, over the format's limit of "
            f"{MAX_HEADER_BYTES:,}.",
        )
    if 8 + length > file_bytes:
        raise _broken(
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
    entries = _parse_json(header, shard)
    entries.pop("__metadata__", None)
    data_start = 8 + len(header)
    tensors = [_parse_entry(name, entry, shard, data_start) for name, entry in entries.items()]
    tensors.sort(key=lambda info: (info.start, info.stop))
    expected = data_start
    for info in tensors:
        if info.start != expected:
            problem = "overlaps the tensor before it" if info.start < expected else "leaves a hole before it"
            raise _broken(
                shard, f"Tensor {info.name!r} begins at byte {info.start:,} of the file and {problem}."
            )
        expected = info.stop
    if expected > file_bytes:
        raise _broken(
            shard,
            f"Its header describes {expected:,} bytes and the file has {file_bytes:,}: it is cut short.",
        )
    if expected < file_bytes:
        raise _broken(
            shard,
            f"Its header describes {expected:,} bytes and the file has {file_bytes:,}: "
            f"{file_bytes - expected:,} belong to nothing.",
        )
    return tensors


def _broken(shard: str, found: str) -> CheckpointFormatError:
    return CheckpointFormatError(
        f"{shard!r} was read as a safetensors file.",
        found,
        "Fetch the file again and compare its size and SHA-256 with the source's.",
    )


def _parse_json(header: bytes, shard: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
            raise _broken(shard, f"Its header has the key {twice[:200]!r} more than once.")
        return result

    def no_constant(text: str) -> None:
        raise _broken(shard, f"Its header contains {text}, which is not JSON.")

    try:
        text = header.decode("utf-8")
        parsed = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except UnicodeDecodeError as error:
        raise _broken(shard, f"Its header is not UTF-8 (byte {error.start:,}).") from None
    except RecursionError:
        raise _broken(shard, "Its header is nested too deeply to be one.") from None
    except CheckpointFormatError:
        raise
    except ValueError as error:  # json.JSONDecodeError, or an integer of thousands of digits
        raise _broken(shard, f"Its header is not JSON ({str(error)[:80]}).") from None
    if not isinstance(parsed, dict):
        raise _broken(shard, f"Its header is a JSON {type(parsed).__name__}, not an object.")
    return parsed


def _parse_entry(name: str, entry: Any, shard: str, data_start: int) -> TensorInfo:
    if len(name) > MAX_NAME_CHARACTERS:
        raise _broken(shard, f"Its header names a tensor with {len(name):,} characters, {name[:40]!r}….")
    if not name.isprintable():  # nor is a lone surrogate
        raise _broken(shard, f"Its header names a tensor {name!r}, with unprintable characters.")
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise _broken(shard, f"Tensor {name!r} has no dtype, shape and data_offsets in the header.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ELEMENT_TYPES:
        raise _broken(shard, f"Tensor {name!r} has the unknown dtype {brief(dtype)}.")
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise _broken(shard, f"Tensor {name!r} has the impossible shape {brief(shape)}.")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _broken(shard, f"Tensor {name!r} has the impossible offsets {brief(offsets)}.")
    elements = 1
    for size in shape:
        elements *= size
        if elements > MAX_ELEMENTS:
            raise _broken(shard, f"Tensor {name!r} has the impossible shape {brief(shape)}.")
    bits = elements * ELEMENT_TYPES[dtype].bits
    if bits != 8 * (offsets[1] - offsets[0]):
        raise _broken(
            shard,
            f"Tensor {name!r} of shape {brief(shape)} and dtype {dtype} needs {bits / 8:,g} bytes and its "
            f"offsets span {offsets[1] - offsets[0]:,}.",
        )
    return TensorInfo(
        name=name,
        dtype=dtype,
        shape=tuple(shape),
        shard=shard,
        start=data_start + offsets[0],
        stop=data_start + offsets[1],
    )


def _are_sizes(value: Any) -> bool:
    # type() rather than isinstance(): JSON's true is a Python int too.
    return isinstance(value, list) and all(type(size) is int and 0 <= size <= MAX_ELEMENTS for size in value)
