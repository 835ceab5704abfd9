"""Words that messages share: what was meant instead, and how a value is called."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` without its last mark, or nothing."""
    spelled = {one.lower(): one for one in known}
    found = difflib.get_close_matches(word.lower(), list(spelled), n=1, cutoff=0.6)
    return f" (did you mean '{spelled[found[0]]}'?)" if found else ""


def named(value: Any) -> str:
    """A value of a YAML file as a message calls it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value) if isinstance(value, str) else f"the number {value}"
    return text if len(text) <= 60 else f"{text[:59]}…"
