"""Small data sets on disk, written by pyarrow, Pillow and struct, not by us."""

import gzip
import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

FASHION = (
    "T - shirt / top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DIGIT_NAMES = tuple("0123456789")


def pictures(count: int, size: tuple[int, ...] = (28, 28), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random pictures; every class of ten in turn."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *size), dtype=np.uint8), np.arange(count) % 10


def png(picture: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", **options)
    return file.getvalue()


def write_parquet(
    path: Path,
    contents: Sequence[Any],
    labels: Sequence[int | None] | np.ndarray,
    *,
    column: str = "image",
    names: Sequence[str] | None = DIGIT_NAMES,
    metadata: bytes | None = None,
    label_type: pa.DataType | None = None,
) -> Path:
    """A shard as the datasets library writes it; `contents` are PNG files or arrays to make them from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [png(one) if isinstance(one, np.ndarray) else one for one in contents]
    structs = pa.array(
        [{"bytes": file, "path": None} for file in files],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({column: structs, "label": pa.array(list(labels), label_type or pa.int64())})
    if names is not None:
        features = {column: {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        metadata = json.dumps({"info": {"features": features}}).encode()
    if metadata is not None:
        table = table.replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(table, path, row_group_size=7)
    return path


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(
    folder: Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    prefix: str = "train",
    joint: str = "-",
    compressed: bool = False,
) -> Path:
    """Images and labels; `joint` is what stands before `idx3`: MNIST's files came with both."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in (("images", images), ("labels", labels)):
        name = f"{prefix}-{kind}{joint}idx{array.ndim}-ubyte"
        content = idx(array)
        (folder / (name + ".gz" * compressed)).write_bytes(gzip.compress(content) if compressed else content)
    return folder


def bytes_of_weights(nets: dict[str, dict[str, torch.Tensor]]) -> dict[str, bytes]:
    """Every tensor of a run's nets, bit for bit."""
    return {
        f"{name}/{key}": tensor.numpy().tobytes()
        for name, tensors in nets.items()
        for key, tensor in tensors.items()
    }
