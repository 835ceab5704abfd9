r"""Upper bounds on the largest eigenvalue from a Lanczos run.

With v₁ uniform on the sphere, e₁ the sought eigenvector of G, λ₁ its eigenvalue and p_j the orthonormal
polynomials of the Lanczos coefficients, v_{j+1} = p_j(G) v₁ gives

$$\sum_{j \le k} p_j(\lambda_1)^2 \, w = \sum_{j \le k} (e_1^T v_{j+1})^2 \le 1, \qquad w = (e_1^T v_1)^2,$$

and $P[w < t] \le \sqrt{2nt/\pi}$. So with $t = \pi\delta^2/(2n)$ the root of $\sum_j p_j^2 = 1/t$ beyond the
largest Ritz value bounds λ₁ from above with probability at least 1 − δ, for all k at once: looking at
it after every step costs nothing, and no gap between eigenvalues is assumed.

Sources: van Dorsselaer, Hochstenbach and van der Vorst 2000; Hochstenbach 2013 (probabilistic upper
bounds for the matrix two-norm).
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.lanczos import Coefficients, Lanczos
from weightscope.spectra.workspace import Workspace

# The probability, over the random start, that a matrix' upper bound is none.
FAILURE_PROBABILITY = 1e-9


def sum_limit(size: int, failure_probability: float) -> float:
    """1/t: what Σ p_j(λ₁)² stays below, but for this probability."""
    return 2 * size / (math.pi * failure_probability**2)


def is_upper_bound(x: float, run: Coefficients, limit: float) -> bool:
    """Whether Σ p_j(x)² exceeds the limit at an x beyond the largest Ritz value, so that λ₁ < x."""
    previous, current, total, beta_before = 0.0, 1.0, 1.0, 0.0
    for alpha, beta in zip(run.alphas, run.betas, strict=True):
        if beta == 0:  # the Krylov space is invariant: off its spectrum the next polynomial is infinite
            return True
        previous, current = current, ((x - alpha) * current - beta_before * previous) / beta
        total += current * current
        if total > limit:
            return True
        beta_before = beta
    return False


def upper_bound(theta: float, widest: float, run: Coefficients, limit: float) -> float:
    """The root of Σ p_j² = limit between theta and `widest`, where it is exceeded; from above."""
    low, high = theta, widest
    for _ in range(40):
        middle = (low + high) / 2
        if is_upper_bound(middle, run, limit):
            high = middle
        else:
            low = middle
    return high


def rounding_of(
    run: Lanczos, theta: float, pieces: Sequence[Float[Tensor, "_ size"]], workspace: Workspace
) -> float:
    r"""A bound on ‖E‖, where the run is an exact one for WᵀW + E; evaluated in float64.

    With full reorthogonalisation $\|E\| \le 2(\|R\| + \|V^T V - I\| \theta)$,
    $R = W^TWV - VT - \beta v e_k^T$.

    Args:
        run: A finished run on WᵀW in any precision.
        theta: Its largest Ritz value.
        pieces: W in row blocks, any floating dtype.
        workspace: For the products.
    """
    basis = run.basis.to(torch.float64)
    product = workspace.take("audit.product", *basis.shape).zero_()
    for piece in pieces:
        exact = piece.to(torch.float64)
        product.addmm_(basis @ exact.mT, exact)
    has_next = run.betas[-1] > 0 and run.steps < run.max_steps
    return rounding_from(run, theta, basis, product, run.next_vector if has_next else None)


def rounding_from(
    run: Coefficients,
    theta: float,
    basis: Float[Tensor, "steps size"],
    product: Float[Tensor, "steps size"],
    next_vector: Float[Tensor, " size"] | None,
) -> float:
    """As `rounding_of`, from the run's basis and WᵀW applied to it.

    Args:
        run: A finished run.
        theta: Its largest Ritz value.
        basis: Its vectors, float64.
        product: WᵀW on each, float64; overwritten.
        next_vector: The one the next step would start from; None where it was not kept.
    """
    alphas = torch.tensor(run.alphas, dtype=torch.float64, device=basis.device)
    betas = torch.tensor(run.betas, dtype=torch.float64, device=basis.device)
    product -= alphas[:, None] * basis
    product[1:] -= betas[:-1, None] * basis[:-1]
    product[:-1] -= betas[:-1, None] * basis[1:]
    if next_vector is not None:
        product[-1] -= betas[-1] * next_vector.to(torch.float64)
        residual = _norm(product)
    else:  # the last residual was not kept as a vector: its length stands for it
        residual = _norm(product[:-1]) + float(product[-1].norm())
    overlaps = basis @ basis.mT
    overlaps.diagonal().sub_(1)
    return 2 * (residual + _norm(overlaps) * theta)


def _norm(wide: Float[Tensor, "few many"]) -> float:
    """‖M‖₂ of a matrix with few rows, up to rounding far below what it is used for."""
    if len(wide) == 0:
        return 0.0
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(wide @ wide.mT)[-1]))) * (1 + 1e-9)
