r"""What one pass over a matrix' rows gives, of a matrix that is never in memory as a whole.

V is W, or Wᵀ, whichever way its Gram matrix VᵀV is the one to have. Blocks of V's rows come once, in any
order and of any height. From them: the largest element, the sums of the moments, VᵀV in float64, and VᵀVω for
the probes ω, which do not depend on the matrix and so need no second pass (see `probes`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from weightscope.spectra.gram import add_lower, mirror
from weightscope.spectra.moments import (
    Sums,
    largest_element,
    scale_exponent,
    stacked,
    sums_and_product,
    times_power,
)
from weightscope.spectra.probes import PROBES, gaussian_probes, norm_bound
from weightscope.spectra.workspace import Workspace

# Rows cast to float64 at a time: with fewer, the Gram matrix is read and written more than it is worked on;
# of narrow matrices more, so that BLAS runs at its best.
_ROWS, _ELEMENTS = 1024, 2**20
# A block whose largest element lies within this power of two of the scale has squares that stay in range.
# No block of values that float32 holds is ever beyond it.
_SAFE_EXPONENT = 300
# What is left with elements beyond this one is scaled before it is solved, as `solver` does.
_SCALED_EXPONENT = 30
# Sums of this many pieces are kept before they are put together: each has a number for every column.
_FEW = 64


def piece_rows(size: int) -> int:
    """How many rows of `size` elements are cast to float64 at a time."""
    return max(_ROWS, _ELEMENTS // size)


class Accumulator:
    """Sums over the rows of V.

    Attributes:
        peak: Largest absolute element; NaN or infinite as soon as one is, and then nothing else is good.
        exponent: All sums are those of V divided by 2^exponent.
        rows: Of V so far.
        gram: VᵀV, float64; its lower triangle until `finish`.
    """

    def __init__(self, size: int, workspace: Workspace, *, name: str) -> None:
        self.peak, self.exponent, self.rows = 0.0, 0, 0
        self.gram = workspace.take(name, size, size).zero_()
        self._found: list[Sums] = []
        self._workspace = workspace
        self._probes = gaussian_probes(size).to(workspace.device)
        self._image = torch.zeros(PROBES, size, dtype=torch.float64, device=workspace.device)

    @property
    def is_finite(self) -> bool:
        """Whether every element so far is."""
        return math.isfinite(self.peak)

    @property
    def sums(self) -> Sums:
        """Those of V, of which there was at least one row."""
        self._found = [stacked(self._found)]
        return self._found[0]

    def add(self, blocks: Sequence[Shaped[Tensor, "rows _"]]) -> None:
        """Rows of V, once each.

        Args:
            blocks: Side by side they are the rows; any floating type, any layout.
        """
        height, step = len(blocks[0]), piece_rows(len(self.gram))
        for start in range(0, height, step):
            if not self.is_finite:
                return
            piece = self._exact(blocks, start, min(start + step, height))
            if not self._fits(piece):
                return
            self._found.append(sums_and_product(piece, workspace=self._workspace)[0])
            add_lower(piece, self.gram)
            self._image.addmm_(self._probes @ piece.mT, piece)
            self.rows += len(piece)
        if len(self._found) >= _FEW:
            self._found = [self.sums]

    def merge(self, other: Accumulator) -> None:
        """Add what was found of more rows; the other one is of no use afterwards."""
        exponent = max((one.exponent for one in (self, other) if one.peak > 0), default=0)
        self.peak = max(self.peak, other.peak, key=lambda peak: (math.isnan(peak), peak))
        if not self.is_finite:
            return
        for one in (self, other):
            one.rescale(exponent)
        self.rows += other.rows
        self.gram += other.gram
        self._image += other._image
        self._found += other._found

    def finish(self) -> None:
        """Make the Gram matrix symmetric, and bring elements far from one near to it."""
        exponent = scale_exponent(math.ldexp(self.peak, -self.exponent))
        if abs(exponent) > _SCALED_EXPONENT:
            self.rescale(self.exponent + exponent)
        mirror(self.gram)

    def gram_error(self) -> float:
        """An upper bound on ‖Ĝ − VᵀV‖₂, once finished; fails with probability below 1e-9 (see `probes`)."""
        errors = torch.addmm(self._image, self._probes, self.gram, beta=-1)
        return norm_bound(float(torch.linalg.vector_norm(errors, dim=1).max()))

    def rescale(self, exponent: int) -> None:
        """Divide by this power of two instead."""
        shift = self.exponent - exponent
        if shift:
            times_power(self.gram, 2 * shift)
            times_power(self._image, 2 * shift)
            self._found = [one.scaled(shift) for one in self._found]
        self.exponent = exponent

    def _exact(self, blocks: Sequence[Shaped[Tensor, "rows _"]], start: int, stop: int) -> Tensor:
        """These rows in float64, in the order of memory that they lie in, so that the cast runs along it."""
        shape = (stop - start, len(self.gram))
        turned = all(block.stride(1) != 1 for block in blocks)
        memory = self._workspace.take("streamed.piece", *(shape[::-1] if turned else shape))
        piece = memory.mT if turned else memory
        column = 0
        for block in blocks:
            piece[:, column : column + block.shape[1]].copy_(block[start:stop])
            column += block.shape[1]
        return piece

    def _fits(self, piece: Float[Tensor, "rows size"]) -> bool:
        """Take note of the largest element and scale piece and sums to one another; whether it is finite."""
        peak, before = largest_element(piece), self.peak
        if not math.isfinite(peak):
            self.peak = peak
            return False
        self.peak = max(peak, before)
        exponent = scale_exponent(peak)
        if exponent > self.exponent + _SAFE_EXPONENT or (before == 0 and exponent < -_SAFE_EXPONENT):
            self.rescale(exponent)
        times_power(piece, -self.exponent)
        return True
