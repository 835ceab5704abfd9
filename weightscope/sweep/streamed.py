"""Solving a step whose matrices are larger than memory: one pass over the files, in blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

import torch
from torch import Tensor

from weightscope.checkpoints.source import Source
from weightscope.families.gather import slice_of
from weightscope.families.layouts import Rows
from weightscope.families.matrix import Matrix
from weightscope.spectra.accumulate import Accumulator
from weightscope.spectra.numbers import MatrixNumbers, SpectralOptions
from weightscope.spectra.streamed import numbers_of
from weightscope.spectra.workspace import Workspace
from weightscope.sweep.plan import Stack, Step, Stream
from weightscope.sweep.read_blocks import read_blocks
from weightscope.sweep.streaming import Part, gram_size, summed


class Clock(Protocol):
    """Takes the seconds that go by."""

    read: float
    solve: float


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """What a stack's blocks add up to."""

    stack: Stack
    found: tuple[Accumulator, ...]
    """Of each part, and of the whole unless it is the sum of its parts."""


def solve_streamed(
    step: Step,
    stream: Stream,
    source: Source,
    *,
    options: SpectralOptions,
    device: torch.device,
    clock: Clock,
    on_block: Callable[[int], None],
) -> list[MatrixNumbers]:
    """The numbers of every matrix of a step, in its order.

    Args:
        step: What to read and solve.
        stream: How to read it.
        source: Where the tensors are.
        options: What to compute.
        device: Where to compute.
        clock: Takes the seconds of waiting for blocks and of computing.
        on_block: Called with the bytes of each block when it is worked in.

    Raises:
        CheckpointFormatError: A file changed since its header was read.
    """
    workspace = Workspace(device)
    sums = [_empty(stack, stream, workspace, name=str(i)) for i, stack in enumerate(step.stacks)]
    wanted = [pair for one in sums for pair in zip(one.stack.matrices, one.found, strict=False)]
    for parts, tensors in read_blocks(step, stream, source, clock, device):
        started = perf_counter()
        for matrix, accumulator in wanted:
            _add(matrix, accumulator, parts, tensors, across=stream.across)
        clock.solve += perf_counter() - started
        on_block(sum(part.nbytes for part in parts))
        if not any(accumulator.is_finite for _, accumulator in wanted):
            break  # nothing more can be learnt
    started = perf_counter()
    numbers = [one for these in sums for one in _solve(these, stream, options=options, workspace=workspace)]
    clock.solve += perf_counter() - started
    return numbers


def _empty(stack: Stack, stream: Stream, workspace: Workspace, *, name: str) -> _Sums:
    across = stream.across
    sizes = [gram_size(matrix, across=across) for matrix in summed(stack, across=across)]
    return _Sums(
        stack,
        tuple(Accumulator(size, workspace, name=f"streamed.gram.{name}.{i}") for i, size in enumerate(sizes)),
    )


def _add(
    matrix: Matrix,
    accumulator: Accumulator,
    parts: tuple[Part, ...],
    tensors: list[Tensor],
    *,
    across: bool,
) -> None:
    """What of a block belongs to a matrix."""
    block = {part.tensor: (part, tensor) for part, tensor in zip(parts, tensors, strict=True)}
    if across:
        accumulator.add([slice_of(block[one.tensor][1], one).mT for one in matrix.slices])
        return
    for one in matrix.slices:
        if one.tensor not in block:
            continue
        part, tensor = block[one.tensor]
        rows = None if one.rows is None else rows_within(one.rows, part.start, part.stop)
        if rows != ():
            accumulator.add([slice_of(tensor, replace(one, rows=rows))])


def rows_within(rows: Rows, start: int, stop: int) -> Rows:
    """Those of some rows that lie in [start, stop), counted from `start`."""
    within = []
    for some in rows:
        first = some.start + max(0, -(-(start - some.start) // some.step)) * some.step
        found = range(first - start, min(some.stop, stop) - start, some.step)
        if found:
            within.append(found)
    return tuple(within)


def _solve(
    sums: _Sums, stream: Stream, *, options: SpectralOptions, workspace: Workspace
) -> list[MatrixNumbers]:
    """Of each part, then of the whole."""

    def numbers(found: Accumulator, matrix: Matrix) -> MatrixNumbers:
        return numbers_of(found, matrix.shape, transposed=stream.across, options=options, workspace=workspace)

    # A whole that is the sum of its parts comes after the last of them, and is put together then.
    solved = [numbers(*pair) for pair in zip(sums.found, sums.stack.matrices, strict=False)]
    if len(solved) < len(sums.stack.matrices):
        total, *others = sums.found
        for other in others:
            total.merge(other)
        solved.append(numbers(total, sums.stack.matrices[-1]))
    return solved
