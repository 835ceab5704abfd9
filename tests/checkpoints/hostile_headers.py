"""Headers that lie, by what is wrong with them; `STRICTER` are those that safetensors lets pass.

`HEAVY` are made when they are asked for: up to the 100 MB that a header may have.
"""

import json
from collections.abc import Callable
from typing import Any

from weightscope.checkpoints.header import MAX_HEADER_BYTES, TensorInfo, header_length, parse_header


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def file_of(entries: object, data: bytes = b"") -> bytes:
    return with_header(json.dumps(entries).encode(), data)


def parse(content: bytes) -> list[TensorInfo]:
    length = header_length(content[:8], shard="x.safetensors", file_bytes=len(content))
    return parse_header(content[8 : 8 + length], shard="x.safetensors", file_bytes=len(content))


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def text(json_text: str) -> bytes:
    return with_header(json_text.encode(), bytes(4))


X = '"dtype":"F32","shape":[1],"data_offsets":[0,4]'
# Far beyond Python's limits, and within those of a header without tensors.
DEEP = 9_000
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
METADATA = {
    what: text(f'{{"__metadata__":{value},"x":{ONE}}}')
    for what, value in {
        "a list": "[]",
        "a number": "1",
        "a text": '"pt"',
        "false": "false",
        "a number in it": '{"epoch":1}',
        "null in it": '{"format":null}',
        "an object in it": '{"a":{"b":"c"}}',
        "a tensor": ONE,
        "a lone surrogate in it": '{"a":"\\udc00"}',
        "a lone surrogate for a key": '{"\\ud800":"a"}',
    }.items()
}
JSON = {
    "a list": text(f"[{ONE}]"),
    "an entry alone": text(ONE),
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
        "metadata": METADATA,
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


def tensors(count: int, *, key: str = "data_offsets", dtype: str = "F32") -> bytes:
    """A header of so many tensors, those of a mixture of experts."""
    names = (f"model.layers.{i // 768}.mlp.experts.{i % 768}.gate_up_proj.weight" for i in range(count))
    entries = (
        f'"{name}":{{"dtype":"{dtype}","shape":[2048,7168],"{key}":[{i * 58720256},{(i + 1) * 58720256}]}}'
        for i, name in enumerate(names)
    )
    return f"{{{','.join(entries)}}}".encode()


def filled(head: bytes, piece: bytes, tail: bytes, size: int) -> bytes:
    """So many bytes: a piece over and over."""
    return head + piece * ((size - len(head) - len(tail)) // len(piece)) + tail


_LIST = b'{"x":['
_METADATA = b'{"__metadata__":{'
# Beyond what a header without tensors may have, and below it.
_HUGE, _LARGE = 100_000_000, 9_900_000
HEAVY: dict[str, Callable[[], bytes]] = {
    "300,000 tensors": lambda: tensors(300_000),
    "100,000 tensors, the keys in escapes": lambda: tensors(100_000, key="data\\u005foffsets"),
    "70,000 tensors, the keys in escapes": lambda: tensors(70_000, key="data\\u005foffsets"),
    "a million dimensions": lambda: filled(_LIST, b"1,", b"1]}", 2_000_000),
    "ten million numbers": lambda: filled(_LIST, b"1000,", b"1]}", 50_000_000),
    "two million numbers": lambda: filled(_LIST, b"1000,", b"1]}", _LARGE),
    "a hundred million commas": lambda: filled(b"{", b",", b"}", _HUGE),
    "ten million commas": lambda: filled(b"{", b",", b"}", _LARGE),
    "lists": lambda: filled(_LIST, b"[],", b"[]]}", _LARGE),
    "lists in lists": lambda: filled(_LIST, b"[" * 500 + b"]" * 500 + b",", b"1]}", _LARGE),
    "objects in objects": lambda: filled(_LIST, b'{"":' * 400 + b"1" + b"}" * 400 + b",", b"1]}", _LARGE),
    "open lists": lambda: filled(b"", b"[", b"", _LARGE),
    "tiny keys, 100 MB": lambda: filled(b"{", b'"":1,', b'"":1}', _HUGE),
    "tiny keys": lambda: filled(b"{", b'"":1,', b'"":1}', _LARGE),
    "metadata of a million keys": lambda: filled(_METADATA, b'"k":"v",', b'"":""}}', 8_000_000),
    "one text, 100 MB": lambda: filled(_METADATA + b'"a":"', b"a", b'"}}', _HUGE),
    "one text of wide characters, 100 MB": lambda: filled(_METADATA + b'"a":"', "🙂".encode(), b'"}}', _HUGE),
    "an open text of escaped quotes": lambda: filled(_LIST, rb"\"", b"", _LARGE),
    "an open text of quotes and commas": lambda: filled(_LIST + b'"', rb"\",", b"", _LARGE),
    "texts of a backslash": lambda: filled(_LIST, rb'"\\",', b"1]}", _LARGE),
    "quotes": lambda: filled(b"{", b'"', b"}", _LARGE),
    "quotes and commas": lambda: filled(b"{", b'""",', b"}", _LARGE),
    "spaces": lambda: filled(b"{", b" ", b"}", _HUGE),
    "zeros": lambda: filled(b"", b"\0", b"", _HUGE),
    "a number of ten million digits": lambda: filled(_LIST, b"9", b"]}", _LARGE),
    "a fraction of ten million digits": lambda: filled(_LIST + b"0.", b"9", b"]}", _LARGE),
    "2,000 numbers of 4,300 digits": lambda: filled(_LIST, b"9" * 4300 + b",", b"1]}", 8_600_000),
    "texts that are called data_offsets": lambda: filled(_LIST, b'"data_offsets",', b"1]}", _LARGE),
}
