"""Headers that lie are refused: in three sentences, in less than a second, with little memory."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import process_time

import pytest
from safetensors import SafetensorError, safe_open

from tests.checkpoints.hostile_headers import (
    HEAVY,
    HOSTILE,
    ONE,
    STRICTER,
    entry,
    parse,
    tensors,
    with_header,
)
from weightscope.checkpoints.header import MAX_HEADER_BYTES, TensorInfo, header_length, parse_header
from weightscope.checkpoints.header_json import MAX_METADATA_BYTES, MAX_NAME_CHARACTERS
from weightscope.checkpoints.stream import open_source
from weightscope.errors import CheckpointFormatError

# What no file may take; the slowest takes a third of it on a slow core.
SECONDS = 1.0
# Twice the largest header that is not refused for its size alone, and a little: its bytes once more, as text.
MEMORY = 25_000_000


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_headers(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert_refused(lambda: open_source(path))


def assert_refused(read: Callable[[], object]) -> None:
    started = process_time()
    with pytest.raises(CheckpointFormatError) as caught:
        read()
    assert process_time() - started < SECONDS
    error = caught.value
    assert error.asked == "'x.safetensors' was read as a safetensors file."
    assert error.found.endswith(".")
    assert error.advice.endswith(".")
    assert len(str(error)) < 1000
    assert str(error).isprintable()
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    # Again, since counting memory takes time.
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointFormatError):
            read()
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", HEAVY.values(), ids=HEAVY.keys())
def test_heavy_headers(make: Callable[[], bytes]) -> None:
    header = make()
    assert_refused(lambda: parse_header(header, shard="x.safetensors", file_bytes=8 + len(header)))


def test_a_heavy_header_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(with_header(HEAVY["300,000 tensors"]()))
    with pytest.raises(CheckpointFormatError, match="describes 300,000 tensors, and 250,000 are the most"):
        open_source(path)


def parse_alone(header: bytes, data: int = 0) -> list[TensorInfo]:
    return parse_header(header, shard="x.safetensors", file_bytes=8 + len(header) + data)


def test_large_headers_that_are_real() -> None:
    many = tensors(30_000)
    assert len(parse_alone(many, 30_000 * 58720256)) == 30_000
    # An adapter's tags: a JSON text in a JSON text, of many commas, quotes and brackets.
    tags = json.dumps({f"a tag, {number}": {"count": number, "in": [1, 2]} for number in range(60_000)})
    metadata = json.dumps({"__metadata__": {"ss_tag_frequency": tags, "ss_network_dim": "32"}})
    assert 2_000_000 < len(metadata) < MAX_METADATA_BYTES
    assert parse_alone(metadata.encode()) == []
    assert len(parse_alone(f'{metadata[:-1]},"x":{ONE}}}'.encode(), 4)) == 1


@pytest.mark.parametrize("dimensions", [1, 8, 64])
def test_many_tensors_of_many_dimensions(dimensions: int) -> None:
    shape = [1] * dimensions
    # A few may have as many as a tensor can; a thousand of those are no model.
    entries = {f"x{i}": entry("U8", shape, [i, i + 1]) for i in range(100 if dimensions == 64 else 1000)}
    assert len(parse_alone(json.dumps(entries, indent=4).encode(), len(entries))) == len(entries)


def test_a_name_as_long_as_allowed_in_escapes() -> None:
    header = json.dumps({"é" * MAX_NAME_CHARACTERS: entry()}).encode()
    assert parse_alone(header, 4)[0].name == "é" * MAX_NAME_CHARACTERS


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in STRICTER])
def test_safetensors_refuses_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises((SafetensorError, RuntimeError, OSError, ValueError)):
        safe_open(path, "pt").__enter__()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("length: seven bytes", "The file has 7 bytes and a header needs at least 8"),
        ("length: length of 2**63", "announce a header of 9,223,372,036,854,775,808 bytes"),
        ("length: cut in the data", "cut short"),
        ("length: one byte too many", "1 belong to nothing"),
        ("offsets: overlapping", "'y'.*overlaps"),
        ("offsets: hole in the middle", "'y'.*leaves a hole"),
        ("offsets: reversed", r"'x' has the impossible offsets \[4, 0\]"),
        ("shape: too small", r"'x' of shape \[2\] and dtype F32 needs 8 bytes and its offsets span 4"),
        ("shape: product of 2**64", r"'x' has the impossible shape \[4294967296, 4294967296\]"),
        ("entry: unknown dtype", "'x' has the unknown dtype 'F128'"),
        ("entry: no shape", "'x' has no dtype, shape and data_offsets"),
        ("JSON: a tensor twice", "the key 'x' more than once"),
        ("JSON: a list", "a JSON list, not an object"),
        ("JSON: NaN", "NaN, which is not JSON"),
        ("JSON: deep lists", "nested too deeply|JSON list"),
        ("JSON: bad UTF-8", r"not UTF-8 \(byte 3\)"),
    ],
)
def test_messages_say_what_is_wrong(name: str, words: str) -> None:
    with pytest.raises(CheckpointFormatError, match=words):
        parse(HOSTILE[name])


def test_the_formats_limit_holds_in_a_large_file_too() -> None:
    def announced(length: int) -> int:
        return header_length(length.to_bytes(8, "little"), shard="x.safetensors", file_bytes=2**40)

    assert announced(MAX_HEADER_BYTES) == MAX_HEADER_BYTES
    with pytest.raises(CheckpointFormatError, match="over the format's limit of 100,000,000"):
        announced(MAX_HEADER_BYTES + 1)
