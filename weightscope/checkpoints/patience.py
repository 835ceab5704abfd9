"""How long to go on with a server that fails: a number of tries, and waits that grow."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from re import search
from typing import Protocol

# Answers of a server that may be another one a moment later.
PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Bounds on tries and waits. With these a server that never answers is given up after two minutes."""

    tries: int = 6
    """In a row without a byte."""
    most_tries: int = 1000
    """Of one range, after which bytes that come make up for no failure."""
    first_wait: float = 0.5
    """Seconds, after the first failure; each wait is twice the one before."""
    longest_wait: float = 8.0
    """Seconds."""
    longest_asked: float = 120.0
    """Seconds that a server may ask us to wait."""
    timeout: float = 10.0
    """Seconds without a byte after which a connection counts as broken."""
    slowest: float = 1024.0
    """Bytes a second, over `slow_seconds`, below which a connection counts as broken."""
    slow_seconds: float = 30.0
    """Over how long that is measured."""

    def wait(self, failures: int, asked: float | None = None) -> float | None:
        """Seconds to wait before the next try; None to give up.

        Args:
            failures: In a row.
            asked: What the server asked for.
        """
        if failures >= self.tries or (asked is not None and asked > self.longest_asked):
            return None
        own: float = min(self.longest_wait, self.first_wait * 2 ** (failures - 1))
        # Not all at the same moment: eight connections that fail together would come back together.
        return max(own * random.uniform(0.75, 1.25), asked or 0.0)


class Headers(Protocol):
    """Those of an answer, of whatever client."""

    def get(self, name: str, /) -> str | None:
        """By name, in any case."""


def seconds_asked(headers: Headers) -> float | None:
    """What `Retry-After` (seconds or a date) or the Hub's `ratelimit` header asks for; None for nothing."""
    text = (headers.get("Retry-After") or "").strip()
    if text.isdecimal() and len(text) < 10:
        return float(text)
    if text:
        try:
            date = parsedate_to_datetime(text)
        except (ValueError, OverflowError, TypeError):
            return None
        return max(0.0, (date - datetime.now(UTC)).total_seconds()) if date.tzinfo else None
    limit = search(r"\br=0\b.*?;\s*t=(\d{1,9})\b", headers.get("ratelimit") or "")
    return float(limit[1]) if limit else None
