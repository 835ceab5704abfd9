"""What differs between two runs, each as JSON has it: why `--resume` cannot go on from one to the other."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

_LONGEST = 60


class Difference(NamedTuple):
    """The first thing that differs, as deep as it lies."""

    path: tuple[str, ...]
    """Keys, from the outermost in."""
    then: str
    """What stood there, shortened."""
    now: str
    """What stands there now, shortened."""


def first_difference(then: Any, now: Any, path: tuple[str, ...] = ()) -> Difference | None:
    """The first difference of two values, in the order of `now`; None if they are equal."""
    if then == now:
        return None
    if isinstance(then, dict) and isinstance(now, dict):
        key = next(key for key in (*now, *then) if now.get(key) != then.get(key))
        return first_difference(then.get(key), now.get(key), (*path, key))
    return Difference(path, _short(then), _short(now))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
