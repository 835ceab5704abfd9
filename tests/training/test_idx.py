"""IDX files: the format's own words, and files that lie."""

import contextlib
import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.sets import idx, pictures
from weightscope.errors import DataFormatError
from weightscope.training.idx import read_idx

IMAGES, LABELS = pictures(12, (5, 3))


def zipped(content: bytes) -> bytes:
    """Without the time of day, which would get into the names of tests."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_what_was_written_is_read(pack):
    assert np.array_equal(read_idx(pack(idx(IMAGES)), "f", (3,)), IMAGES)
    labels = read_idx(pack(idx(LABELS)), "f", (1,))
    assert np.array_equal(labels, LABELS)
    assert labels.flags.writeable


def test_the_header_of_mnist_byte_by_byte():
    """From the format's description: magic 0x00000803, 2 images, 1 row, 3 columns."""
    content = bytes.fromhex("00000803 00000002 00000001 00000003 000102 fdfeff")
    assert read_idx(content, "f", (3,)).tolist() == [[[0, 1, 2]], [[253, 254, 255]]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "begins with nothing"),
        (b"\x89PNG\r\n\x1a\n", "begins with 89 50 4e 47"),
        (b"\0\0\x0d\x03" + bytes(50), "type 0x0d"),
        (idx(LABELS), "1 dimensions, and 3"),
        (idx(IMAGES)[:9], "within its header"),
        (idx(IMAGES)[:-1], "180 bytes follow, and there are 179"),
        (idx(IMAGES) + b"x", "there are more"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 0, 28, 28), "holds nothing"),
        (b"\0\0\x08\x03" + struct.pack(">3I", *[2**32 - 1] * 3) + bytes(64), "more than the file can hold"),
        (zipped(b"\0\0\x08\x03" + struct.pack(">3I", 2**20, 2**9, 2**9)), "file can hold"),
        (zipped(idx(IMAGES))[:-12], "cannot be decompressed"),
        (zipped(idx(IMAGES))[:20], "cannot be decompressed|within its header|begins with"),
        (b"\x1f\x8b\xff\xff", "cannot be decompressed"),
    ],
)  # fmt: skip
def test_files_that_are_not_what_they_say(content, words):
    with pytest.raises(DataFormatError, match=words):
        read_idx(content, "some-file", (3,))


def test_a_bomb_is_not_unpacked():
    """100 MB of zeros behind a header that speaks of 15 bytes: one byte too many is enough to refuse it."""
    bomb = gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 15) + bytes(100_000_000), mtime=0)
    tracemalloc.start()
    with pytest.raises(DataFormatError, match="more"):
        read_idx(bomb, "f", (1,))
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


@given(st.integers(0, 400), st.binary(max_size=8), st.booleans())
def test_spoilt_files_give_our_error_or_an_array_of_the_length_they_hold(place, patch, compressed):
    content = gzip.compress(idx(IMAGES), mtime=0) if compressed else idx(IMAGES)
    spoilt = content[:place] + patch + content[place + len(patch) :]
    with contextlib.suppress(DataFormatError):
        assert read_idx(spoilt, "f", (1, 3)).size <= 1032 * len(spoilt)
