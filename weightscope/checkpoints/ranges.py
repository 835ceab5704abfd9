"""Which ranges to ask a server for: neighbours in one request, long ones in several.

A request costs a round trip, so pieces that lie next to one another come together, and a small hole between
two is fetched and thrown away; long runs are cut so that several connections share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from weightscope.checkpoints.safetensors import Wanted

# A request costs a round trip, so connections should have long ones; after too long ones some are idle.
SHORTEST_REQUEST, LONGEST_REQUEST = 4 * 2**20, 32 * 2**20
# Of the bytes wanted, how many unwanted ones may come with them.
_WASTE = 1 / 200


class ByteRange(NamedTuple):
    """One request: the bytes [start, stop) of a file, of which each piece goes to its place."""

    start: int
    stop: int
    pieces: tuple[Wanted, ...]
    """Within it, in order, without overlaps."""


def coalesce(wanted: Sequence[Wanted], *, connections: int = 1) -> list[ByteRange]:
    """Requests that cover what is wanted, in file order.

    Of all bytes they cover, at most one in 200 is not wanted.

    Args:
        wanted: Without overlaps, in any order.
        connections: That will share them.
    """
    runs: list[list[Wanted]] = []
    useful = spare = 0
    for piece in sorted(wanted, key=lambda piece: piece.start):
        size = len(piece.target)
        hole = piece.start - _stop(runs[-1][-1]) if runs else 0
        useful += size
        if runs and hole <= _WASTE * useful - spare:
            spare += hole
            runs[-1].append(piece)
        else:
            runs.append([piece])
    longest = max(SHORTEST_REQUEST, min(LONGEST_REQUEST, -(-(useful + spare) // connections)))
    return [request for run in runs for request in _cut(run, longest)]


def _cut(run: Sequence[Wanted], request_bytes: int) -> list[ByteRange]:
    """A run in requests of about equal length."""
    first, last = run[0].start, _stop(run[-1])
    count = -(-(last - first) // request_bytes)
    edges = [first + (last - first) * number // count for number in range(count + 1)]
    requests, waiting = [], list(reversed(run))
    for stop in edges[1:]:
        pieces = []
        while waiting and waiting[-1].start < stop:
            piece = waiting.pop()
            if (rest := _stop(piece) - stop) > 0:
                split = len(piece.target) - rest
                waiting.append(Wanted(stop, piece.target[split:], piece.what))
                piece = piece._replace(target=piece.target[:split])
            pieces.append(piece)
        if pieces:  # else it is all hole
            requests.append(ByteRange(pieces[0].start, _stop(pieces[-1]), tuple(pieces)))
    return requests


def _stop(piece: Wanted) -> int:
    return piece.start + len(piece.target)
