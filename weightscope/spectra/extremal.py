r"""The largest singular value without an SVD, with an interval around it.

Lanczos on WᵀW from a random start, on the short side, fully reorthogonalised, in float64. The value
is evaluated as ‖Wv‖/‖v‖, so it is a lower bound. The upper bound needs no gap between singular values:
with v₁ uniform on the sphere, e₁ the sought eigenvector, λ₁ its eigenvalue and p_j the orthonormal
polynomials of the Lanczos coefficients, v_{j+1} = p_j(WᵀW) v₁ gives

$$\sum_{j \le k} p_j(\lambda_1)^2 \, w = \sum_{j \le k} (e_1^T v_{j+1})^2 \le 1, \qquad w = (e_1^T v_1)^2,$$

and $P[w < t] \le \sqrt{2nt/\pi}$. So with $t = \pi\delta^2/(2n)$ the root of $\sum_j p_j^2 = 1/t$ beyond the
largest Ritz value bounds λ₁ from above with probability at least 1 − δ, for all k at once: looking at
it after every step costs nothing. A residual alone proves nothing of the kind.

Sources: van Dorsselaer, Hochstenbach and van der Vorst 2000; Hochstenbach 2013 (probabilistic upper
bounds for the matrix two-norm).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.gram import top_right_vector

# The probability, over the random start, that a matrix' interval does not hold its norm.
FAILURE_PROBABILITY = 1e-9
# Up to this short side a full eigendecomposition costs no more than the fourteen steps that trained
# spectra need, and a third of the forty that Gaussian ones need.
_DIRECT_SIDE = 128
# Trained spectra need 14 to 24 steps at 1e-6, Gaussian ones 110 to 180. Beyond 300 (clustered tops)
# the Gram matrix and its eigendecomposition are the cheaper way and leave nothing to chance.
_MAX_STEPS = 300
# A residual this small has lost too many digits to be orthogonal to the basis after normalisation.
_NOISE = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Extremal:
    """A largest singular value and what is known of it."""

    value: float
    """‖Wv‖/‖v‖: a lower bound up to rounding."""
    upper: float
    """Upper bound; fails with probability at most `FAILURE_PROBABILITY`."""
    steps: int
    """Lanczos steps taken."""
    method: str
    """`lanczos` or `gram_eigh`."""


def largest_singular_value(
    matrix: Float[Tensor, "rows columns"],
    *,
    rtol: float = 1e-6,
    seed: int = 0,
    method: Literal["auto", "lanczos", "gram_eigh"] = "auto",
) -> Extremal:
    """σ₁ of one float64 matrix.

    Args:
        matrix: Finite, not zero, scaled so that squares stay in range.
        rtol: Width of the interval, relative to the value, at which to stop.
        seed: Of the random start, which depends on the short side alone.
        method: `lanczos` tries it whatever the size, `gram_eigh` never; `auto` tries it where the short
            side is longer than 128. Where it does not reach rtol in 300 steps, `gram_eigh` takes over.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    if method == "lanczos" or (method == "auto" and tall.shape[1] > _DIRECT_SIDE):
        found = _lanczos(tall, rtol, seed)
        if found is not None:
            return found
    value = _norm_ratio(tall, top_right_vector(tall))
    # eigh's error in the largest eigenvalue is a modest multiple of n·eps, half of that in its root.
    slack = max(tall.shape) * torch.finfo(torch.float64).eps
    return Extremal(value=value, upper=value * (1 + slack), steps=0, method="gram_eigh")


def _lanczos(tall: Float[Tensor, "rows columns"], rtol: float, seed: int) -> Extremal | None:
    """The interval by Lanczos; None where it is still wider than rtol after the last step."""
    n = tall.shape[1]
    max_steps = min(n, _MAX_STEPS)
    basis = torch.empty(max_steps + 1, n, dtype=tall.dtype, device=tall.device)
    start = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    basis[0] = (start / start.norm()).to(tall.device)
    alphas: list[float] = []
    betas: list[float] = []
    threshold = 1 / (math.pi * FAILURE_PROBABILITY**2 / (2 * n))
    next_look = 4
    for step in range(1, max_steps + 1):
        known = basis[:step]
        residual = torch.mv(tall.mT, torch.mv(tall, basis[step - 1]))
        alpha = 0.0
        for _ in range(2):  # "twice is enough" (Kahan; Giraud and Langou 2002)
            overlaps = torch.mv(known, residual)
            residual.addmv_(known.mT, overlaps, alpha=-1)
            alpha += float(overlaps[-1])
        beta = float(residual.norm())
        alphas.append(alpha)
        betas.append(beta)
        if step in (next_look, max_steps) or beta == 0:
            theta, weights = _top_ritz_pair(alphas, betas[:-1])
            if _exceeds((1 + rtol) ** 2 * theta, alphas, betas, threshold):
                vector = torch.mv(known.mT, weights.to(tall.device))
                value = _norm_ratio(tall, vector)
                upper = math.sqrt(_upper_bound(theta, rtol, alphas, betas, threshold))
                return Extremal(value=value, upper=max(upper, value), steps=step, method="lanczos")
            next_look += max(2, step // 16)
        if beta > 0 and step < max_steps:
            torch.div(residual, beta, out=basis[step])
            if beta < _NOISE * alpha:
                _orthonormalise(basis[step], known)
    return None


def _orthonormalise(vector: Float[Tensor, " columns"], known: Float[Tensor, "steps columns"]) -> None:
    """Make a unit vector orthogonal to the rows of `known`, in place.

    What is left of rounding may lie along a row itself, and keep doing so however often the row is taken
    away. Then any other direction serves: the Krylov space has ended.
    """
    generator = torch.Generator().manual_seed(len(known))
    while True:
        vector.addmv_(known.mT, torch.mv(known, vector), alpha=-1)
        norm = float(vector.norm())
        if norm > 0.7:  # what was taken away was no larger than what is left: the digits are good
            vector /= norm
            return
        if norm < 1e-4:
            vector.copy_(torch.randn(len(vector), generator=generator, dtype=torch.float64))
            norm = float(vector.norm())
        vector /= norm


def _norm_ratio(tall: Float[Tensor, "rows columns"], vector: Float[Tensor, " columns"]) -> float:
    return float(torch.mv(tall, vector).norm()) / float(vector.norm())


def _top_ritz_pair(alphas: list[float], betas: list[float]) -> tuple[float, Float[Tensor, " steps"]]:
    """Largest eigenvalue of the tridiagonal matrix, and its eigenvector."""
    # torch and not numpy: two BLAS libraries spin their threads against each other.
    off_diagonal = torch.tensor(betas, dtype=torch.float64)
    tridiagonal = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    tridiagonal += torch.diag(off_diagonal, -1)  # eigh reads the lower triangle only
    values, vectors = torch.linalg.eigh(tridiagonal)
    return float(values[-1]), vectors[:, -1]


def _exceeds(x: float, alphas: list[float], betas: list[float], threshold: float) -> bool:
    """Whether Σ_j p_j(x)² > threshold, so that x, beyond the largest Ritz value, bounds λ₁."""
    previous, current, total, beta_before = 0.0, 1.0, 1.0, 0.0
    for alpha, beta in zip(alphas, betas, strict=True):
        if beta == 0:  # the Krylov space is invariant: every p_j beyond is infinite off its spectrum
            return x > alpha or total > threshold
        previous, current = current, ((x - alpha) * current - beta_before * previous) / beta
        total += current * current
        if total > threshold:
            return True
        beta_before = beta
    return False


def _upper_bound(
    theta: float, rtol: float, alphas: list[float], betas: list[float], threshold: float
) -> float:
    """The root of Σ_j p_j(x)² = threshold beyond theta, from above, by bisection."""
    low, high = theta, (1 + rtol) ** 2 * theta
    for _ in range(40):
        middle = (low + high) / 2
        if _exceeds(middle, alphas, betas, threshold):
            high = middle
        else:
            low = middle
    return high
