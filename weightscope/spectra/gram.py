"""The small-side Gram matrix and its largest eigenpair, in float64."""

import torch
from jaxtyping import Float
from torch import Tensor


def gram(tall: Float[Tensor, "rows columns"]) -> Float[Tensor, "columns columns"]:
    """WᵀW for a matrix with at least as many rows as columns; float64 in, float64 out."""
    return tall.mT @ tall


def top_right_vector(tall: Float[Tensor, "rows columns"]) -> Float[Tensor, " columns"]:
    """The right singular vector of the largest singular value, by a full eigendecomposition of WᵀW.

    The Gram matrix squares the condition number, which hurts small singular values only: the largest
    keeps a relative error of a few units of rounding.
    """
    vectors: Tensor = torch.linalg.eigh(gram(tall)).eigenvectors
    return vectors[:, -1]
