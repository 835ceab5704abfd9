"""Headers: what safetensors writes reads back identically; what lies is refused, quickly and by name."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.torch import save, save_file

from tests.checkpoints.hostile_headers import entry, file_of, parse, text, with_header
from weightscope.checkpoints.dtypes import ELEMENT_TYPES
from weightscope.checkpoints.stream import open_source
from weightscope.errors import CheckpointFormatError


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
