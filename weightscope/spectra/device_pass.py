"""One pass over a matrix on a device: its sums, its Gram matrix, and how far that is off.

In pieces large enough to fill a GPU, cast to float64 one after the other; nothing in here waits for the
device. Pieces are rows of the matrix seen so that its columns are the short side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.device_sums import Accumulator, DeviceSums
from weightscope.spectra.gram import cholesky_margin
from weightscope.spectra.probes import ALPHA, gaussian_probes
from weightscope.spectra.workspace import Workspace

# 32 MB of float64: most of a GPU's level-2 cache, and enough rows for its float64 products.
_PIECE_ELEMENTS = 2**22
# Of the lower triangle: narrower ones leave a GPU's multiprocessors idle.
_PANEL = 1280


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaled:
    """Stored values and the power of two they are taken times."""

    tall: Float[Tensor, "rows columns"]
    """Any floating type and layout."""
    factor: Float[Tensor, ""]
    """float64."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learnt:
    """What one pass gives."""

    sums: DeviceSums
    """Of the matrix as it was passed: its rows are the tall one's."""
    gram: Float[Tensor, "columns columns"]
    """WᵀW in float64."""
    error: Float[Tensor, ""] | None
    """Bound on its distance from WᵀW in the 2-norm, where it was asked for."""


def learn(matrix: Scaled, workspace: Workspace, *, with_error: bool) -> Learnt:
    """Sums, and the Gram matrix in memory of its own.

    Args:
        matrix: Columns on which the Gram matrix is formed; not necessarily the short side.
        workspace: For the pieces.
        with_error: As `probes.gram_error`, with one application: fails with probability below 1e-9.
    """
    rows, columns = matrix.tall.shape
    gram = torch.zeros(columns, columns, dtype=torch.float64, device=matrix.tall.device)
    probes = _probes_on(columns, gram.device) if with_error else None
    image = None if probes is None else torch.zeros_like(probes)
    sums: Accumulator | None = None
    for start, piece in pieces(matrix, workspace):
        sums = sums or Accumulator(piece, rows)
        sums.add(start, piece, workspace.take("device.squares", *piece.shape))
        for left in range(0, columns, _PANEL):
            right = min(left + _PANEL, columns)
            gram[left:, left:right].addmm_(piece[:, left:].mT, piece[:, left:right])
        if probes is not None and image is not None:
            image.addmm_(probes @ piece.mT, piece)
    for left in range(0, columns, _PANEL):
        right = min(left + _PANEL, columns)
        gram[left:right, right:] = gram[right:, left:right].mT
    assert sums is not None  # noqa: S101 - a matrix has a row
    error = None
    if probes is not None and image is not None:
        longest = torch.linalg.vector_norm(torch.addmm(image, probes, gram, beta=-1), dim=1).max()
        error = ALPHA * math.sqrt(2 / math.pi) * longest
    return Learnt(sums=sums.sums(), gram=gram, error=error)


def image_squares(
    matrix: Scaled, vector: Float[Tensor, " columns"], workspace: Workspace
) -> Float[Tensor, ""]:
    """‖Wv‖² in float64."""
    total = vector.new_zeros(())
    for _, piece in pieces(matrix, workspace):
        total += torch.mv(piece, vector).square_().sum()
    return total


def pieces(matrix: Scaled, workspace: Workspace) -> Iterator[tuple[int, Float[Tensor, "few columns"]]]:
    """Row blocks in float64, times the factor, each with its first row; the next one takes its memory."""
    tall = matrix.tall
    step = max(1, _PIECE_ELEMENTS // tall.shape[1])
    for start in range(0, len(tall), step):
        block = tall[start : start + step]
        # As it lies in memory, so that the cast runs along it.
        lying = block if block.stride(1) == 1 or block.stride(0) != 1 else block.mT
        exact = workspace.take("device.piece", *lying.shape).copy_(lying).mul_(matrix.factor)
        yield start, exact if lying is block else exact.mT


def proof(
    gram: Float[Tensor, "size size"],
    bound: Float[Tensor, ""],
    *,
    squares: Float[Tensor, ""],
    rows: int,
    workspace: Workspace,
) -> Float[Tensor, ""]:
    """As `gram.proves_upper_bound`: 0 where λ₁(WᵀW) ≤ bound is proved, else 1.

    One matrix at a time: factorising many at once is made for small ones.
    """
    size = len(gram)
    shifted = torch.neg(gram, out=workspace.take("device.shifted", size, size))
    shifted.diagonal().add_(bound - cholesky_margin(size, rows, bound, squares))
    factor, info = torch.linalg.cholesky_ex(shifted)
    # On CUDA a NaN passes without a word (pytorch issue 64818), and a NaN is not above zero.
    unproved: Tensor = (info != 0) | ~(factor.diagonal() > 0).all()
    return unproved.to(torch.float64)


@lru_cache(maxsize=8)
def _probes_on(size: int, device: torch.device) -> Float[Tensor, "few size"]:
    return gaussian_probes(size).to(device)
