"""Norms of many small matrices of one shape, in a few batched calls: for nets in training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

# Bytes of matrices in float64 at a time.
_PIECE = 2**28


class BatchNorms(NamedTuple):
    """Norms of each matrix, float64; NaN where a value is not finite."""

    frobenius: Float[Tensor, " matrices"]
    """‖W‖_F."""
    spectral: Float[Tensor, " matrices"]
    """‖W‖_2."""

    @property
    def stable_ranks(self) -> Float[Tensor, " matrices"]:
        """‖W‖_F/‖W‖_2, not squared; NaN for a zero matrix."""
        return (self.frobenius / self.spectral).clamp(min=1.0)


def batch_norms(matrices: Float[Tensor, "matrices rows columns"]) -> BatchNorms:
    """‖W‖_F and ‖W‖_2 of each, from the eigenvalues of the small-side Gram matrix in float64.

    The largest eigenvalue has a relative error of a few times 2⁻⁵³ however the others lie. Each matrix is
    scaled by a power of two first, so that squares neither under- nor overflow.

    Args:
        matrices: float32 or float64, any device; none of the axes empty but the first.
    """
    rows, columns = matrices.shape[1:]
    at_once = max(1, _PIECE // (8 * rows * columns))
    pieces = [_norms(piece) for piece in torch.split(matrices, at_once)]
    return BatchNorms(
        torch.cat([piece.frobenius for piece in pieces]), torch.cat([piece.spectral for piece in pieces])
    )


def _norms(matrices: Float[Tensor, "matrices rows columns"]) -> BatchNorms:
    values = matrices.to(torch.float64)
    peaks = values.abs().amax(dim=(1, 2), keepdim=True)
    finite = peaks.isfinite()
    usable = finite & (peaks > 0)
    # LAPACK refuses what is not finite; such a matrix is solved as zeros and has no numbers.
    _, exponents = torch.frexp(torch.where(usable, peaks, 1.0))
    scaled = torch.where(finite, torch.ldexp(values, -exponents), 0.0)
    tall = scaled if scaled.shape[1] >= scaled.shape[2] else scaled.mT
    gram = tall.mT @ tall
    largest = torch.linalg.eigvalsh(gram)[:, -1].clamp(min=0.0)
    squares = scaled.square().sum(dim=(1, 2))
    known = torch.where(finite.flatten(), 1.0, torch.nan)
    size = known * torch.ldexp(torch.ones_like(squares), exponents.flatten())
    return BatchNorms(squares.sqrt() * size, largest.sqrt() * size)
