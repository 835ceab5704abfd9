"""Requests: every wanted byte once and in its place, few requests, hardly a byte more."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightscope.checkpoints import ranges
from weightscope.checkpoints.ranges import ByteRange, coalesce
from weightscope.checkpoints.safetensors import Wanted

FILE = bytes(range(256)) * 40


@st.composite
def wanted(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Ranges of FILE in file order, without overlaps, some of them neighbours."""
    edges = draw(st.lists(st.integers(0, len(FILE)), min_size=2, max_size=40, unique=True).map(sorted))
    kept = draw(st.lists(st.booleans(), min_size=len(edges) - 1, max_size=len(edges) - 1))
    return [pair for pair, keep in zip(pairwise(edges), kept, strict=True) if keep]


def filled(requests: list[ByteRange]) -> None:
    """As a perfect server would."""
    for request in requests:
        for piece in request.pieces:
            assert request.start <= piece.start
            assert piece.start + len(piece.target) <= request.stop
            piece.target[:] = FILE[piece.start : piece.start + len(piece.target)]


@given(places=wanted(), connections=st.integers(1, 9), shuffle=st.randoms(use_true_random=False))
def test_every_wanted_byte_comes_to_its_place(
    places: list[tuple[int, int]], connections: int, shuffle: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "SHORTEST_REQUEST", 64)
    monkeypatch.setattr(ranges, "LONGEST_REQUEST", 512)
    buffers = [bytearray(stop - start) for start, stop in places]
    pieces = [
        Wanted(start, memoryview(buffer), "x") for (start, _), buffer in zip(places, buffers, strict=True)
    ]
    shuffle.shuffle(pieces)  # type: ignore[attr-defined]
    requests = coalesce(pieces, connections=connections)
    filled(requests)
    assert buffers == [FILE[start:stop] for start, stop in places]
    useful = sum(stop - start for start, stop in places)
    asked = sum(request.stop - request.start for request in requests)
    assert useful <= asked <= 1.005 * useful
    assert all(0 < request.stop - request.start <= 512 for request in requests)
    stops = [request.stop for request in requests]
    assert all(later.start >= stop for stop, later in zip(stops, requests[1:], strict=False))


def test_neighbours_are_one_request() -> None:
    pieces = [Wanted(start, memoryview(bytearray(10)), "x") for start in range(0, 1000, 10)]
    (request,) = coalesce(pieces)
    assert (request.start, request.stop, len(request.pieces)) == (0, 1000, 100)


@pytest.mark.parametrize(("hole", "requests"), [(0, 1), (10, 1), (11, 2)])
def test_a_hole_is_bridged_where_it_is_small_beside_what_is_wanted(hole: int, requests: int) -> None:
    pieces = [Wanted(start, memoryview(bytearray(1000)), "x") for start in (0, 1000 + hole)]
    assert len(coalesce(pieces)) == requests


def test_many_small_holes_are_not() -> None:
    pieces = [Wanted(start, memoryview(bytearray(100)), "x") for start in range(0, 100_000, 101)]
    asked = sum(request.stop - request.start for request in coalesce(pieces))
    assert asked <= 1.005 * 100 * len(pieces)


def test_a_long_run_is_shared() -> None:
    sizes = [64 * 2**20, 3 * 2**20, 500 * 2**20]
    counts = [len(coalesce([Wanted(0, memoryview(bytearray(size)), "x")], connections=4)) for size in sizes]
    assert counts == [4, 1, 16]


def test_nothing_is_no_request() -> None:
    assert coalesce([]) == []
