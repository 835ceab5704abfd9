"""Small-side Gram matrices, and what can be proved with them.

They are additive over row blocks: that of QKV is the sum of those of Q, K and V.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.precision import float32_products
from weightscope.spectra.workspace import Workspace

# Rows cast to float64 at a time, and columns of a panel of the lower triangle: the products stay large
# enough for BLAS to run at its best, and above the diagonal blocks nothing is computed.
_ROWS, _PANEL = 2560, 640
_UNIT_ROUNDOFF = torch.finfo(torch.float64).eps / 2


def gram64(
    tall: Float[Tensor, "rows columns"], workspace: Workspace, *, name: str = "gram.double"
) -> Float[Tensor, "columns columns"]:
    """WᵀW in float64, its lower triangle; what lies above the diagonal blocks is undefined.

    Args:
        tall: float32 or float64, exact values.
        workspace: Holds the result until the name is taken again.
        name: Under which it is held.
    """
    rows, columns = tall.shape
    result = workspace.take(name, columns, columns).zero_()
    for start in range(0, rows, _ROWS):
        block = tall[start : start + _ROWS]
        if block.dtype != torch.float64:
            block = workspace.take("gram.rows", *block.shape).copy_(block)
        for left in range(0, columns, _PANEL):
            right = min(left + _PANEL, columns)
            result[left:, left:right].addmm_(block[:, left:].mT, block[:, left:right])
    return result


def gram32(
    tall: Float[Tensor, "rows columns"], out: Float[Tensor, "columns columns"], *, bf16_valued: bool
) -> None:
    """WᵀW in float32, to find vectors with and never to report.

    The lower triangle is computed and mirrored: two thirds of the products, and the copy is cheap.
    Where every value is one of bfloat16, products of bfloat16 are exact and the matrix units may be
    used; their sums are float32 either way.
    """
    with float32_products("bfloat16" if bf16_valued else "exact"):
        for left in range(0, len(out), _PANEL):
            right = min(left + _PANEL, len(out))
            out[left:, left:right].addmm_(tall[:, left:].mT, tall[:, left:right], beta=0)
    _mirror(out)


def rounded32(gram: Float[Tensor, "size size"], out: Float[Tensor, "size size"]) -> None:
    """The whole of a `gram64`, rounded to float32, to find vectors with."""
    out.copy_(gram)
    _mirror(out)


def _mirror(gram: Float[Tensor, "size size"]) -> None:
    """Write the panels below the diagonal above it."""
    for left in range(0, len(gram), _PANEL):
        right = min(left + _PANEL, len(gram))
        gram[left:right, right:] = gram[right:, left:right].mT


def proves_upper_bound(
    gram: Float[Tensor, "size size"], bound: float, *, squares: float, rows: int, workspace: Workspace
) -> bool:
    """Whether a Cholesky factorisation proves that λ₁(WᵀW) ≤ bound, roundings included.

    If s I − G factors in floating point, its smallest eigenvalue is above −(n+1)u·trace (Rump 2006,
    "Verification of positive definiteness"); G itself is off by at most γ_m‖W‖_F². Both margins are taken
    off s beforehand.

    Args:
        gram: The lower triangle from `gram64`.
        bound: In the units of the Gram matrix.
        squares: ‖W‖_F².
        rows: Length of the sums in `gram`.
        workspace: For the factor.
    """
    size = len(gram)
    margin = 1.1 * _UNIT_ROUNDOFF * ((size + 1) * size * bound + (rows + 3) * squares)
    shifted = torch.neg(gram, out=workspace.take("gram.shifted", size, size))
    shifted.diagonal().add_(bound - margin)
    _, info = torch.linalg.cholesky_ex(shifted)
    return int(info) == 0
