"""config.json and its like, from any source: one JSON object; size, depth and number of values bounded."""

import json
from typing import Any

from weightscope.checkpoints.json_bounds import spells_more_values
from weightscope.errors import CheckpointFormatError

# A config.json has a few kB, with the labels of 20,000 classes 2 MB; the index of 140,000 tensors has 15 MB.
MAX_CONFIG_BYTES = 10_000_000
MAX_INDEX_BYTES = 64_000_000
# What fills such an index, and a thousand times what a config holds.
MAX_VALUES = 600_000


def is_index(name: str) -> bool:
    """Whether a file, or what a message calls it, is the index of shards."""
    return name.rstrip("'").endswith(".index.json")


def check_json_size(size: int, name: str) -> None:
    """Refuse what is far too large before it is read.

    Raises:
        CheckpointFormatError: It is.
    """
    if size > (MAX_INDEX_BYTES if is_index(name) else MAX_CONFIG_BYTES):
        raise _bad_json(name, f"It has {size:,} bytes, far more than such a file needs.")


def parse_json_object(content: bytes, name: str) -> dict[str, Any]:
    """The object that these bytes spell.

    Args:
        content: All of the file.
        name: How to call it in an error.

    Raises:
        CheckpointFormatError: They spell none, or far too much, or an index has a key twice.
    """
    if spells_more_values(content, MAX_VALUES):
        raise _bad_json(name, f"It holds more than {MAX_VALUES:,} values, far more than such a file needs.")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _bad_json(name, "It has a key twice, and which of the two is meant is not known.")
        return found

    try:
        text = content.decode("utf-8")
        # A config that was edited by hand may well have a key twice: the last counts, as in transformers.
        parsed = json.loads(text, object_pairs_hook=unique if is_index(name) else None)
        if "\\u" in text:  # an escaped lone surrogate is JSON and no text: nothing could print or save it
            json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise _bad_json(name, "It is nested too deeply.") from None
    except CheckpointFormatError:
        raise
    except ValueError as error:  # not JSON or not UTF-8
        raise _bad_json(name, f"It is not JSON ({str(error)[:80]}).") from None
    if not isinstance(parsed, dict):
        raise _bad_json(name, f"It holds a JSON {type(parsed).__name__}, not an object.")
    return parsed


def unreadable_json(name: str, error: OSError) -> CheckpointFormatError:
    """What to raise where the system cannot read it."""
    return _bad_json(name, f"It cannot be read: {error.strerror}.")


def _bad_json(name: str, found: str) -> CheckpointFormatError:
    return CheckpointFormatError(f"{name} was read as JSON.", found, "Fetch the file again.")
