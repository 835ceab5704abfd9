"""Passes over a matrix on the CPU that read each stored value once, where their library was built.

torch's own products read a float32 matrix twice a Lanczos step, and have none of bfloat16 with a sum in
float32; its moments in float64 take a copy in float64 first. What is here is the same in C
(`weightscope/kernels`). Every caller has torch's way as well, and the two agree up to rounding.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.kernels.library import library
from weightscope.spectra.workspace import Workspace

_TYPES = {torch.bfloat16: 0, torch.float32: 1}
# Elements from which a second thread pays for being woken.
_WORTH_THREADS = 2**16
_ROWS_A_THREAD = 64
# Elements of a Lanczos basis that lie in a core's own cache.
_CACHED = 2**19


class Pass(NamedTuple):
    """Sums of one pass, float64."""

    row_squares: Float[Tensor, " rows"]
    row_sums: Float[Tensor, " rows"]
    column_squares: Float[Tensor, " columns"]
    products: Float[Tensor, " length"] | None
    """W·right or Wᵀ·left."""


def available() -> bool:
    """Whether the library is there."""
    return library() is not None


def takes(matrix: Tensor) -> bool:
    """Whether these passes take a matrix: of bfloat16 or float32, on the CPU, stored row by row."""
    return (
        matrix.dtype in _TYPES
        and matrix.device.type == "cpu"
        and matrix.numel() > 0
        and matrix.stride(1) == 1
        and available()
    )


def takes_either_way(tall: Tensor) -> bool:
    """Whether the passes over rows or columns alike take a matrix."""
    return takes(tall) or takes(tall.mT)


def gram_product(
    tall: Float[Tensor, "rows columns"],
    vector: Float[Tensor, " columns"],
    out: Float[Tensor, " columns"],
    workspace: Workspace,
) -> None:
    """WᵀWv in float32.

    Args:
        tall: W, or its transpose, as `takes` takes it; columns are the short side.
        vector: v, float32, contiguous.
        out: Where to, likewise.
        workspace: For sums.
    """
    lying, wide = _lying(tall)
    rows, columns = lying.shape
    threads, functions = _threads(tall), _functions()
    room = workspace.take(
        "compiled.product",
        functions.weightscope_gram_product_room(rows, columns, wide, threads),
        dtype=torch.float32,
    )
    functions.weightscope_gram_product(
        _TYPES[tall.dtype],
        *(lying.data_ptr(), rows, columns, lying.stride(0), wide),
        *(one.data_ptr() for one in (vector, out, room)),
        threads,
    )


def symmetric_product(
    matrix: Float[Tensor, "size size"],
    vector: Float[Tensor, " size"],
    out: Float[Tensor, " size"],
    workspace: Workspace,
) -> None:
    """The product of a symmetric matrix with a vector in float32; both halves stored, one read.

    Args:
        matrix: float32, contiguous.
        vector: float32, contiguous.
        out: Where to, likewise.
        workspace: For sums.
    """
    size, threads, functions = len(matrix), _threads(matrix), _functions()
    room = workspace.take(
        "compiled.product", functions.weightscope_symmetric_product_room(size, threads), dtype=torch.float32
    )
    functions.weightscope_symmetric_product(
        matrix.data_ptr(), size, vector.data_ptr(), out.data_ptr(), room.data_ptr(), threads
    )


def orthogonalises(basis: Float[Tensor, "steps size"]) -> bool:
    """Whether `orthogonalise` is the faster way: float32, and within the second-level cache."""
    return takes(basis) and basis.dtype == torch.float32 and basis.numel() <= _CACHED


def orthogonalise(
    basis: Float[Tensor, "steps size"], vector: Float[Tensor, " size"], workspace: Workspace
) -> tuple[float, float]:
    """Make a vector orthogonal to the rows of `basis`, in place.

    Args:
        basis: As `orthogonalises` takes it, contiguous, orthonormal.
        vector: float32, contiguous.
        workspace: For the work.

    Returns:
        What it had along the last row, and the length of what is left.
    """
    functions = _functions()
    room = workspace.take(
        "compiled.basis", functions.weightscope_orthogonalise_room(len(vector)), dtype=torch.float32
    )
    length = ctypes.c_double()
    along: float = functions.weightscope_orthogonalise(
        *(basis.data_ptr(), *basis.shape, vector.data_ptr(), room.data_ptr(), ctypes.addressof(length))
    )
    return along, length.value


def gram(
    tall: Float[Tensor, "rows columns"], out: Float[Tensor, "columns columns"], workspace: Workspace
) -> None:
    """WᵀW, by the matrix units: 512 products, which are exact, summed in float32, these sums in `out`'s type.

    Args:
        tall: W, as `has_gram_of` takes it.
        out: Where to, float32 or float64, contiguous.
        workspace: For the values in the order in which the units want them.
    """
    lying, wide = _lying(tall)
    functions = _functions()
    room = workspace.take("compiled.gram", functions.weightscope_gram_room(tall.shape[1]), dtype=torch.uint8)
    functions.weightscope_gram(
        *(lying.data_ptr(), *lying.shape, lying.stride(0), wide),
        *(out.dtype == torch.float64, out.data_ptr(), room.data_ptr(), _threads(tall)),
    )


def has_gram_of(tall: Tensor) -> bool:
    """Whether `gram` takes it: bfloat16, it or its transpose as `takes` takes it, on a CPU that can."""
    return tall.dtype == torch.bfloat16 and takes_either_way(tall) and _has_matrix_units()


@lru_cache(maxsize=1)
def _has_matrix_units() -> bool:
    return bool(_functions().weightscope_has_matrix_units())


def sums(
    matrix: Float[Tensor, "rows columns"],
    right: Float[Tensor, " columns"] | None,
    left: Float[Tensor, " rows"] | None,
    workspace: Workspace,
) -> Pass:
    """Squares and sums, and W·right or Wᵀ·left, in float64.

    Args:
        matrix: W, as `takes` takes it.
        right: float64, contiguous.
        left: Likewise; not with `right`.
        workspace: For sums.
    """
    rows, columns = matrix.shape
    # Each thread sums over all columns: a few rows are not worth so much memory.
    threads, functions = min(_threads(matrix), 1 + rows // _ROWS_A_THREAD), _functions()
    row_squares, row_sums, column_squares, products = (
        torch.empty(size, dtype=torch.float64)
        for size in (rows, rows, columns, rows if left is None else columns)
    )
    room = workspace.take("compiled.sums", functions.weightscope_sums_room(columns, threads))
    functions.weightscope_sums(
        _TYPES[matrix.dtype],
        *(matrix.data_ptr(), rows, columns, matrix.stride(0)),
        *(None if one is None else one.data_ptr() for one in (right, left)),
        *(found.data_ptr() for found in (row_squares, row_sums, column_squares, products, room)),
        threads,
    )
    if right is None and left is None:
        return Pass(row_squares, row_sums, column_squares, None)
    return Pass(row_squares, row_sums, column_squares, products)


def largest(matrix: Float[Tensor, "rows columns"]) -> float:
    """Largest absolute element; NaN or infinite where one is.

    Args:
        matrix: As `takes` takes it.
    """
    rows, columns = matrix.shape
    found: float = _functions().weightscope_largest(
        _TYPES[matrix.dtype], matrix.data_ptr(), rows, columns, matrix.stride(0), _threads(matrix)
    )
    return found


def largest_eigenvalue(diagonal: Sequence[float], below: Sequence[float]) -> float:
    """That of a symmetric tridiagonal matrix; elements of `below` from `diagonal`'s last on do not count."""
    size = len(diagonal)
    array = ctypes.c_double * size
    found: float = _functions().weightscope_largest_eigenvalue(
        array(*diagonal), array(*below[: size - 1]), size
    )
    return found


def _functions() -> ctypes.CDLL:
    found = library()
    assert found is not None  # noqa: S101 - `takes` was asked
    return found


def _lying(tall: Tensor) -> tuple[Tensor, bool]:
    """A matrix as its rows lie in memory, and whether it lies on its side."""
    wide = tall.stride(1) != 1
    return tall.mT if wide else tall, wide


def _threads(matrix: Tensor) -> int:
    return torch.get_num_threads() if matrix.numel() >= _WORTH_THREADS else 1
