"""The JSON of a safetensors header: bounded before it is parsed, and strict while it is."""

import json
from collections import Counter
from typing import Any, NoReturn

from weightscope.checkpoints.json_bounds import spells_more_values
from weightscope.errors import CheckpointFormatError

# The largest mixtures of experts have 140,000 tensors, in 60 files; merged into one their header has 20 MB.
MAX_TENSORS = 250_000
# Metadata are labels; adapters keep the settings and the tags of their training there, hundreds of kB.
MAX_METADATA_BYTES = 10_000_000
# Of an entry: a name as long as `MAX_NAME_CHARACTERS` allows, and 100 bytes for the rest.
MAX_ENTRY_BYTES = 1100
# Real names stay below 200 characters; one of megabytes would be repeated in every message.
MAX_NAME_CHARACTERS = 1000
# An entry, its dtype, shape and offsets, two offsets, and ten sizes: twice as many as torch stores inline.
_ENTRY_VALUES = 16
# Beside the tensors': an adapter's metadata have a hundred.
_METADATA_VALUES = 10_000

FIELDS = ("dtype", "shape", "data_offsets")
Entry = tuple[Any, tuple[Any, ...], Any, Any]
"""What a tensor's entry says: dtype, shape and two offsets. In lists they would keep the collector busy."""


def broken(shard: str, found: str) -> CheckpointFormatError:
    """What to raise where a header is none."""
    return CheckpointFormatError(
        f"{shard!r} was read as a safetensors file.",
        found,
        "Fetch the file again and compare its size and SHA-256 with the source's.",
    )


def check_bounds(header: bytes, shard: str) -> None:
    """Refuse what would take seconds and gigabytes to parse.

    Raises:
        CheckpointFormatError: No real header comes near it.
    """
    # Any other spelling of the key, with an escape, leaves fewer tensors than there are.
    tensors = header.count(b'"data_offsets"')
    if tensors > MAX_TENSORS:
        raise broken(shard, f"Its header describes {tensors:,} tensors, and {MAX_TENSORS:,} are the most.")
    if len(header) > MAX_METADATA_BYTES + MAX_ENTRY_BYTES * tensors:
        raise broken(shard, f"Its header has {len(header):,} bytes and describes {tensors:,} tensors.")
    if spells_more_values(header, _METADATA_VALUES + _ENTRY_VALUES * tensors):
        raise broken(shard, f"Its header holds far more values than its {tensors:,} tensors need.")


def parse_json(header: bytes, shard: str) -> dict[str, Any]:
    """What each key of the header says, that of a tensor as an `Entry` where it has all of its fields.

    Raises:
        CheckpointFormatError: It is not JSON, or no object, or has a key twice.
    """

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Entry:
        if len(pairs) == 3:  # nearly every entry is written so, and no dict needs to be made of it
            (first, dtype), (second, shape), (third, offsets) = pairs
            if (
                (first, second, third) == FIELDS
                and type(shape) is type(offsets) is list
                and len(offsets) == 2
            ):
                return dtype, tuple(shape), *offsets
        fields = dict(pairs)
        if len(fields) != len(pairs):
            twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
            raise broken(shard, f"Its header has the key {twice[:200]!r} more than once.")
        shape, offsets = fields.get("shape"), fields.get("data_offsets")
        if "dtype" in fields and type(shape) is type(offsets) is list and len(offsets) == 2:
            return fields["dtype"], tuple(shape), *offsets
        return fields

    def no_constant(text: str) -> NoReturn:
        raise broken(shard, f"Its header contains {text}, which is not JSON.")

    try:
        text = header.decode("utf-8")
        parsed = json.loads(text, object_pairs_hook=read_object, parse_constant=no_constant)
    except UnicodeDecodeError as error:
        raise broken(shard, f"Its header is not UTF-8 (byte {error.start:,}).") from None
    except RecursionError:
        raise broken(shard, "Its header is nested too deeply to be one.") from None
    except CheckpointFormatError:
        raise
    except ValueError as error:  # json.JSONDecodeError, or an integer of thousands of digits
        raise broken(shard, f"Its header is not JSON ({str(error)[:80]}).") from None
    if isinstance(parsed, tuple):
        raise broken(shard, "Its header is the entry of one tensor, not an object of them.")
    if not isinstance(parsed, dict):
        raise broken(shard, f"Its header is a JSON {type(parsed).__name__}, not an object.")
    return parsed
