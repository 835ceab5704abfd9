"""Pictures in Parquet files as the Hub lays them out: a struct of PNG bytes and a path, and a label.

The column is called `image` or `img`; what the classes are called stands in the schema's `huggingface`
metadata. One thread: Pillow's work on a small picture is mostly Python's, and two threads took twice as long.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from weightscope.checkpoints.json_object import parse_json_object
from weightscope.errors import CheckpointFormatError
from weightscope.training.image_set import LARGEST_BYTES, LARGEST_LABEL, unreadable

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_COLUMNS = ("image", "img")
_ROWS_AT_ONCE = 1000
_SIGNATURE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_HEADER = 26  # bytes: signature, width, height, bit depth, colour type
# The last two of these: grey or RGB, of 8 bits, by Pillow's names.
_MODES = {b"\x08\x00": "L", b"\x08\x02": "RGB"}
_LARGEST_SIDE = 4096


@dataclass(frozen=True, slots=True)
class _Kind:
    """What every picture of a set must agree on."""

    header: bytes
    width: int
    height: int
    mode: str

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height, self.width) if self.mode == "L" else (self.height, self.width, 3)


def read_parquet(
    files: Sequence[tuple[str, bytes]],
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...] | None]:
    """The pictures of one or more shards, in their order.

    Args:
        files: Name and content of each.

    Returns:
        Images, uint8, shape (count, height, width) or (count, height, width, 3); labels, int64, shape
        (count,); the names of the classes, None where the files do not say.

    Raises:
        DataFormatError: Other columns, a picture that is no PNG or of another size, a label out of range.
    """
    from pyarrow import ArrowException

    tables: list[tuple[str, ParquetFile, str]] = []
    for name, content in files:
        try:
            tables.append((name, *_open(name, content)))
        except (ArrowException, OSError) as error:
            raise unreadable(name, f"It is not a Parquet file ({_short(error)}).") from None
    names = _class_names(tables[0][1])
    labels = []
    for name, table, _ in tables:
        if _class_names(table) != names:
            raise unreadable(name, f"Its classes are not those of '{tables[0][0]}'.")
        try:
            labels.append(_labels(name, table, LARGEST_LABEL if names is None else len(names) - 1))
        except (ArrowException, OSError) as error:
            raise unreadable(name, f"Its labels cannot be read ({_short(error)}).") from None
    all_labels = np.concatenate(labels)
    if not len(all_labels):
        raise unreadable(tables[0][0], "It has no rows.")
    return _images(tables, len(all_labels)), all_labels, names


def _open(name: str, content: bytes) -> tuple[ParquetFile, str]:
    """The file, and what its column of pictures is called."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    table = ParquetFile(pa.BufferReader(content))
    schema = table.schema_arrow
    columns = [column for column in _COLUMNS if column in schema.names]
    fits = len(columns) == 1 and schema.names.count(columns[0]) == schema.names.count("label") == 1
    if fits:
        kind = schema.field(columns[0]).type
        inner = (
            kind.field("bytes").type
            if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
            else kind
        )
        fits = inner in (pa.binary(), pa.large_binary()) and pa.types.is_struct(kind)
        fits = fits and pa.types.is_integer(schema.field("label").type)
    if not fits:
        found = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise unreadable(
            name,
            f"Expected were a column image or img, struct<bytes: binary, path: string>, and an integer "
            f"column label; it has {found[:200] or 'none'}.",
        )
    return table, columns[0]


def _class_names(table: ParquetFile) -> tuple[str, ...] | None:
    """From the metadata that the datasets library writes; None where it is absent or says something else."""
    content = (table.schema_arrow.metadata or {}).get(b"huggingface", b"")
    try:
        found: Any = parse_json_object(content, "metadata")
    except CheckpointFormatError:
        return None
    for key in ("info", "features", "label", "names"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list) or not found or not all(isinstance(name, str) for name in found):
        return None
    return tuple(found)


def _labels(name: str, table: ParquetFile, highest: int) -> np.ndarray:
    import pyarrow as pa

    if table.metadata.num_rows > LARGEST_BYTES // 8:
        raise unreadable(name, f"It says that it has {table.metadata.num_rows:,} rows.")
    column = table.read(columns=["label"]).column("label")
    if column.null_count:
        raise unreadable(name, f"{column.null_count:,} of its labels are missing.")
    labels: np.ndarray = column.cast(pa.int64()).to_numpy()
    wrong = np.flatnonzero((labels < 0) | (labels > highest))
    if len(wrong):
        raise unreadable(name, f"Row {wrong[0]} has label {labels[wrong[0]]}; labels are 0 to {highest}.")
    return labels


def _images(tables: Sequence[tuple[str, ParquetFile, str]], count: int) -> np.ndarray:
    images: np.ndarray | None = None
    kind: _Kind | None = None
    done = 0
    for name, table, column in tables:
        for row, content in enumerate(_contents(name, table, column)):
            if images is None or kind is None:
                kind = _kind(name, content)
                if count * np.prod(kind.shape, dtype=object) > LARGEST_BYTES:
                    raise unreadable(
                        name, f"{count:,} pictures of {kind.width} × {kind.height} are too much."
                    )
                images = np.empty((count, *kind.shape), dtype=np.uint8)
            if done == count:
                raise unreadable(name, "It has more pictures than labels.")
            images[done] = _decoded(name, row, content, kind)
            done += 1
    if images is None or done < count:
        raise unreadable(tables[-1][0], "It has fewer pictures than labels.")
    return images


def _contents(name: str, table: ParquetFile, column: str) -> Iterator[bytes]:
    """The PNG files, one a row."""
    from pyarrow import ArrowException

    row = 0
    try:
        for batch in table.iter_batches(_ROWS_AT_ONCE, columns=[f"{column}.bytes"]):
            for content in batch.column(0).field("bytes").to_pylist():
                if content is None:
                    raise unreadable(
                        name, f"Row {row} has no picture in it, only the path of one or nothing."
                    )
                yield content
                row += 1
    except (ArrowException, OSError) as error:
        raise unreadable(name, f"Its pictures cannot be read, from row {row} on ({_short(error)}).") from None


def _kind(name: str, content: bytes) -> _Kind:
    """What the first picture says that all are."""
    header = content[:_HEADER]
    if not header.startswith(_SIGNATURE) or len(header) < _HEADER:
        raise unreadable(name, "Row 0 holds no PNG file.")
    mode = _MODES.get(header[24:])
    if mode is None:
        raise unreadable(
            name,
            f"Its pictures have bit depth {header[24]}, colour type {header[25]}; 8-bit grey or RGB is read.",
        )
    width, height = int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise unreadable(name, f"Row 0 says that it is {width:,} × {height:,} pixels.")
    return _Kind(header, width, height, mode)


def _decoded(name: str, row: int, content: bytes, kind: _Kind) -> np.ndarray:
    from PIL import Image

    if content[:_HEADER] != kind.header:
        if not content.startswith(_SIGNATURE):
            raise unreadable(name, f"Row {row} holds no PNG file.")
        raise unreadable(name, f"Row {row} is of another size or kind than the first picture.")
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            # A second header inside the file could say otherwise.
            if picture.size == (kind.width, kind.height) and picture.mode == kind.mode:
                return np.asarray(picture)
            found = f"is {picture.mode} of {picture.width} × {picture.height} inside"
    except Exception as error:  # Pillow lets through what its parsers, zlib and struct raise
        found = f"cannot be decoded ({_short(error)})"
    raise unreadable(name, f"Row {row} {found}.")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__
