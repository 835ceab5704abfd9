"""What is read when, and which matrices are solved together: a pure function of headers and budget.

Matrices that share a tensor are read together, so every byte is read once (Q, K and V of a fused
weight; QKV and its three parts). The steps follow the order of the bytes in the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import prod

from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.families.matrix import Matrix

# A step this large keeps the reader busy while it is solved; larger ones gain nothing.
DEFAULT_BUDGET = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Matrices in one piece of memory: one alone, or parts whose rows make up a whole."""

    parts: tuple[Matrix, ...]
    """In the order of the whole's rows."""
    whole: Matrix | None = None
    """The parts below one another, where that is a matrix too."""

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """The parts, then the whole."""
        return (*self.parts, self.whole) if self.whole else self.parts

    @property
    def elements(self) -> int:
        """Elements of all matrices, those of the whole counted again."""
        return sum(prod(matrix.shape) for matrix in self.matrices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """How tensors are read that are never in memory as a whole."""

    across: bool
    """Whether a block is some columns of every matrix, all its rows; else some rows, all columns."""
    length: int
    """How many of them a block has, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Tensors to hold at once, and what to do with them."""

    tensors: tuple[TensorInfo, ...]
    """To read, in file order."""
    stacks: tuple[Stack, ...]
    """To solve, one after the other."""
    stream: Stream | None = None
    """How to read them in blocks instead, in one pass for all stacks."""

    @property
    def read_bytes(self) -> int:
        """Bytes of the tensors."""
        return sum(info.nbytes for info in self.tensors)

    @property
    def elements(self) -> int:
        """Elements of all matrices."""
        return sum(stack.elements for stack in self.stacks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole sweep."""

    steps: tuple[Step, ...]
    """In the order they run."""

    @property
    def matrices(self) -> Iterator[Matrix]:
        """Every matrix, in the order they are solved."""
        return (matrix for step in self.steps for stack in step.stacks for matrix in stack.matrices)

    @property
    def read_bytes(self) -> int:
        """Bytes of weights the sweep reads."""
        return sum(step.read_bytes for step in self.steps)

    def whole_stacks(self, count: int) -> int:
        """How many of the first `count` matrices belong to stacks of which none is left out."""
        done = 0
        for stack in (stack for step in self.steps for stack in step.stacks):
            if done + len(stack.matrices) > count:
                break
            done += len(stack.matrices)
        return done

    def after(self, count: int) -> Plan:
        """The plan without its first `count` matrices, which make up whole stacks."""
        steps = []
        for step in self.steps:
            stacks = []
            for stack in step.stacks:
                if count:
                    count -= len(stack.matrices)
                else:
                    stacks.append(stack)
            needed = _tensors(matrix for stack in stacks for matrix in stack.matrices)
            if stacks:
                tensors = tuple(info for info in step.tensors if info in needed)
                steps.append(replace(step, tensors=tensors, stacks=tuple(stacks)))
        return Plan(steps=tuple(steps))

    @property
    def segments(self) -> Iterator[Plan]:
        """The same steps: each that is streamed by itself, those between together."""
        for streamed, steps in groupby(self.steps, key=lambda step: step.stream is not None):
            for some in ((step,) for step in steps) if streamed else (tuple(steps),):
                yield Plan(steps=some)

    @property
    def streamed(self) -> Iterator[tuple[Matrix, Stream]]:
        """Every matrix that is read in blocks, and how."""
        for step in self.steps:
            if step.stream:
                for matrix in (matrix for stack in step.stacks for matrix in stack.matrices):
                    yield matrix, step.stream


def plan_sweep(
    matrices: Sequence[Matrix],
    index: TensorIndex,
    *,
    budget: int = DEFAULT_BUDGET,
    streams: Mapping[TensorInfo, Stream] | None = None,
) -> Plan:
    """Group matrices into steps and stacks.

    Args:
        matrices: The selected ones.
        index: The checkpoint's headers, in file order.
        budget: Bytes of tensors a step may hold, unless those of one matrix, or of matrices that share
            a tensor, are more.
        streams: How a tensor is read in blocks, with all that share one with it.
    """
    position = {name: i for i, name in enumerate(index)}

    def place(info: TensorInfo) -> tuple[int, int]:
        return position[info.name], info.start

    units = sorted(_units(matrices), key=lambda unit: min(map(place, _tensors(unit))))
    steps: list[tuple[Stream | None, list[list[Matrix]]]] = []
    held = 0
    for unit in units:
        size = sum(info.nbytes for info in _tensors(unit))
        stream = (
            next((streams[info] for info in _tensors(unit) if info in streams), None) if streams else None
        )
        if not steps or held + size > budget or stream or steps[-1][0]:
            steps.append((stream, []))
            held = 0
        steps[-1][1].append(unit)
        held += size
    return Plan(
        steps=tuple(
            Step(
                tensors=tuple(sorted({info for unit in step for info in _tensors(unit)}, key=place)),
                stacks=tuple(stack for unit in step for stack in _stacks(unit)),
                stream=stream,
            )
            for stream, step in steps
        )
    )


def _tensors(matrices: Iterable[Matrix]) -> set[TensorInfo]:
    return {part.tensor for matrix in matrices for part in matrix.slices}


def _units(matrices: Sequence[Matrix]) -> list[list[Matrix]]:
    """Matrices connected by the tensors they share."""
    unit_of: dict[TensorInfo, list[Matrix]] = {}
    for matrix in matrices:
        infos = [part.tensor for part in matrix.slices]
        merged = [matrix]
        for unit in {id(unit_of[info]): unit_of[info] for info in infos if info in unit_of}.values():
            merged = unit + merged
        for info in _tensors(merged):
            unit_of[info] = merged
    return list({id(unit): unit for unit in unit_of.values()}.values())


def _stacks(unit: list[Matrix]) -> Iterator[Stack]:
    """A whole with its parts where one is there, each other matrix alone."""
    left = list(unit)
    for whole in sorted(unit, key=lambda matrix: -prod(matrix.shape)):
        others = [matrix for matrix in left if matrix is not whole]
        parts = _parts_of(whole, others)
        if whole in left and parts:
            yield Stack(parts=parts, whole=whole)
            left = [matrix for matrix in others if matrix not in parts]
    for matrix in left:
        yield Stack(parts=(matrix,))


def _parts_of(whole: Matrix, others: list[Matrix]) -> tuple[Matrix, ...]:
    """Those of the others whose rows, in order, are exactly the rows of the whole; none if they are not."""
    runs = _runs([whole])
    placed = [(start, other) for other in others if (start := _place(_runs([other])[0], runs)) is not None]
    parts = [other for _, other in sorted(placed, key=lambda pair: pair[0])]
    return tuple(parts) if parts and _runs(parts) == runs else ()


def _runs(matrices: Sequence[Matrix]) -> list[tuple[TensorInfo, int, int, int]]:
    """The stored rows (tensor, start, stop, step) of matrices below one another, in as few runs as can be."""
    runs: list[tuple[TensorInfo, int, int, int]] = []
    for part in (part for matrix in matrices for part in matrix.slices):
        for rows in part.rows or (range(part.shape[0]),):
            info, start = part.tensor, rows.start
            if runs and runs[-1][::2] == (info, start) and runs[-1][3] == rows.step == 1:
                start = runs.pop()[1]
            runs.append((info, start, rows.stop, rows.step))
    return runs


def _place(run: tuple[TensorInfo, int, int, int], runs: list[tuple[TensorInfo, int, int, int]]) -> int | None:
    """How many rows come before this run's first one among those of `runs`; None if it is not there."""
    before = 0
    for info, start, stop, step in runs:
        if info == run[0] and run[1] in range(start, stop, step):
            return before + range(start, stop, step).index(run[1])
        before += len(range(start, stop, step))
    return None
