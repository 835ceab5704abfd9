r"""Many small symmetric tridiagonal matrices at once, on the CPU: what a batch of Lanczos runs is judged by.

A GPU runs a batch of Lanczos in a few milliseconds. A LAPACK call for each member and each look would take
longer than that, so everything here is elementwise over the members and loops over the steps only.

With off-diagonals β > 0 a matrix has simple eigenvalues, and the eigenvector of the largest has no change of
sign: for x beyond it, xI − T is an M-matrix whose factors LDLᵀ and whose solves never cancel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Laguerre's method converges cubically to a simple eigenvalue and slowly to a cluster; where it is cut off,
# inverse iteration takes over from a point beyond the eigenvalue.
_LAGUERRE_STEPS, _INVERSE_STEPS = 60, 3
_BISECTIONS = 40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tridiagonals:
    """Tridiagonal matrices of Lanczos runs, one a column."""

    alphas: Array
    """Diagonals, shape (steps, members)."""
    betas: Array
    """Below them, not negative; the last row belongs to the next step."""
    lengths: NDArray[np.int64]
    """Steps until a run ended by itself (β = 0), or all of them, shape (members,)."""

    @classmethod
    def of(cls, alphas: Array, betas: Array) -> Tridiagonals:
        """From coefficients of shape (members, steps), those after a β = 0 cut off.

        They are replaced by what changes no largest eigenvalue: the first diagonal element, decoupled.
        """
        alphas, betas = np.array(alphas.T, order="C"), np.array(betas.T, order="C")
        steps = len(alphas)
        ended = betas == 0
        lengths = np.where(ended.any(axis=0), ended.argmax(axis=0) + 1, steps)
        after = np.arange(steps)[:, None] >= lengths
        alphas[after] = np.broadcast_to(alphas[0], alphas.shape)[after]
        betas[after] = 0
        return cls(alphas=alphas, betas=betas, lengths=lengths)

    def largest(self) -> tuple[Array, Array]:
        """Largest eigenvalues, shape (members,), and their unit vectors, shape (steps, members).

        The values are Rayleigh quotients of the vectors: never above the eigenvalue but for rounding.
        """
        beyond = self._beyond()
        pivots = self._positive_pivots(beyond)
        vectors = (np.arange(len(self.alphas))[:, None] < self.lengths).astype(np.float64)
        ratios = self.betas / pivots
        for _ in range(_INVERSE_STEPS):
            for j in range(1, len(vectors)):
                vectors[j] += ratios[j - 1] * vectors[j - 1]
            vectors /= pivots
            for j in reversed(range(len(vectors) - 1)):
                vectors[j] += ratios[j] * vectors[j + 1]
            vectors /= np.sqrt((vectors * vectors).sum(axis=0))
        coupled = 2 * (self.betas[:-1] * vectors[1:] * vectors[:-1]).sum(axis=0)
        theta: Array = (self.alphas * vectors * vectors).sum(axis=0) + coupled
        return theta, vectors

    def residuals(self, vectors: Array) -> Array:
        """β_k times the last weight: the length of GVs − θVs, shape (members,)."""
        found: Array = self.betas[-1] * np.abs(vectors[-1])
        return found

    def is_upper_bound(self, x: Array, limit: float) -> NDArray[np.bool_]:
        """`bounds.is_upper_bound` for each member at its own x."""
        previous, current = np.zeros_like(x), np.ones_like(x)
        total, before = np.ones_like(x), np.zeros_like(x)
        exceeded = np.zeros(x.shape, dtype=bool)
        with np.errstate(all="ignore"):
            for alpha, beta in zip(self.alphas, self.betas, strict=True):
                following = ((x - alpha) * current - before * previous) / beta
                previous, current, before = current, following, beta
                total += current * current
                exceeded |= (beta == 0) | (total > limit)
                # What is decided must not overflow into what is not; a NaN would undo a comparison.
                current[exceeded] = previous[exceeded] = 0
                if exceeded.all():
                    break
        return exceeded

    def upper_bounds(self, low: Array, high: Array, limit: float) -> Array:
        """`bounds.upper_bound` for each member: the root between low and high, from above."""
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            exceeded = self.is_upper_bound(middle, limit)
            low, high = np.where(exceeded, low, middle), np.where(exceeded, middle, high)
        return high

    def select(self, members: NDArray[np.int64]) -> Tridiagonals:
        """Some of them."""
        return Tridiagonals(
            alphas=self.alphas[:, members], betas=self.betas[:, members], lengths=self.lengths[members]
        )

    def _beyond(self) -> Array:
        """Points just beyond the largest eigenvalues, by Laguerre's method from Gershgorin's bound.

        From beyond the largest root of a polynomial with real roots only it comes down without overshooting.
        """
        steps, squares = len(self.alphas), self.betas * self.betas
        reach = self.betas.copy()
        reach[-1] = 0
        reach[1:] += self.betas[:-1]
        x: Array = (self.alphas + reach).max(axis=0)
        x = x + 1e-14 * np.abs(x) + np.finfo(np.float64).tiny
        moving = np.ones(x.shape, dtype=bool)
        with np.errstate(all="ignore"):
            for _ in range(_LAGUERRE_STEPS):
                step = self._laguerre_step(x, squares, steps)
                moving &= step > 1e-15 * np.abs(x)  # false for NaN: a pivot was not positive
                x = np.where(moving, x - step, x)
                if not moving.any():
                    break
        return x

    def _laguerre_step(self, x: Array, squares: Array, steps: int) -> Array:
        """How far to come down; NaN where x is not beyond the largest eigenvalue."""
        pivot, first, second = x - self.alphas[0], np.ones_like(x), np.zeros_like(x)
        lowest = pivot
        slope = first / pivot
        total, curvature = slope, slope * slope  # Σ 1/(x−λ) and Σ 1/(x−λ)²
        for j in range(1, steps):
            ratio = squares[j - 1] / pivot
            second = ratio * (second / pivot - 2 * slope * slope)
            first = 1 + ratio * slope
            pivot = x - self.alphas[j] - ratio
            slope = first / pivot
            total = total + slope
            curvature = curvature + slope * slope - second / pivot
            lowest = np.minimum(lowest, pivot)
        spread = np.maximum((steps - 1) * (steps * curvature - total * total), 0)
        found: Array = np.where(lowest > 0, steps / (total + np.sqrt(spread)), np.nan)
        return found

    def _positive_pivots(self, beyond: Array) -> Array:
        """The pivots of xI − T for the smallest x near `beyond` where rounding leaves all positive."""
        pivots = np.empty_like(self.alphas)
        share = np.full(beyond.shape, 1e-15)
        while True:
            x = beyond + share * np.abs(beyond) + np.finfo(np.float64).tiny
            with np.errstate(all="ignore"):
                pivots[0] = x - self.alphas[0]
                for j in range(1, len(pivots)):
                    pivots[j] = x - self.alphas[j] - self.betas[j - 1] ** 2 / pivots[j - 1]
            bad = ~(pivots > 0).all(axis=0)
            if not bad.any() or share.max() > 1:
                return pivots
            share[bad] *= 4
