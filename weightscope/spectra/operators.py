"""WᵀW as something that a Lanczos run applies to vectors: by products with W, or as the matrix that it is."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra import compiled
from weightscope.spectra.lanczos import Operator
from weightscope.spectra.workspace import Workspace

# The rounding error of a sum grows with the root of its terms; smaller parts would cost time.
_SUMMANDS = 2560


def implicit(tall: Float[Tensor, "rows columns"], workspace: Workspace) -> Operator:
    """WᵀW by two products with W, or one that reads it once.

    Args:
        tall: W, float32 or float64, or as `compiled` takes it.
        workspace: For Wv.
    """

    def fused(vector: Tensor, out: Tensor) -> None:
        compiled.gram_product(tall, vector, out, workspace)

    if compiled.takes_either_way(tall):
        return fused
    image = workspace.take("extremal.image", tall.shape[0], dtype=tall.dtype)

    def apply(vector: Tensor, out: Tensor) -> None:
        multiply(tall, vector, image, workspace)
        multiply(tall.mT, image, out, workspace)

    return apply


def multiply(
    matrix: Float[Tensor, "rows columns"],
    vector: Float[Tensor, " columns"],
    out: Float[Tensor, " rows"],
    workspace: Workspace,
) -> None:
    """Wv; in parts where W lies column by column, which BLAS adds up one after the other."""
    columns = matrix.shape[1]
    if matrix.stride(0) != 1 or columns <= _SUMMANDS or matrix.device.type != "cpu":
        torch.mv(matrix, vector, out=out)
        return
    starts = range(0, columns, _SUMMANDS)
    sums = workspace.take("extremal.sums", len(starts), len(out), dtype=out.dtype)
    for row, start in zip(sums, starts, strict=True):
        torch.mv(matrix[:, start : start + _SUMMANDS], vector[start : start + _SUMMANDS], out=row)
    torch.sum(sums, 0, out=out)


def explicit(gram: Float[Tensor, "columns columns"], workspace: Workspace) -> Operator:
    """WᵀW as it stands, float32 or float64, symmetric and contiguous."""

    def half(vector: Tensor, out: Tensor) -> None:
        compiled.symmetric_product(gram, vector, out, workspace)

    def apply(vector: Tensor, out: Tensor) -> None:
        torch.mv(gram, vector, out=out)

    return half if gram.dtype == torch.float32 and compiled.takes(gram) else apply
