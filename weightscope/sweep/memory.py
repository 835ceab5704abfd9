"""How much memory a sweep takes, and how it is kept below a limit.

What is counted is what a process takes beside its code and the libraries it has loaded: tensors and the
solvers' work, at most. It does not grow with the number of layers: two steps' tensors and one stack's work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod

from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.counting import counted
from weightscope.errors import DeviceMemoryError, OptionError
from weightscope.families.matrix import Matrix
from weightscope.sweep.plan import DEFAULT_BUDGET, Plan, Stack, Step, Stream, plan_sweep
from weightscope.sweep.streaming import LANCZOS_VECTORS, stream_bytes, stream_of

# Of what is free when a run begins, unless a limit is given.
DEFAULT_SHARE = 0.75
# As in spectra/, which to import would load torch: rows cast for a Gram matrix, the
# short side up to which an SVD is taken, spectra at once.
GRAM_ROWS, SVD_SIDE, MOST_SIDE_BY_SIDE = 2560, 256, 4
_FLOAT32, _FLOAT64 = 4, 8
# Pieces in the caches, buffers of the threads and of BLAS, the table.
_CONSTANT = 96 * 2**20
# Sizes are printed in the first; from the second on in GiB.
_MIB, _MANY = 2**20, 10 * 2**30
_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What of the options decides about memory."""

    with_spectrum: bool = False
    """Whether every singular value is computed."""
    by_svd: bool = False
    """Whether by an SVD whatever the size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A plan that keeps below a limit."""

    plan: Plan
    side_by_side: int
    """How many spectra are computed at once."""
    needed: int
    """Bytes, at most."""


def parse_memory(text: str | int | None) -> int | None:
    """Bytes from `4G`, `500MiB`, `1.5 GB` or a number; None stays None.

    Raises:
        OptionError: The text is no size.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([KMGT]?I?)B?\s*", str(text).upper())
    if not found or found[2] not in _UNITS or float(found[1]) == 0:
        raise OptionError(
            f"The memory limit {str(text)!r} was asked for.",
            "It is no size.",
            "Write for example 4G, 500MiB or a number of bytes.",
        )
    return int(float(found[1]) * _UNITS[found[2]])


def fit(
    matrices: Sequence[Matrix], index: TensorIndex, *, limit: int | None, threads: int, needs: Needs
) -> Fitted:
    """A plan whose sweep takes at most `limit` bytes.

    Smaller steps and fewer spectra at once come first; neither changes a number. If that does not do, the
    largest matrices are read in blocks, no more of them than need be.

    Args:
        matrices: The selected ones.
        index: The checkpoint's headers.
        limit: Bytes; None for none.
        threads: Torch's, which bound the number of spectra at once.
        needs: What is computed.

    Raises:
        DeviceMemoryError: A matrix alone takes more, in blocks too.
    """
    widest = min(threads, MOST_SIDE_BY_SIDE) if needs.with_spectrum else 1
    smallest: Fitted | None = None
    for streams in _choices(matrices, index, needs):
        for budget in (DEFAULT_BUDGET, DEFAULT_BUDGET // 4, 1):
            plan = plan_sweep(matrices, index, budget=budget, streams=streams)
            for side_by_side in range(widest, 0, -1):
                needed = plan_bytes(plan, needs, side_by_side)
                fitted = Fitted(plan=plan, side_by_side=side_by_side, needed=needed)
                if limit is None or needed <= limit:
                    return fitted
                if smallest is None or needed < smallest.needed:
                    smallest = fitted
    assert smallest is not None  # noqa: S101 - the first choice is always there
    raise _too_large(smallest, needs, limit)


def _choices(
    matrices: Sequence[Matrix], index: TensorIndex, needs: Needs
) -> Iterator[dict[TensorInfo, Stream]]:
    """What to read in blocks: nothing, the largest matrices, then the next largest too, and so on."""
    streams: dict[TensorInfo, Stream] = {}
    yield streams
    if needs.by_svd:  # of a matrix that is there
        return
    larger: dict[int, list[tuple[Step, Stream]]] = {}
    for step in plan_sweep(matrices, index, budget=1).steps:
        whole, stream = step_bytes(step, needs, 1), stream_of(step)
        if stream and stream_bytes(step, stream) < whole:
            larger.setdefault(whole, []).append((step, stream))
    for _, those in sorted(larger.items(), reverse=True):
        for step, stream in those:
            streams = {**streams, **dict.fromkeys(step.tensors, stream)}
        yield streams


def _too_large(smallest: Fitted, needs: Needs, limit: int | None) -> DeviceMemoryError:
    needed = smallest.needed
    largest = max(smallest.plan.steps, key=lambda step: step_bytes(step, needs, 1))
    stack = max(largest.stacks, key=lambda stack: stack_bytes(stack, needs, 1))
    rows, columns = stack.matrices[-1].shape
    how = "in blocks" if largest.stream else "exact"
    return DeviceMemoryError(
        f"The sweep was to take at most {_at_most(limit or 0)}.",
        f"It needs {_at_least(needed)}: {_at_least(_CONSTANT)} whatever the checkpoint, the rest for "
        f"its largest matrix ({rows}x{columns}), {how} and with room for the solvers.",
        f"Pass --memory {_at_least(needed).replace(' ', '')} if that much is free, or select smaller groups "
        "with --groups.",
    )


def _at_least(needed: int) -> str:
    """Bytes rounded up, so that a limit of what is printed does; and never to what `_at_most` prints."""
    return f"{ceil(needed / _MIB)} MiB" if needed < _MANY else f"{ceil(needed / _MIB / 10.24) / 100:.2f} GiB"


def _at_most(limit: int) -> str:
    """Bytes rounded down."""
    if limit < _MIB:
        return counted(limit, "byte")
    return f"{limit // _MIB} MiB" if limit < _MANY else f"{int(limit / _MIB / 10.24) / 100:.2f} GiB"


def plan_bytes(plan: Plan, needs: Needs, side_by_side: int) -> int:
    """What a sweep takes at most: two steps' tensors (one solved, one read ahead) and one stack's work."""
    if not plan.steps:
        return 0
    return _CONSTANT + max(_segment_bytes(segment, needs, side_by_side) for segment in plan.segments)


def _segment_bytes(plan: Plan, needs: Needs, side_by_side: int) -> int:
    """A streamed step is alone in its segment, and keeps no memory that others took."""
    if plan.steps[0].stream:
        return step_bytes(plan.steps[0], needs, side_by_side)
    sizes = [step.read_bytes for step in plan.steps]
    tensors = max([*sizes, *(a + b for a, b in pairwise(sizes))])
    stacks = (stack for step in plan.steps for stack in step.stacks)
    return tensors + max(stack_bytes(stack, needs, side_by_side) for stack in stacks)


def step_bytes(step: Step, needs: Needs, side_by_side: int) -> int:
    """What a step takes by itself."""
    if step.stream:
        return stream_bytes(step, step.stream)
    return step.read_bytes + max(stack_bytes(stack, needs, side_by_side) for stack in step.stacks)


def stack_bytes(stack: Stack, needs: Needs, side_by_side: int) -> int:
    """What the exact values of a stack and the solvers take, in the worst case of the latter."""
    size = sum(prod(matrix.shape) for matrix in stack.parts)
    wide = any("F64" in matrix.dtype for matrix in stack.parts)
    short, long = max((min(matrix.shape), max(matrix.shape)) for matrix in stack.matrices)
    square = _FLOAT64 * short * short
    exact = size * (_FLOAT64 if wide else _FLOAT32)
    vectors = _FLOAT64 * short * (LANCZOS_VECTORS + min(long, GRAM_ROWS))
    # The search: Gram matrices in float32 of a part and of the sum, one in float64. If it does not converge:
    # eigenvectors, and what LAPACK works in.
    search = 2 * square + 4 * square
    spectra = 0
    if needs.with_spectrum and (needs.by_svd or short <= SVD_SIDE):
        spectra = 3 * _FLOAT64 * size * side_by_side  # a copy in float64 and LAPACK's own
    elif needs.with_spectrum:
        spectra = (2 * side_by_side + 2) * square  # Gram matrices that wait, LAPACK's copies, the sum
    return exact + vectors + search + spectra
