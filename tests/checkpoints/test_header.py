"""Headers: what safetensors writes reads back identically; what lies is refused, quickly and by name."""

import json
import random
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.torch import save, save_file

from weightscope.checkpoints.dtypes import ELEMENT_TYPES
from weightscope.checkpoints.header import MAX_HEADER_BYTES, TensorInfo, header_length, parse_header
from weightscope.checkpoints.stream import open_source
from weightscope.errors import CheckpointFormatError

# The slowest hostile header takes 0.1 s on a slow core; reading what it announces would take far longer.
QUICKLY = 3.0


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def file_of(entries: object, data: bytes = b"") -> bytes:
    return with_header(json.dumps(entries).encode(), data)


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def parse(content: bytes) -> list[TensorInfo]:
    length = header_length(content[:8], shard="x.safetensors", file_bytes=len(content))
    return parse_header(content[8 : 8 + length], shard="x.safetensors", file_bytes=len(content))


def assert_reads_as_safetensors_does(path: Path) -> None:
    """Names in the order of their bytes, dtypes and shapes."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    header.pop("__metadata__", None)
    with open_source(path) as source, safe_open(path, "pt") as reference:
        assert set(source.index) == set(reference.keys())
        assert list(source.index) == sorted(header, key=lambda name: header[name]["data_offsets"])
        for name, info in source.index.items():
            part = reference.get_slice(name)
            assert (info.name, info.dtype, list(info.shape)) == (name, part.get_dtype(), part.get_shape())
            assert info.shard == path.name
        stops = [info.stop for info in source.index.values()]
        assert not stops or stops[-1] == path.stat().st_size
        assert source.index.nbytes == sum(info.nbytes for info in source.index.values())


def _safetensors_reads(dtype: str) -> bool:
    bits = ELEMENT_TYPES[dtype].bits
    try:
        deserialize(file_of({"x": entry(dtype, [8], [0, bits])}, bytes(bits)))
    except SafetensorError:
        return False
    return True


def _safetensors_writes(dtype: str) -> bool:
    torch_dtype = getattr(torch, ELEMENT_TYPES[dtype].torch_name or "", None)
    try:
        save({"x": torch.zeros(1, dtype=torch_dtype)})
    except KeyError:
        return False
    return torch_dtype is not None


# The oldest safetensors we support, 0.5, does not know all of them.
READABLE = [dtype for dtype in ELEMENT_TYPES if _safetensors_reads(dtype)]
WRITABLE = [dtype for dtype in READABLE if _safetensors_writes(dtype)]
SHAPES = [(), (0,), (1,), (7,), (0, 5), (5, 0), (2, 3), (3, 1, 2), (2, 0, 4), (1, 2, 1, 3), (1,) * 9]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", WRITABLE)
def test_reads_what_safetensors_writes(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    torch_dtype = getattr(torch, ELEMENT_TYPES[dtype].torch_name or "")
    path = tmp_path / "x.safetensors"
    save_file({"only": torch.zeros(shape, dtype=torch.uint8).to(torch_dtype)}, path)
    assert_reads_as_safetensors_does(path)
    with open_source(path) as source:
        assert source.index["only"].dtype == dtype
        assert source.index["only"].shape == shape
        assert source.index["only"].elements == torch.Size(shape).numel()


def test_what_safetensors_reads_has_not_shrunk() -> None:
    common = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U8", "BOOL"}
    assert set(WRITABLE) >= common


@pytest.mark.parametrize("dtype", READABLE)
def test_knows_the_size_of_every_dtype_that_safetensors_reads(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(
        file_of({"x": entry(dtype, [8], [0, ELEMENT_TYPES[dtype].bits])}, bytes(ELEMENT_TYPES[dtype].bits))
    )
    assert_reads_as_safetensors_does(path)


@pytest.mark.parametrize("seed", range(4))
def test_order_is_that_of_the_bytes(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    dtypes = [torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool, torch.float32]
    names = ["b", "a.weight", "ü", "model.layers.10.x", "model.layers.9.x", "with space", "", "z" * 200]
    rng.shuffle(names)
    tensors = {
        name: torch.ones([rng.randrange(4) for _ in range(rng.randrange(4))]).to(rng.choice(dtypes))
        for name in names
    }
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata={"format": "pt", "note": "\u0000 any text"})
    assert_reads_as_safetensors_does(path)


def test_order_in_the_header_does_not_matter() -> None:
    entries = {"last": entry(offsets=[8, 12]), "middle": entry(offsets=[4, 8])}
    entries |= {"none": entry(shape=[0], offsets=[4, 4]), "first": entry()}
    assert [info.name for info in parse(file_of(entries, bytes(12)))] == ["first", "none", "middle", "last"]


@pytest.mark.parametrize(
    "content",
    [
        file_of({}),
        file_of({"__metadata__": {"format": "pt"}}),
        with_header(b"  \n{} \t "),
    ],
    ids=["no tensors", "metadata alone", "padded with spaces"],
)
def test_a_file_without_tensors_is_a_file(content: bytes) -> None:
    assert parse(content) == []


def text(json_text: str) -> bytes:
    return with_header(json_text.encode(), bytes(4))


X = '"dtype":"F32","shape":[1],"data_offsets":[0,4]'
DEEP = 100_000
ONE = json.dumps(entry())
LENGTH_FIELD = {
    "empty file": b"",
    "seven bytes": bytes(7),
    "length of zero": bytes(8),
    "length one beyond the file": (3).to_bytes(8, "little") + b"{}",
    "length far beyond the file": (MAX_HEADER_BYTES).to_bytes(8, "little") + b"{}",
    "length over the format's limit": (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}",
    "length of 2**63": (2**63).to_bytes(8, "little") + b"{}",
    "length of 2**64-1": b"\xff" * 8 + b"{}",
    "length too short": (5).to_bytes(8, "little") + file_of({"x": entry()}, bytes(4))[8:],
    "cut in the header": file_of({"x": entry()}, bytes(4))[:20],
    "cut in the data": file_of({"x": entry()}, bytes(4))[:-1],
    "data missing": file_of({"x": entry()}),
    "one byte too many": file_of({"x": entry()}, bytes(5)),
    "data without tensors": file_of({}, bytes(1)),
    "another format": b"PK\x03\x04" + bytes(100),
    "an HTML page": b"<!DOCTYPE html><html>" + bytes(100),
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}
OFFSETS = {
    "overlapping": file_of({"x": entry(), "y": entry(offsets=[2, 6])}, bytes(6)),
    "the same twice": file_of({"x": entry(), "y": entry()}, bytes(4)),
    "one inside another": file_of(
        {"x": entry(shape=[3], offsets=[0, 12]), "y": entry(offsets=[4, 8])}, bytes(12)
    ),
    "reversed": file_of({"x": entry(offsets=[4, 0])}, bytes(4)),
    "reversed and empty": file_of({"x": entry(shape=[0], offsets=[4, 0])}, bytes(4)),
    "hole at the start": file_of({"x": entry(offsets=[1, 5])}, bytes(5)),
    "hole in the middle": file_of({"x": entry(), "y": entry(offsets=[5, 9])}, bytes(9)),
    "empty tensor beyond the end": file_of({"x": entry(), "y": entry(shape=[0], offsets=[9, 9])}, bytes(4)),
    "empty tensor inside another": file_of({"x": entry(), "y": entry(shape=[0], offsets=[2, 2])}, bytes(4)),
    "out of range": file_of({"x": entry(shape=[2], offsets=[0, 8])}, bytes(4)),
    "far out of range": file_of({"x": entry(shape=[2**60], offsets=[0, 2**62])}, bytes(4)),
    "beyond 64 bits": file_of({"x": entry(shape=[0], offsets=[2**64, 2**64])}, bytes(4)),
    "of thousands of digits": text(
        f'{{"x":{{"dtype":"F32","shape":[0],"data_offsets":[{"9" * 4300},{"9" * 4300}]}}}}'
    ),
    "negative": file_of({"x": entry(offsets=[-4, 0])}, bytes(4)),
    "fractional": text('{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}}'),
    "boolean": file_of({"x": entry("U8", [1], [False, True])}, bytes(1)),
    "text": file_of({"x": entry(offsets=["0", "4"])}, bytes(4)),
    "null": file_of({"x": entry(offsets=None)}, bytes(4)),
    "one": file_of({"x": entry(offsets=[0])}, bytes(4)),
    "three": file_of({"x": entry(offsets=[0, 4, 4])}, bytes(4)),
    "an object": file_of({"x": entry(offsets={"0": 4})}, bytes(4)),
}
SHAPES_THAT_LIE = {
    "too small": file_of({"x": entry(shape=[2], offsets=[0, 4])}, bytes(4)),
    "too large": file_of({"x": entry(shape=[1], offsets=[0, 8])}, bytes(8)),
    "negative": file_of({"x": entry(shape=[-1])}, bytes(4)),
    "two negatives": file_of({"x": entry(shape=[-1, -1])}, bytes(4)),
    "fractional": text('{"x":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}'),
    "infinite": text('{"x":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}'),
    "boolean": file_of({"x": entry(shape=[True])}, bytes(4)),
    "text": file_of({"x": entry(shape="1")}, bytes(4)),
    "a number": file_of({"x": entry(shape=1)}, bytes(4)),
    "null": file_of({"x": entry(shape=None)}, bytes(4)),
    "nested": file_of({"x": entry(shape=[[1]])}, bytes(4)),
    "huge": file_of({"x": entry(shape=[2**40, 2**20])}, bytes(4)),
    "product of 2**64": file_of({"x": entry(shape=[2**32, 2**32])}, bytes(4)),
    "product of 2**64, no bytes": file_of({"x": entry(shape=[2**32, 2**32], offsets=[0, 0])}),
    "product of 2**66, no bytes": file_of({"x": entry("U8", [2**33, 2**33], [0, 0])}),
    "zero times more than 64 bits": file_of({"x": entry(shape=[0, 2**63], offsets=[0, 0])}),
    "zero times thousands of digits": text(
        f'{{"x":{{"dtype":"F32","shape":[0,{"9" * 4300}],"data_offsets":[0,0]}}}}'
    ),
    "65 dimensions": file_of({"x": entry(shape=[1] * 65)}, bytes(4)),
    "a million dimensions": file_of({"x": entry(shape=[1] * 1_000_000)}, bytes(4)),
    "half a byte": file_of({"x": entry("F4", [1], [0, 1])}, bytes(1)),
    "a byte and a half": file_of({"x": entry("F4", [3], [0, 1])}, bytes(1)),
    "six bits": file_of({"x": entry("F6_E2M3", [1], [0, 0])}),
    "twelve bits": file_of({"x": entry("F6_E2M3", [2], [0, 2])}, bytes(2)),
}
ENTRIES = {
    "unknown dtype": file_of({"x": entry("F128", [1], [0, 16])}, bytes(16)),
    "torch's word for a dtype": file_of({"x": entry("float32")}, bytes(4)),
    "dtype in lower case": file_of({"x": entry("f32")}, bytes(4)),
    "dtype of another type": file_of({"x": entry(32)}, bytes(4)),
    "dtype null": file_of({"x": entry(None)}, bytes(4)),
    "dtype a list": file_of({"x": entry(["F32"])}, bytes(4)),
    "dtype of a million characters": file_of({"x": entry("F" * 1_000_000)}, bytes(4)),
    "no dtype": text('{"x":{"shape":[1],"data_offsets":[0,4]}}'),
    "no shape": text('{"x":{"dtype":"F32","data_offsets":[0,4]}}'),
    "no offsets": text('{"x":{"dtype":"F32","shape":[1]}}'),
    "entry is a list": text('{"x":["F32",[1],[0,4]]}'),
    "entry is a number": text('{"x":1}'),
    "entry is null": text('{"x":null}'),
    "entry is empty": text('{"x":{}}'),
    "name with a line break": file_of({"x\n": entry()}, bytes(4)),
    "name with a terminal's escape": file_of({"x\x1b[2J": entry()}, bytes(4)),
    "name with a lone surrogate": text(f'{{"x\\ud800":{ONE}}}'),
    "name of a million characters": file_of({"x" * 1_000_000: entry()}, bytes(4)),
}
JSON = {
    "a list": text(f"[{ONE}]"),
    "a number": text("1"),
    "a string": text('"x"'),
    "null": text("null"),
    "nothing": text(""),
    "spaces": text("   "),
    "cut short": text(f'{{"x":{ONE}'),
    "two objects": text(f'{{"x":{ONE}}}{{}}'),
    "a comma too many": text(f'{{"x":{ONE},}}'),
    "single quotes": text("{'x':1}"),
    "a tensor twice": text(f'{{"x":{ONE},"x":{ONE}}}'),
    "a key twice in an entry": text(f'{{"x":{{{X},"dtype":"F32"}}}}'),
    "metadata twice": text(f'{{"__metadata__":{{}},"__metadata__":{{}},"x":{ONE}}}'),
    "a key twice, spelled differently": text(f'{{"x":{ONE},"\\u0078":{ONE}}}'),
    "a key of a million characters twice": text(f'{{"{"x" * 1_000_000}":1,"{"x" * 1_000_000}":1}}'),
    "NaN": text(f'{{"x":{{{X},"note":NaN}}}}'),
    "Infinity": text('{"x":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,4]}}'),
    "minus Infinity in the metadata": text(f'{{"__metadata__":{{"a":-Infinity}},"x":{ONE}}}'),
    "an integer of thousands of digits": text(
        f'{{"x":{{"dtype":"F32","shape":[{"9" * 5000}],"data_offsets":[0,4]}}}}'
    ),
    "deep lists": text("[" * DEEP + "]" * DEEP),
    "deep objects": text('{"x":' * DEEP + "1" + "}" * DEEP),
    "deep and cut short": text("[" * DEEP),
    "bad UTF-8": with_header(b'{"x\xff":' + ONE.encode() + b"}", bytes(4)),
    "a surrogate in UTF-8": with_header(b'{"x\xed\xa0\x80":' + ONE.encode() + b"}", bytes(4)),
    "UTF-16": with_header(f'{{"x":{ONE}}}'.encode("utf-16"), bytes(4)),
    "a byte order mark": with_header(b"\xef\xbb\xbf" + f'{{"x":{ONE}}}'.encode(), bytes(4)),
    "a NUL at the end": with_header(f'{{"x":{ONE}}}\0'.encode(), bytes(4)),
}
HOSTILE = {
    f"{part}: {what}": content
    for part, table in {
        "length": LENGTH_FIELD,
        "offsets": OFFSETS,
        "shape": SHAPES_THAT_LIE,
        "entry": ENTRIES,
        "JSON": JSON,
    }.items()
    for what, content in table.items()
}
# What safetensors lets pass: names that could not be printed, sizes that torch could not hold, and a key
# given twice or fields by position, of which its JSON reader never tells.
STRICTER = {
    "entry: entry is a list",
    "JSON: a tensor twice",
    "JSON: a key twice, spelled differently",
    "entry: name with a line break",
    "entry: name with a terminal's escape",
    "entry: name of a million characters",
    "shape: 65 dimensions",
    "shape: a million dimensions",
    "shape: zero times more than 64 bits",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_headers(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    started = perf_counter()
    with pytest.raises(CheckpointFormatError) as caught:
        open_source(path)
    assert perf_counter() - started < QUICKLY
    error = caught.value
    assert error.asked == "'x.safetensors' was read as a safetensors file."
    assert error.found.endswith(".")
    assert len(str(error)) < 1000
    assert str(error).isprintable()


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
        ("JSON: deep lists", "nested too deeply"),
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


@pytest.mark.parametrize("field", ["dtype", "shape", "data_offsets"])
def test_no_depth_slips_between_parsing_and_the_message(field: str) -> None:
    for depth in (2, 100, *range(800, 1000)):
        values = {"dtype": '"F32"', "shape": "[1]", "data_offsets": "[0,4]"}
        values[field] = "[" * depth + "]" * depth
        content = text('{"x":{' + ",".join(f'"{key}":{value}' for key, value in values.items()) + "}}")
        with pytest.raises(CheckpointFormatError):
            parse(content)


VALID = save(
    {
        "model.layers.0.a.weight": torch.arange(6, dtype=torch.float32).view(2, 3),
        "model.layers.0.b.weight": torch.ones(4, dtype=torch.bfloat16),
        "c": torch.tensor(1.5, dtype=torch.float64),
        "d": torch.zeros(0, 3),
        "é": torch.ones(3, dtype=torch.float8_e5m2),
    },
    metadata={"format": "pt"},
)
VALID_HEADER = 8 + int.from_bytes(VALID[:8], "little")


def assert_parsed_in_range_or_refused(content: bytes) -> bool:
    """Every byte of data belongs to exactly one tensor, as many as its shape says; or an error we name."""
    try:
        tensors = parse(content)
    except CheckpointFormatError:
        return False
    position = 8 + int.from_bytes(content[:8], "little")
    for info in tensors:
        assert info.start == position
        assert info.stop >= info.start
        assert 8 * info.nbytes == info.elements * ELEMENT_TYPES[info.dtype].bits
        assert all(0 <= size < 2**63 for size in info.shape)
        position = info.stop
    assert position == len(content)
    return True


def test_the_file_that_is_mutated_is_valid() -> None:
    assert assert_parsed_in_range_or_refused(VALID)


def mutated(rng: random.Random) -> bytes:
    content = bytearray(VALID)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        # Seven of eight hits in the header: the data is never looked at.
        here = rng.randrange(len(content) if rng.random() < 0.125 else min(VALID_HEADER, len(content)))
        match rng.randrange(6):
            case 0:
                content[here] ^= 1 << rng.randrange(8)
            case 1:
                content[here] = rng.choice(b'0123456789{}[],:"\\-.eEnN \0\xff')
            case 2:
                del content[here : here + rng.randrange(1, 9)]
            case 3:
                content[here:here] = rng.choice([b"0", b"9" * 30, b"[", b"{", b'"x":', b",", b"\xed\xa0\x80"])
            case 4:
                there = rng.randrange(len(content))
                content[here:here] = content[there : there + rng.randrange(1, 40)]
            case _:
                content = content[:here] if rng.random() < 0.2 else content
        if len(content) < 8:
            break
    if rng.random() < 0.7 and len(content) > 8:  # keep the length right, so that the JSON is reached
        length = content.find(b"}}", 8) + 2
        while content[length : length + 1] == b" ":
            length += 1
        content[:8] = max(length - 8, 0).to_bytes(8, "little")
    return bytes(content)


def test_random_mutations_parse_in_range_or_are_refused() -> None:
    rng = random.Random(20260101)
    outcomes = [assert_parsed_in_range_or_refused(mutated(rng)) for _ in range(6000)]
    assert 50 < sum(outcomes) < 5900


def test_what_survives_a_mutation_reads_as_safetensors_reads_it(tmp_path: Path) -> None:
    rng = random.Random(20260102)
    path = tmp_path / "x.safetensors"
    compared = 0
    for _ in range(1500):
        content = mutated(rng)
        if content != VALID and assert_parsed_in_range_or_refused(content):
            path.write_bytes(content)
            try:
                safe_open(path, "pt").__enter__()
            except SafetensorError:
                continue
            assert_reads_as_safetensors_does(path)
            compared += 1
    assert compared > 30


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
sizes = st.integers(-1, 5) | st.sampled_from([2**31, 2**32, 2**62, 2**63, 2**64])
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*ELEMENT_TYPES, "F31"]) | json_values,
        "shape": st.lists(sizes, max_size=4) | json_values,
        "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2) | json_values,
    }
)


@given(
    header=st.dictionaries(st.text(max_size=4), entries | json_values, max_size=3), data=st.integers(0, 40)
)
def test_any_json_parses_in_range_or_is_refused(header: dict[str, Any], data: int) -> None:
    assert_parsed_in_range_or_refused(file_of(header, bytes(data)))


@given(content=st.binary(max_size=64))
def test_any_bytes_parse_in_range_or_are_refused(content: bytes) -> None:
    assert_parsed_in_range_or_refused(content)
    if content:
        assert_parsed_in_range_or_refused(with_header(content))
