"""All singular values."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectrum:
    """The singular values of a batch of equal shape."""

    values: Float[Tensor, "batch rank"]
    """Descending, float64."""
    relative_error: float
    """Bound on the absolute error of any value, over the largest one."""
    method: str
    """`svdvals`: LAPACK's (on a GPU cuSOLVER's) SVD in float64."""


def spectrum(batch: Float[Tensor, "batch rows columns"]) -> Spectrum:
    """Every singular value of each matrix, in float64.

    The error bound is LAPACK's: a backward stable SVD moves each value by at most p(m, n)·eps·σ₁ with a
    modest polynomial p, taken as the longer side (LAPACK Users' Guide, 3rd edition, section 4.9.1).
    """
    rows, columns = batch.shape[-2:]
    # LAPACK's gesdd is slower on a wide matrix than on its transpose.
    tall = batch if rows >= columns else batch.mT
    values = torch.linalg.svdvals(tall)
    eps = torch.finfo(torch.float64).eps
    return Spectrum(values=values, relative_error=max(rows, columns) * eps, method="svdvals")
