"""How a step is read in blocks, and what that takes: a pure function of headers.

Blocks are rows of the matrices, or columns, whichever gives the smaller Gram matrices. Stored one row behind
the other, a block of rows is one range of bytes. A block of columns is a piece of every row, and is made
wide enough that the pieces are worth a read each. What is stored transposed, the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from weightscope.checkpoints.header import TensorInfo
from weightscope.families.matrix import Matrix, Slice
from weightscope.sweep.plan import Stack, Step, Stream

# Of a block as stored: enough for a disk to run at its best, and little beside a Gram matrix.
BLOCK_BYTES = 32 * 2**20
# Of one read, where a block is a piece of every row.
_PIECE_BYTES = 16 * 2**10
# As in spectra/accumulate.py: rows cast to float64 at a time, and elements where that is more.
PIECE_ROWS, PIECE_ELEMENTS = 1024, 2**20
# As in spectra: Lanczos vectors kept.
LANCZOS_VECTORS = 601
_FLOAT64 = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A range of one tensor in a block."""

    tensor: TensorInfo
    start: int
    """First row of the matrices, or first column if the block lies across."""
    stop: int
    by_columns: bool
    """Whether it is a piece of every stored row, and not some stored rows."""

    @property
    def nbytes(self) -> int:
        """Bytes as stored."""
        rows = self.tensor.shape[0]
        length = self.tensor.elements // rows if self.by_columns else rows
        return self.tensor.nbytes // length * (self.stop - self.start)


def stream_of(step: Step) -> Stream | None:
    """How to read a step in blocks.

    None where a tensor is used both as stored and transposed, or where there is nothing in one.
    """
    slices = list(_slices(step))
    if not all(part.tensor.elements for part in slices):
        return None
    if len({part.tensor for part in slices}) < len({(part.tensor, part.transposed) for part in slices}):
        return None
    across = sum(size**2 for size in gram_sizes(step, across=True)) < sum(
        size**2 for size in gram_sizes(step, across=False)
    )
    # Bytes for each row, or column, of a block.
    each = {part.tensor: part.tensor.nbytes // _extent(part, across) for part in slices}
    length = BLOCK_BYTES // max(1, sum(each.values()) if across else max(each.values()))
    if any(part.transposed != across for part in slices):
        length = max(length, _PIECE_BYTES // min(info.nbytes // info.elements for info in each))
    longest = max(_extent(part, across) for part in slices)
    return Stream(across=across, length=min(max(length, PIECE_ROWS), longest))


def read_by_columns(step: Step, stream: Stream) -> tuple[TensorInfo, ...]:
    """The tensors of which a block is a piece of every stored row."""
    return tuple({part.tensor: None for part in _slices(step) if part.transposed != stream.across})


def summed(stack: Stack, *, across: bool) -> tuple[Matrix, ...]:
    """The matrices whose Gram matrices are summed up over blocks, parts first.

    Over blocks of rows those of the parts add up to that of the whole, which then has none of its own.
    """
    return stack.matrices if across else stack.parts


def gram_size(matrix: Matrix, *, across: bool) -> int:
    """Side of the Gram matrix that blocks of rows, or of columns, give."""
    return matrix.shape[0] if across else matrix.shape[1]


def gram_sizes(step: Step, *, across: bool) -> list[int]:
    """Sides of the Gram matrices that are held at once."""
    return [
        gram_size(matrix, across=across) for stack in step.stacks for matrix in summed(stack, across=across)
    ]


def blocks_of(step: Step, stream: Stream) -> Iterator[tuple[Part, ...]]:
    """What is in memory together, one after the other: each byte of the tensors once."""
    turned = {part.tensor: part.transposed for part in _slices(step)}
    extents = {part.tensor: _extent(part, stream.across) for part in _slices(step)}

    def part(info: TensorInfo, start: int) -> Part:
        stop = min(start + stream.length, extents[info])
        return Part(tensor=info, start=start, stop=stop, by_columns=turned[info] != stream.across)

    if stream.across:
        for start in range(0, max(extents.values()), stream.length):
            yield tuple(part(info, start) for info in step.tensors)
    else:
        for info in step.tensors:
            for start in range(0, extents[info], stream.length):
                yield (part(info, start),)


def stream_bytes(step: Step, stream: Stream) -> int:
    """What reading and solving a step in blocks takes, at most, beside what every sweep takes."""
    # One is read ahead; and one copied where a matrix is picked out of it in several pieces.
    blocks = [sum(part.nbytes for part in parts) for parts in blocks_of(step, stream)]
    picked = any(part.rows is not None and len(part.rows) > 1 for part in _slices(step))
    held = max(blocks) * (min(len(blocks), 2) + picked)
    sizes = gram_sizes(step, across=stream.across)
    size = max(sizes)
    piece = _FLOAT64 * max(PIECE_ROWS * size, PIECE_ELEMENTS)
    grams = _FLOAT64 * sum(size**2 for size in sizes)
    # Beside them, for one matrix after the other: LAPACK's copies, or a Cholesky factor and what it is of; a
    # basis of Lanczos vectors, and two of its like for what bounds their rounding.
    solver = _FLOAT64 * (2 * size**2 + 3 * size * LANCZOS_VECTORS)
    sums = 2 * _FLOAT64 * sum(sum(matrix.shape) for stack in step.stacks for matrix in stack.matrices)
    return held + piece + grams + solver + sums


def _slices(step: Step) -> Iterator[Slice]:
    return (part for stack in step.stacks for matrix in stack.matrices for part in matrix.slices)


def _extent(part: Slice, across: bool) -> int:
    """How many rows, or columns, a tensor has as the model sees it."""
    first, rest = part.tensor.shape[0], prod(part.tensor.shape[1:])
    return first if part.transposed == across else rest
