"""Seeded inputs for the header parser, and what may come of one: both it and safetensors' answer."""

import json
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from safetensors import SafetensorError, deserialize

from weightscope.checkpoints.dtypes import ELEMENT_TYPES
from weightscope.checkpoints.header import header_length, parse_header
from weightscope.errors import CheckpointFormatError

# Where we refuse what safetensors reads: a part of our message -> why.
STRICTER = {
    "more than once": "a key twice",
    "unprintable characters": "a name that cannot be printed",
    "has no dtype, shape and data_offsets": "an entry by position (a JSON list)",
    "Its header names a tensor with": "a name of more than 1,000 characters",
    "impossible shape": "more than 64 dimensions, or a size beyond 63 bits beside a zero",
}
# Where we read what safetensors refuses: a part of its message -> why that is harmless.
LOOSER = {
    "lone leading surrogate": "a lone surrogate in a field that no one reads",
    "unexpected end of hex escape": "a lone surrogate in a field that no one reads",
    "number out of range": "a number beyond float64 in a field that no one reads",
    "recursion limit exceeded": "more than 127 levels in a field that no one reads",
}
_WORDS = [
    *(f'"{name}"' for name in (*ELEMENT_TYPES, "dtype", "shape", "data_offsets", "__metadata__", "x", "")),
    *"{}[],:\"-.eE0123456789 \n\t", "[]", "{}", "null", "true", "false", "NaN", "-Infinity", "1e999", "-0",
    "4.0", "01", str(2**31), str(2**63 - 1), str(2**63), str(2**64), "9" * 30, "9" * 4301,
    '"\\ud800"', '"\\u0000"',
    '"\\u0064type"', '"é"', '"🙂"', "\\", "//", "[" * 200, "]" * 200,
]  # fmt: skip

_NAMES = ["model.layers.{}.weight"] * 9 + ["{}", "é{}", "a b {}", "{}\u200b"]


def file(header: bytes, data: int) -> bytes:
    return len(header).to_bytes(8, "little") + header + bytes(i % 251 for i in range(data))


def entries(rng: Random, most: int = 5) -> tuple[dict[str, Any], int]:
    """What a valid header holds, and how many bytes of data."""
    found: dict[str, Any] = {}
    if rng.random() < 0.4:
        found["__metadata__"] = {"format": "pt", "é": '{"a": [1, "🙂"]}'} if rng.random() < 0.5 else {}
    position = 0
    for number in range(rng.randrange(most)):
        dtype = rng.choice(list(ELEMENT_TYPES))
        shape = [rng.choice((0, 1, 1, 2, 3, 4)) for _ in range(rng.randrange(4))]
        elements = 1
        for size in shape:
            elements *= size
        if elements * ELEMENT_TYPES[dtype].bits % 8:
            shape, elements = [8], 8
        stop = position + elements * ELEMENT_TYPES[dtype].bits // 8
        name = rng.choice(("model.layers.{}.weight",) * 9 + ("{}", "é{}", "a b {}", "{}\u200b")).format(
            number
        )
        found[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, stop]}
        position = stop
    return found, position


def spelled(rng: Random, value: object) -> bytes:
    separators = rng.choice([(",", ":"), (", ", ": "), (" ,\n", " :\t")])
    text = json.dumps(value, separators=separators, ensure_ascii=rng.random() < 0.5)
    return (text + " " * rng.choice((0, 0, 1, 7))).encode("utf-8", "surrogatepass")


def _valid(rng: Random) -> bytes:
    found, size = entries(rng)
    return file(spelled(rng, found), size)


def _bits(rng: Random) -> bytes:
    content = bytearray(_valid(rng))
    for _ in range(rng.choice((1, 1, 2, 5))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _cut(rng: Random) -> bytes:
    content = _valid(rng)
    return content[: rng.randrange(len(content) + 1)] + bytes(rng.choice((0, 0, 1, 100)))


def _tokens(rng: Random) -> bytes:
    """Pieces between punctuation replaced, doubled, dropped or exchanged; the length kept right."""
    found, size = entries(rng)
    text = spelled(rng, found).decode("utf-8")
    pieces = [piece for piece in _split(text) if piece]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        here, there = rng.randrange(len(pieces)), rng.randrange(len(pieces))
        match rng.randrange(5):
            case 0:
                pieces[here] = rng.choice(_WORDS)
            case 1:
                pieces[here:here] = pieces[there : there + rng.randrange(1, 6)]
            case 2:
                del pieces[here : here + rng.randrange(1, 6)]
            case 3:
                pieces[here], pieces[there] = pieces[there], pieces[here]
            case _:
                pieces[here:here] = [rng.choice(_WORDS)]
        pieces = pieces or ["{}"]
    return file("".join(pieces).encode("utf-8", "surrogatepass"), size)


def _split(text: str) -> list[str]:
    pieces, current = [], ""
    for character in text:
        if character in '{}[],:" \n\t':
            pieces += [current, character]
            current = ""
        else:
            current += character
    return [*pieces, current]


def _structure(rng: Random) -> bytes:
    """A valid header with one value replaced: sizes by near and far numbers, others by anything."""
    found, size = entries(rng)
    for _ in range(rng.choice((1, 1, 2))):
        key = rng.choice([*found, "new"])
        entry = found.get(key)
        if not isinstance(entry, dict) or rng.random() < 0.1:
            found[key] = value(rng, 3)
            continue
        field = rng.choice(("dtype", "shape", "data_offsets", "data_offsets", "shape", "extra"))
        numbers = entry.get(field)
        if isinstance(numbers, list) and numbers and rng.random() < 0.8:
            at = rng.randrange(len(numbers))
            numbers[at] = number(rng, numbers[at])
        elif field == "shape" and rng.random() < 0.5:
            entry[field] = [1] * rng.choice((1, 63, 64, 65)) + (numbers if isinstance(numbers, list) else [])
        else:
            entry[field] = rng.choice(list(ELEMENT_TYPES)) if field == "dtype" else value(rng, 2)
    return file(spelled(rng, found), max(0, size + rng.choice((0, 0, 0, 1, -1))))


def _odd(rng: Random) -> bytes:
    """Valid to some: fields in another order and more of them, keys in escapes or twice, spaces before it."""
    found, size = entries(rng)
    for name, entry in found.items():
        if name == "__metadata__" or rng.random() < 0.3:
            continue
        if rng.random() < 0.2:
            found[name] = list(entry.values())
            continue
        fields = rng.sample(list(entry.items()), 3)
        if rng.random() < 0.7:
            fields.insert(rng.randrange(4), ("extra", value(rng, 3)))
        found[name] = dict(fields)
    text = spelled(rng, found)
    if rng.random() < 0.1:
        text = text.replace(b'"extra"', rng.choice((b'"dtype"', b'"sh\\u0061pe"', b'"extra":1,"extra"')))
    if rng.random() < 0.2:
        text = text.replace(b"data_offsets", rb"d\u0061ta_offsets", 1)
    return file(rng.choice((b"", b"", b"", b"", b" ", b"\n ", b"\xef\xbb\xbf")) + text, size)


def number(rng: Random, near: Any) -> Any:
    base = near if isinstance(near, int) else 1
    far = (-1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 1e300, True, None)
    return rng.choice((base + 1, base - 1, base * 2, -base, float(base), str(base), [base], *far))


def value(rng: Random, depth: int) -> Any:
    """Any JSON."""
    kind = rng.randrange(8 if depth else 6)
    simple: list[Callable[[], Any]] = [
        lambda: rng.choice((None, True, False)),
        lambda: rng.randrange(-2, 40),
        lambda: number(rng, rng.randrange(5)),
        lambda: rng.random() * 10.0 ** rng.randrange(-300, 300),
        lambda: rng.choice((*ELEMENT_TYPES, "", "x\n", "\ud800", "é", "a" * 1001)),
        lambda: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
    ]
    if kind < 6:
        return simple[kind]()
    if kind == 6:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    keys = ("dtype", "shape", "data_offsets", "__metadata__", "x", "y")
    return {rng.choice(keys): value(rng, depth - 1) for _ in range(rng.randrange(4))}


def _grammar(rng: Random) -> bytes:
    text = json.dumps(value(rng, 5) if rng.random() < 0.5 else {"x": value(rng, 3)})
    return file(text.encode(), rng.choice((0, 0, 4, 8)))


def _words(rng: Random) -> bytes:
    return file("".join(rng.choices(_WORDS, k=rng.randrange(12))).encode(), rng.choice((0, 4)))


def _length(rng: Random) -> bytes:
    content = _valid(rng)
    length = int.from_bytes(content[:8], "little")
    near = length + rng.choice((-9, -1, 1, 2, 9))
    lie = rng.choice((near, 0, len(content), 2**31, 10**8, 10**8 + 1, 2**63, 2**64 - 1))
    return max(lie, 0).to_bytes(8, "little") + content[8:]


KINDS: dict[str, Callable[[Random], bytes]] = {
    "valid": _valid,
    "bit flips": _bits,
    "cut short": _cut,
    "tokens swapped": _tokens,
    "values replaced": _structure,
    "odd but valid to some": _odd,
    "any JSON": _grammar,
    "any tokens": _words,
    "length changed": _length,
}


class Outcome(NamedTuple):
    """What became of an input."""

    what: str
    wrong: bool = False


def drawn(seed: int, number: int) -> tuple[str, bytes]:
    """The kind and the bytes of one input, the same for the same numbers."""
    rng = Random(f"{seed} {number}")
    kind = list(KINDS)[number % len(KINDS)]
    return kind, KINDS[kind](rng)


def outcome(content: bytes) -> Outcome:
    """Ours beside safetensors'."""
    try:
        length = header_length(content[:8], shard="x", file_bytes=len(content))
        ours = parse_header(content[8 : 8 + length], shard="x", file_bytes=len(content))
    except CheckpointFormatError as error:
        refused = error.found
    except Exception as error:
        return Outcome(f"{type(error).__name__}: {error}"[:100], wrong=True)
    else:
        refused = ""
    try:
        theirs = {name: (info["dtype"], info["shape"], info["data"]) for name, info in deserialize(content)}
    except SafetensorError as error:
        if refused:
            return Outcome("refused, by both")
        why = next((why for part, why in LOOSER.items() if part in str(error)), "")
        return Outcome(f"read here only: {why or error}", wrong=not why)
    if refused:
        why = next((why for part, why in STRICTER.items() if part in refused), "")
        return Outcome(f"refused here only: {why or refused}", wrong=not why)
    same = {info.name: (info.dtype, [*info.shape], content[info.start : info.stop]) for info in ours}
    if same == {name: (dtype, shape, bytes(data)) for name, (dtype, shape, data) in theirs.items()}:
        return Outcome("read, the same by both")
    return Outcome("read, not the same by both", wrong=True)
