"""Parquet files with pictures, written by pyarrow and Pillow."""

import io
import struct
import time
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.training.sets import DIGIT_NAMES, FASHION, pictures, png, write_parquet
from weightscope.errors import DataFormatError
from weightscope.training.parquet_images import read_parquet


def read(*paths):
    return read_parquet([(path.name, path.read_bytes()) for path in paths])


@pytest.mark.parametrize("column", ["image", "img"])
@pytest.mark.parametrize("size", [(28, 28), (5, 9), (32, 32, 3)])
def test_what_was_written_is_read(column, size, tmp_path):
    images, labels = pictures(23, size)
    path = write_parquet(tmp_path / "a.parquet", images, labels, column=column, names=FASHION)
    got, classes, names = read(path)
    assert got.dtype == np.uint8
    assert classes.dtype == np.int64
    assert np.array_equal(got, images)
    assert np.array_equal(classes, labels)
    assert names == FASHION


def test_shards_in_order_with_other_encodings_and_label_types(tmp_path):
    images, labels = pictures(30)
    files = [
        png(picture, compress_level=level % 10, optimize=level % 2 == 0)
        for level, picture in enumerate(images)
    ]
    first = write_parquet(tmp_path / "a", files[:11], labels[:11], label_type=pa.int8())
    second = write_parquet(tmp_path / "b", files[11:], labels[11:], label_type=pa.uint64())
    got, classes, names = read(first, second)
    assert np.array_equal(got, images)
    assert np.array_equal(classes, labels)
    assert names == DIGIT_NAMES
    swapped, _, _ = read(second, first)
    assert np.array_equal(swapped[:19], images[11:])


@pytest.mark.parametrize(
    "metadata", [None, b"", b"{", b"[1]", b"{}", b'{"info": {"features": []}}', b"[" * 10**5]
)
def test_without_names_of_classes(metadata, tmp_path):
    images, labels = pictures(5)
    path = write_parquet(tmp_path / "a", images, labels * 7, names=None, metadata=metadata)
    _, classes, names = read(path)
    assert names is None
    assert classes.tolist() == [0, 7, 14, 21, 28]


def rgba(picture):
    return png(np.stack([picture] * 4, axis=-1))


def claims(width, height):
    """A PNG whose header says this size; nothing of that size is in it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header)) + bytes(40)


def two_headers(picture):
    """A second header inside says another size."""
    content = png(picture)
    header = b"IHDR" + struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    return content[:33] + b"\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


def jpeg(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG")
    return file.getvalue()


PICTURE = pictures(1)[0][0]


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ([b"GIF89a"], "Row 0 holds no PNG"),
        ([b""], "Row 0 holds no PNG"),
        ([jpeg(PICTURE)], "Row 0 holds no PNG"),
        ([PICTURE, jpeg(PICTURE)], "Row 1 holds no PNG"),
        ([PICTURE, None], "Row 1 has no picture"),
        ([PICTURE, PICTURE[:20]], "Row 1 is of another size"),
        ([PICTURE, png(PICTURE)[:90]], "Row 1 cannot be decoded"),
        ([PICTURE, png(PICTURE)[:26]], "Row 1 cannot be decoded"),
        ([PICTURE, png(PICTURE)[:60] + b"\xff" * 40 + png(PICTURE)[100:]], "Row 1 cannot be decoded"),
        ([PICTURE, two_headers(PICTURE)], "Row 1 is L of 4 × 4|Row 1 cannot be decoded"),
        ([rgba(PICTURE)], "colour type 6"),
        ([png(PICTURE.astype(np.uint16))], "bit depth 16"),
        ([claims(2**31 - 1, 2**31 - 1)], "2,147,483,647"),
        ([claims(0, 28)], "0 × 28"),
    ],
)  # fmt: skip
def test_pictures_that_are_none(contents, words, tmp_path):
    path = write_parquet(tmp_path / "a", contents, range(len(contents)))
    with pytest.raises(DataFormatError, match=words):
        read(path)


def test_too_many_pixels_are_not_allocated(tmp_path):
    path = write_parquet(tmp_path / "a", [claims(4096, 4096)] * 600, [0] * 600)
    with pytest.raises(DataFormatError, match="600 pictures of 4096 × 4096"):
        read(path)


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([0, 10], DIGIT_NAMES, "Row 1 has label 10; labels are 0 to 9"),
        ([0, -1], DIGIT_NAMES, "Row 1 has label -1"),
        ([2**62, 0], None, "Row 0 has label 4611686018427387904"),
        ([0, None], DIGIT_NAMES, "1 of its labels are missing"),
    ],
)
def test_labels_out_of_range(labels, names, words, tmp_path):
    path = write_parquet(tmp_path / "a", [PICTURE] * 2, labels, names=names)
    with pytest.raises(DataFormatError, match=words):
        read(path)


def other(**columns):
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


STRUCT = pa.array([{"bytes": b"x", "path": None}])
NUMBERS = pa.array([1])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PAR1 no", "not a Parquet file"),
        (b"", "not a Parquet file"),
        (other(text=["a"], label=NUMBERS), r"it has text \(.*string\), label \(int64\)"),
        (other(image=STRUCT), "integer column label"),
        (other(image=STRUCT, img=STRUCT, label=NUMBERS), "column image or img"),
        (other(image=[b"x"], label=NUMBERS), r"image \(binary\)"),
        (other(image=[{"path": "x"}], label=NUMBERS), "column image or img"),
        (other(image=[{"bytes": "text"}], label=NUMBERS), "column image or img"),
        (other(image=STRUCT, label=[1.0]), r"label \(double\)"),
        (other(image=STRUCT, label=["cat"]), "integer column label"),
    ],
)
def test_other_files_and_columns(content, words):
    with pytest.raises(DataFormatError, match=words):
        read_parquet([("some.parquet", content)])


def test_no_rows(tmp_path):
    with pytest.raises(DataFormatError, match="no rows"):
        read(write_parquet(tmp_path / "a", [], []))


def test_shards_of_two_sets(tmp_path):
    images, labels = pictures(3)
    first = write_parquet(tmp_path / "a", images, labels)
    with pytest.raises(DataFormatError, match=r"'b'.*classes are not those of 'a'"):
        read(first, write_parquet(tmp_path / "b", images, labels, names=FASHION))
    with pytest.raises(DataFormatError, match=r"'b'.*another size"):
        read(first, write_parquet(tmp_path / "b", images[:, :9], labels))


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    images, labels = pictures(9, (6, 6))
    return write_parquet(tmp_path_factory.mktemp("intact") / "a", images, labels).read_bytes()


@given(where=st.integers(0, 10**6), patch=st.binary(min_size=1, max_size=6), cut=st.booleans())
def test_spoilt_files_give_our_error_or_pictures(where, patch, cut, intact):
    where %= len(intact)
    spoilt = intact[:where] + (b"" if cut else patch + intact[where + len(patch) :])
    try:
        images, labels, _ = read_parquet([("spoilt", spoilt)])
    except DataFormatError:
        return
    assert len(images) == len(labels) > 0


def test_speed(tmp_path):
    """Measured were 60,000 pictures of 28 × 28 in 3 s on one core; this allows a hundred times as long."""
    path = write_parquet(tmp_path / "a", [PICTURE] * 3000, [0] * 3000)
    start = time.perf_counter()
    read(path)
    assert time.perf_counter() - start < 15
