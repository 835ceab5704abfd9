"""Norms and moments of a matrix in one pass over it.

Everything is accumulated in float64, in pieces that stay in the cache; the relative error of the
Frobenius norm is below 1e-12 at any size that fits a machine (pairwise sums inside a piece, one
addition a piece outside).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# 512 kB of float64: half of the level-2 cache of a current core.
_PIECE_ELEMENTS = 65_536


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


def moments(matrix: Float[Tensor, "rows columns"]) -> Moments:
    """Norms and moments of a finite matrix.

    Args:
        matrix: Any floating dtype and layout; finite, with squares that neither over- nor underflow
            in float64 (see `scaled`).
    """
    rows, columns = matrix.shape
    step = max(1, _PIECE_ELEMENTS // columns)
    row_squares = torch.empty(rows, dtype=torch.float64, device=matrix.device)
    column_squares = torch.zeros(columns, dtype=torch.float64, device=matrix.device)
    count, mean, spread = 0, 0.0, 0.0
    for start in range(0, rows, step):
        piece = matrix[start : start + step].to(torch.float64)
        squares = piece * piece
        torch.sum(squares, dim=1, out=row_squares[start : start + step])
        column_squares += squares.sum(dim=0)
        # Chan, Golub and LeVeque 1979: combine mean and centred sum of squares of two parts. The
        # textbook E[x^2] - E[x]^2 cancels when the mean is large.
        size = piece.numel()
        piece_mean = float(piece.mean())
        piece_spread = float((piece - piece_mean).square_().sum())
        delta, total = piece_mean - mean, count + size
        spread += piece_spread + delta * delta * count * size / total
        mean += delta * size / total
        count = total
    return Moments(
        frobenius_norm=math.sqrt(float(row_squares.sum())),
        mean=mean,
        std=math.sqrt(spread / count),
        row_norm_ratio=_max_over_median(row_squares),
        column_norm_ratio=_max_over_median(column_squares),
    )


def _max_over_median(squares: Float[Tensor, " length"]) -> float:
    norms = squares.sqrt().sort().values
    middle = len(norms) // 2
    median = float(norms[middle] if len(norms) % 2 else (norms[middle - 1] + norms[middle]) / 2)
    return float(norms[-1]) / median if median > 0 else math.nan


def scale_exponent(max_abs: float) -> int:
    """The power of two e for which max_abs / 2^e lies in [0.5, 1); 0 for a zero or non-finite one.

    Multiplying by 2^-e is exact, and afterwards no square over- or underflows that matters.
    """
    if max_abs == 0 or not math.isfinite(max_abs):
        return 0
    # Beyond this 2^-e itself would overflow; such values are float64 subnormals.
    return max(-1000, min(1000, math.frexp(max_abs)[1]))
