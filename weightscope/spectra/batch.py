"""Norms of many small matrices of one shape, in a few batched calls: for nets in training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.spectrum import AT_ONCE
from weightscope.spectra.threads import one_thread

# Bytes of matrices in float64 at a time.
_PIECE = 2**28
# Up to this side LAPACK is faster on one thread.
_SMALL = 256


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

    The largest eigenvalue has a relative error of a few times 2⁻⁵³ however the others lie. Float64
    matrices are scaled by a power of two first, so that squares neither under- nor overflow.

    Args:
        matrices: float32 or float64, any device; none of the axes empty but the first.
    """
    rows, columns = matrices.shape[1:]
    at_once = max(1, min(AT_ONCE, _PIECE // (8 * rows * columns)))
    pieces = [_norms(piece) for piece in torch.split(matrices, at_once)]
    return BatchNorms(
        torch.cat([piece.frobenius for piece in pieces]), torch.cat([piece.spectral for piece in pieces])
    )


def _norms(matrices: Float[Tensor, "matrices rows columns"]) -> BatchNorms:
    if matrices.dtype == torch.float64:
        return _scaled_norms(matrices)
    return _gram_norms(matrices.to(torch.float64))  # squares of float32 lie well within float64


def _scaled_norms(matrices: Float[Tensor, "matrices rows columns"]) -> BatchNorms:
    peaks = matrices.abs().amax(dim=(1, 2), keepdim=True)
    _, exponents = torch.frexp(torch.where(peaks.isfinite() & (peaks > 0), peaks, 1.0))
    norms = _gram_norms(torch.ldexp(matrices, -exponents))
    size = torch.ldexp(torch.ones_like(norms.frobenius), exponents.flatten())
    return BatchNorms(norms.frobenius * size, norms.spectral * size)


def _gram_norms(matrices: Float[Tensor, "matrices rows columns"]) -> BatchNorms:
    tall = matrices if matrices.shape[1] >= matrices.shape[2] else matrices.mT
    gram = tall.mT @ tall
    squares = gram.diagonal(dim1=1, dim2=2).sum(dim=1)
    known = squares.isfinite()
    # LAPACK refuses what is not finite; such a matrix is solved as zeros and has no numbers.
    largest = _eigenvalues(gram.where(known[:, None, None], 0.0))[:, -1]
    undefined = torch.where(known, 1.0, torch.nan)
    return BatchNorms(squares.sqrt() * undefined, largest.clamp(min=0.0).sqrt() * undefined)


def _eigenvalues(gram: Float[Tensor, "matrices size size"]) -> Float[Tensor, "matrices size"]:
    """Ascending."""
    if gram.shape[-1] > _SMALL:
        values: Tensor = torch.linalg.eigvalsh(gram)
    else:
        with one_thread(gram.device):
            values = torch.linalg.eigvalsh(gram)
    return values
