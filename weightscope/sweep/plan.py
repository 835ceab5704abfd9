"""What is read when, and which matrices are solved together: a pure function of headers and budget.

Matrices that share a tensor are read together, so every byte is read once (Q, K and V of a fused
weight; QKV and its three parts). The steps follow the order of the bytes in the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.families.assign import Matrix

FLOAT64_BYTES = 8
# Batches beyond this gain nothing: torch's SVD loops over a batch on the CPU.
DEFAULT_BUDGET = 512 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Tensors to hold at once, and what to do with them."""

    tensors: tuple[TensorInfo, ...]
    """To read, in file order."""
    batches: tuple[tuple[Matrix, ...], ...]
    """Matrices of equal shape, solved together."""

    @property
    def read_bytes(self) -> int:
        """Bytes of the tensors."""
        return sum(info.nbytes for info in self.tensors)

    def working_bytes(self, *, with_spectrum: bool) -> int:
        """Memory of the step: its tensors, the largest batch in float64, and what the solvers need."""
        copies = 3 if with_spectrum else 1  # an SVD works on a copy and needs about another
        largest = max(batch_bytes(batch) for batch in self.batches)
        return self.read_bytes + copies * largest


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole sweep."""

    steps: tuple[Step, ...]
    """In the order they run."""

    @property
    def matrices(self) -> Iterator[Matrix]:
        """Every matrix, in the order they are solved."""
        return (matrix for step in self.steps for batch in step.batches for matrix in batch)

    @property
    def read_bytes(self) -> int:
        """Bytes of weights the sweep reads."""
        return sum(step.read_bytes for step in self.steps)

    def working_bytes(self, *, with_spectrum: bool) -> int:
        """Memory of the largest step."""
        return max((step.working_bytes(with_spectrum=with_spectrum) for step in self.steps), default=0)


def plan_sweep(matrices: Sequence[Matrix], index: TensorIndex, *, budget: int = DEFAULT_BUDGET) -> Plan:
    """Group matrices into steps and batches.

    Args:
        matrices: The selected ones.
        index: The checkpoint's headers, in file order.
        budget: Bytes of float64 a batch and of tensors a step may hold, unless one matrix alone, or
            the tensors of one stacked matrix, are larger.
    """
    position = {name: i for i, name in enumerate(index)}
    units = sorted(_units(matrices), key=lambda unit: min(position[info.name] for info in _tensors(unit)))
    steps: list[list[Matrix]] = []
    held = 0
    for unit in units:
        size = sum(batch_bytes([matrix]) for matrix in unit)
        if not steps or held + size > budget:
            steps.append([])
            held = 0
        steps[-1].extend(unit)
        held += size
    return Plan(
        steps=tuple(
            Step(
                tensors=tuple(sorted(_tensors(step), key=lambda info: position[info.name])),
                batches=tuple(_batches(step, budget)),
            )
            for step in steps
        )
    )


def batch_bytes(batch: Sequence[Matrix]) -> int:
    """Bytes of a batch in float64."""
    return FLOAT64_BYTES * sum(prod(matrix.shape) for matrix in batch)


def _tensors(matrices: Iterable[Matrix]) -> set[TensorInfo]:
    return {part.tensor for matrix in matrices for part in matrix.slices}


def _units(matrices: Sequence[Matrix]) -> list[list[Matrix]]:
    """Matrices connected by the tensors they share."""
    unit_of: dict[str, list[Matrix]] = {}
    for matrix in matrices:
        names = [part.tensor.name for part in matrix.slices]
        merged = [matrix]
        for unit in {id(unit_of[name]): unit_of[name] for name in names if name in unit_of}.values():
            merged = unit + merged
        for name in {part.tensor.name for member in merged for part in member.slices}:
            unit_of[name] = merged
    return list({id(unit): unit for unit in unit_of.values()}.values())


def _batches(step: Sequence[Matrix], budget: int) -> Iterator[tuple[Matrix, ...]]:
    by_shape: dict[tuple[int, int], list[Matrix]] = {}
    for matrix in step:
        by_shape.setdefault(matrix.shape, []).append(matrix)
    for shape, members in by_shape.items():
        size = max(1, budget // (FLOAT64_BYTES * prod(shape)))
        for start in range(0, len(members), size):
            yield tuple(members[start : start + size])
