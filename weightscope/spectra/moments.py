"""Norms and moments of a matrix, and ‖Wv‖, in one pass over it.

Everything is accumulated in float64, in pieces that stay in the cache, so the relative error of the
Frobenius norm is below 1e-12 at any size that fits a machine. Sums of parts that are stacked give those
of the whole: QKV costs no pass of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra import compiled
from weightscope.spectra.workspace import Workspace

# 1 MB of float64: half of the level-2 cache of a current core.
_PIECE_ELEMENTS = 131_072
# A mean above this share of the root mean square would cancel in E[x²] − E[x]², so it is taken off first.
_LARGE_MEAN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """What one pass over a matrix gives. Undefined numbers are NaN."""

    frobenius_norm: float
    """‖W‖_F."""
    mean: float
    """Mean of the elements."""
    std: float
    """Standard deviation of the elements, over their number (not one less)."""
    row_norm_ratio: float
    """Largest over median Euclidean norm of the rows."""
    column_norm_ratio: float
    """Largest over median Euclidean norm of the columns."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sums:
    """Sums over a matrix from which its moments follow; additive over stacked parts."""

    row_squares: Float[Tensor, " rows"]
    """Squared norm of each row, float64."""
    column_squares: Float[Tensor, " columns"]
    """Squared norm of each column, float64."""
    mean: float
    """Mean of the elements."""
    spread: float
    """Sum of squared deviations from the mean."""

    @property
    def count(self) -> int:
        """Number of elements."""
        return len(self.row_squares) * len(self.column_squares)

    @property
    def squares(self) -> float:
        """‖W‖_F²."""
        return float(self.row_squares.sum())

    def scaled(self, exponent: int) -> Sums:
        """Those of W times 2^exponent."""
        return Sums(
            row_squares=times_power(self.row_squares, 2 * exponent),
            column_squares=times_power(self.column_squares, 2 * exponent),
            mean=math.ldexp(self.mean, exponent),
            spread=math.ldexp(self.spread, 2 * exponent),
        )

    def transposed(self) -> Sums:
        """Those of Wᵀ."""
        return Sums(
            row_squares=self.column_squares,
            column_squares=self.row_squares,
            mean=self.mean,
            spread=self.spread,
        )

    def moments(self) -> Moments:
        """The moments."""
        return Moments(
            frobenius_norm=math.sqrt(self.squares),
            mean=self.mean,
            std=math.sqrt(max(0.0, self.spread) / self.count),
            row_norm_ratio=_max_over_median(self.row_squares),
            column_norm_ratio=_max_over_median(self.column_squares),
        )


def stacked(parts: Sequence[Sums]) -> Sums:
    """The sums of parts that lie below one another."""
    count = sum(part.count for part in parts)
    mean = sum(part.mean * part.count for part in parts) / count
    # Chan, Golub and LeVeque 1979: each part's own deviations, and those of the parts' means.
    spread = sum(part.spread + part.count * (part.mean - mean) ** 2 for part in parts)
    return Sums(
        row_squares=torch.cat([part.row_squares for part in parts]),
        column_squares=torch.stack([part.column_squares for part in parts]).sum(dim=0),
        mean=mean,
        spread=spread,
    )


def sums_and_product(
    matrix: Float[Tensor, "rows columns"],
    *,
    right: Float[Tensor, " columns"] | None = None,
    left: Float[Tensor, " rows"] | None = None,
    workspace: Workspace,
) -> tuple[Sums, float]:
    """The sums of a matrix, and ‖W·right‖² or ‖Wᵀ·left‖² from the same pass (0 without a vector).

    Args:
        matrix: Any floating type and layout; finite, with squares that stay in range.
        right: float64.
        left: float64; not with `right`.
        workspace: For the pieces.
    """
    if _lies_transposed(matrix):
        sums, product = _pass(matrix.mT, left, right, workspace)
        return sums.transposed(), product
    return _pass(matrix, right, left, workspace)


def product_squares(
    matrix: Float[Tensor, "rows columns"],
    *,
    right: Float[Tensor, " columns"] | None = None,
    left: Float[Tensor, " rows"] | None = None,
    workspace: Workspace,
) -> float:
    """‖W·right‖² or ‖Wᵀ·left‖² alone, in float64."""
    if _lies_transposed(matrix):
        matrix, right, left = matrix.mT, left, right
    if compiled.takes(matrix):
        product = compiled.sums(matrix, right, left, workspace).products
        return 0.0 if product is None else float(product.square().sum())
    product = workspace.take("pass.product", matrix.shape[0 if left is None else 1]).zero_()
    for start, piece in _pieces(matrix, workspace):
        stop = start + len(piece)
        if right is not None:
            torch.mv(piece, right, out=product[start:stop])
        if left is not None:
            product.addmv_(piece.mT, left[start:stop])
    return float(product.square().sum())


def _lies_transposed(matrix: Float[Tensor, "rows columns"]) -> bool:
    """Whether it is stored column by column: then it is read as it lies."""
    return matrix.stride(0) == 1 and matrix.shape[0] > 1


def _pass(
    matrix: Float[Tensor, "rows columns"],
    right: Float[Tensor, " columns"] | None,
    left: Float[Tensor, " rows"] | None,
    workspace: Workspace,
) -> tuple[Sums, float]:
    """One pass in the order of memory; gives ‖W·right‖² or ‖Wᵀ·left‖²."""
    found = (compiled.sums if compiled.takes(matrix) else _sums)(matrix, right, left, workspace)
    sample = matrix[: max(1, _PIECE_ELEMENTS // matrix.shape[1])]
    shift = _shift(sample)
    deviations = _deviations(matrix, shift, workspace) if shift else float(found.row_squares.sum())
    mean = float(found.row_sums.sum()) / matrix.numel()
    sums = Sums(
        row_squares=found.row_squares,
        column_squares=found.column_squares,
        mean=mean,
        spread=deviations - matrix.numel() * (mean - shift) ** 2,
    )
    return sums, 0.0 if found.products is None else float(found.products.square().sum())


def _sums(
    matrix: Float[Tensor, "rows columns"],
    right: Float[Tensor, " columns"] | None,
    left: Float[Tensor, " rows"] | None,
    workspace: Workspace,
) -> compiled.Pass:
    """As `compiled.sums`, of any matrix."""
    rows, columns = matrix.shape
    row_squares = torch.empty(rows, dtype=torch.float64, device=matrix.device)
    row_sums = torch.empty_like(row_squares)
    column_squares = row_squares.new_zeros(columns)
    products = None
    if right is not None or left is not None:
        products = row_squares.new_zeros(rows if left is None else columns)
    squares = workspace.take("pass.squares", *_piece_shape(matrix))
    ones = row_squares.new_ones(max(squares.shape))
    for start, piece in _pieces(matrix, workspace):
        stop = start + len(piece)
        square = torch.mul(piece, piece, out=squares[: len(piece)])
        torch.mv(square, ones[:columns], out=row_squares[start:stop])
        torch.mv(piece, ones[:columns], out=row_sums[start:stop])
        column_squares.addmv_(square.mT, ones[: len(piece)])
        if right is not None and products is not None:
            torch.mv(piece, right, out=products[start:stop])
        if left is not None and products is not None:
            products.addmv_(piece.mT, left[start:stop])
    return compiled.Pass(row_squares, row_sums, column_squares, products)


def _deviations(matrix: Float[Tensor, "rows columns"], shift: float, workspace: Workspace) -> float:
    """Σ(w − shift)²."""
    return sum(float(piece.sub_(shift).square_().sum()) for _, piece in _pieces(matrix, workspace))


def _pieces(
    matrix: Float[Tensor, "rows columns"], workspace: Workspace
) -> Iterator[tuple[int, Float[Tensor, "few columns"]]]:
    """Row blocks in float64, each with its first row; the next one takes its memory."""
    pieces = workspace.take("pass.piece", *_piece_shape(matrix))
    for start in range(0, len(matrix), len(pieces)):
        block = matrix[start : start + len(pieces)]
        yield start, pieces[: len(block)].copy_(block)


def _piece_shape(matrix: Float[Tensor, "rows columns"]) -> tuple[int, int]:
    rows, columns = matrix.shape
    return min(rows, max(1, _PIECE_ELEMENTS // columns)), columns


def _shift(sample: Float[Tensor, "rows columns"]) -> float:
    """What to take off the elements before their deviations are squared: nothing, or about their mean."""
    exact = sample.to(torch.float64)
    mean = float(exact.mean())
    return mean if abs(mean) > _LARGE_MEAN * math.sqrt(float(exact.square().mean())) else 0.0


def _max_over_median(squares: Float[Tensor, " length"]) -> float:
    norms = squares.sqrt().sort().values
    middle = len(norms) // 2
    median = float(norms[middle] if len(norms) % 2 else (norms[middle - 1] + norms[middle]) / 2)
    return float(norms[-1]) / median if median > 0 else math.nan


def largest_element(matrix: Float[Tensor, "rows columns"]) -> float:
    """Largest absolute element; NaN or infinite where one is."""
    lying = matrix.mT if _lies_transposed(matrix) else matrix
    if compiled.takes(lying):
        return compiled.largest(lying)
    if lying.is_contiguous():
        lowest, highest = torch.aminmax(lying)
    else:  # of which aminmax would make a copy
        lowest, highest = lying.amin(), lying.amax()
    return max(-float(lowest), float(highest))  # NaN propagates through both


def scale_exponent(max_abs: float) -> int:
    """A power of two e for which max_abs / 2^e is near one; 0 for a zero or non-finite one.

    It lies in [0.5, 1) wherever 2^e and 2^-e are numbers of float32 if max_abs is, or else of float64.
    Multiplying by 2^-e is exact, and afterwards no square over- or underflows that matters.
    """
    if max_abs == 0 or not math.isfinite(max_abs):
        return 0
    exponent = math.frexp(max_abs)[1]
    largest = 126 if -149 < exponent <= 128 else 1000
    return max(-largest, min(largest, exponent))


def times_power(values: Float[Tensor, "*shape"], exponent: int) -> Float[Tensor, "*shape"]:
    """Values times 2^exponent, float64, in place: in steps that are numbers of float64."""
    while exponent:
        step = max(-1000, min(1000, exponent))
        values.mul_(math.ldexp(1.0, step))
        exponent -= step
    return values
