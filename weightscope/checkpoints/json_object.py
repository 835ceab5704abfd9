"""config.json and its like, from any source: one JSON object, size and depth bounded."""

import json
from typing import Any

from weightscope.errors import CheckpointFormatError

# A config.json is a few kB; 60 shards of 24,000 tensors make an index of 3 MB.
MAX_JSON_BYTES = 64_000_000


def check_json_size(size: int, name: str) -> None:
    """Refuse what is far too large before it is read.

    Raises:
        CheckpointFormatError: It is.
    """
    if size > MAX_JSON_BYTES:
        raise _bad_json(name, f"It has {size:,} bytes, far more than such a file needs.")


def parse_json_object(content: bytes, name: str) -> dict[str, Any]:
    """The object that these bytes spell.

    Args:
        content: All of the file.
        name: How to call it in an error.

    Raises:
        CheckpointFormatError: They spell none.
    """
    try:
        text = content.decode("utf-8")
        parsed = json.loads(text)
        if "\\u" in text:  # an escaped lone surrogate is JSON and no text: nothing could print or save it
            json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise _bad_json(name, "It is nested too deeply.") from None
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
