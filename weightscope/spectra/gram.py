"""Small-side Gram matrices, and what can be proved with them.

They are additive over row blocks: that of QKV is the sum of those of Q, K and V.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra import compiled
from weightscope.spectra.precision import float32_products
from weightscope.spectra.workspace import Workspace

# Rows cast to float64 at a time, and columns of a panel of the lower triangle: the products stay large
# enough for BLAS to run at its best, and above the diagonal blocks nothing is computed.
_ROWS, _PANEL = 2560, 320
# Rows whose products are summed in float32 before float64 takes the sum: shorter ones are no more exact,
# and slower.
_SHORT_ROWS = 1024
_UNIT_ROUNDOFF = torch.finfo(torch.float64).eps / 2


def gram64(
    tall: Float[Tensor, "rows columns"],
    workspace: Workspace,
    *,
    name: str = "gram.double",
    onto: Float[Tensor, "columns columns"] | None = None,
) -> Float[Tensor, "columns columns"]:
    """WᵀW in float64.

    Args:
        tall: Any floating type, exact values.
        workspace: Holds the result until the name is taken again.
        name: Under which it is held.
        onto: A Gram matrix of other rows to add this one to, in place, instead.
    """
    rows, columns = tall.shape
    result = workspace.take(name, columns, columns) if onto is None else onto
    for start in range(0, rows, _ROWS):
        block = tall[start : start + _ROWS]
        if block.dtype != torch.float64:
            block = workspace.copied("gram.rows", block)
        add_lower(block, result, anew=start == 0 and onto is None)
    mirror(result)
    return result


def add_lower(
    block: Float[Tensor, "rows columns"], gram: Float[Tensor, "columns columns"], *, anew: bool = False
) -> None:
    """Add BᵀB to the lower triangle, in float64; above it stands nothing of use until `mirror`.

    Args:
        block: B, float64.
        gram: Where to.
        anew: Whether to write over what is there instead.
    """
    for left, right in _panels(len(gram)):
        target = gram[left:, left:right]
        target.addmm_(block[:, left:].mT, block[:, left:right], beta=0 if anew else 1)


def mixed_gram(
    tall: Float[Tensor, "rows columns"],
    workspace: Workspace,
    *,
    name: str = "gram.double",
) -> Float[Tensor, "columns columns"]:
    """WᵀW of values that bfloat16 holds: a few hundred rows summed in float32, these sums in float64.

    The products are exact. What the short sums round off is a tenth of what one long sum in float32 would.

    Args:
        tall: float32 or bfloat16, exact values.
        workspace: Holds the result until the name is taken again.
        name: Under which it is held.
    """
    columns = tall.shape[1]
    result = workspace.take(name, columns, columns)
    if compiled.has_gram_of(tall):
        compiled.gram(tall, result, workspace)
        return result
    sums = workspace.take("gram.sums", columns, _PANEL, dtype=torch.float32)
    with float32_products("bfloat16"):
        for start, block in _blocks32(tall, workspace, _SHORT_ROWS):
            for left, right in _panels(columns):
                part = sums[: columns - left, : right - left]
                torch.mm(block[:, left:].mT, block[:, left:right], out=part)
                target = result[left:, left:right]
                target.copy_(part) if start == 0 else target.add_(part)
    mirror(result)
    return result


def gram32(
    tall: Float[Tensor, "rows columns"],
    out: Float[Tensor, "columns columns"],
    workspace: Workspace,
    *,
    bf16_valued: bool,
) -> None:
    """WᵀW in float32, to find vectors with and never to report.

    The lower triangle is computed and mirrored: two thirds of the products, and the copy is cheap.
    Where every value is one of bfloat16, products of bfloat16 are exact and the matrix units may be
    used; their sums are float32 either way.
    """
    if compiled.has_gram_of(tall):
        compiled.gram(tall, out, workspace)
        return
    with float32_products("bfloat16" if bf16_valued else "exact"):
        for start, block in _blocks32(tall, workspace):
            for left, right in _panels(len(out)):
                target = out[left:, left:right]
                target.addmm_(block[:, left:].mT, block[:, left:right], beta=0 if start == 0 else 1)
    mirror(out)


def _blocks32(
    tall: Float[Tensor, "rows columns"], workspace: Workspace, rows: int | None = None
) -> Iterator[tuple[int, Float[Tensor, "few columns"]]]:
    """Row blocks in float32, each with its first row: the matrix itself where it is that and may be whole."""
    wide = tall.dtype == torch.float32
    step = rows or (len(tall) if wide else _ROWS)
    for start in range(0, len(tall), step):
        block = tall[start : start + step]
        yield start, block if wide else workspace.copied("gram.rows", block, torch.float32)


def _panels(columns: int) -> Iterator[tuple[int, int]]:
    """First and last column of each panel of the lower triangle."""
    return ((left, min(left + _PANEL, columns)) for left in range(0, columns, _PANEL))


def mirror(gram: Float[Tensor, "size size"]) -> None:
    """Write the panels below the diagonal above it."""
    for left, right in _panels(len(gram)):
        gram[left:right, right:] = gram[right:, left:right].mT


def proves_upper_bound(
    gram: Float[Tensor, "size size"], bound: float, *, squares: float, rows: int, workspace: Workspace
) -> bool:
    """Whether a Cholesky factorisation proves that λ₁(WᵀW) ≤ bound, roundings included.

    If s I − G factors in floating point, its smallest eigenvalue is above −(n+1)u·trace (Rump 2006,
    "Verification of positive definiteness"); G itself is off by at most γ_m‖W‖_F². Both margins are taken
    off s beforehand.

    Args:
        gram: From `gram64`; its lower triangle is read.
        bound: In the units of the Gram matrix.
        squares: ‖W‖_F².
        rows: Length of the sums in `gram`.
        workspace: For the factor.
    """
    size = len(gram)
    shifted = torch.neg(gram, out=workspace.take("gram.shifted", size, size))
    shifted.diagonal().add_(bound - cholesky_margin(size, rows, bound, squares))
    factor, info = torch.linalg.cholesky_ex(shifted)
    # On CUDA a NaN passes without a word (pytorch issue 64818), and a NaN is not above zero.
    return int(info) == 0 and bool((factor.diagonal() > 0).all())


Number = TypeVar("Number", float, Tensor)


def cholesky_margin(size: int, rows: int, bound: Number, squares: Number) -> Number:
    """What to take off the shift for rounding: that of the factorisation, and that of the Gram matrix."""
    return 1.1 * _UNIT_ROUNDOFF * ((size + 1) * size * bound + (rows + 3) * squares)
