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
_UNIT_ROUNDOFF = torch.finfo(torch.float64).eps / 2


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
    run: Lanczos, root: float, pieces: Sequence[Float[Tensor, "_ size"]], workspace: Workspace
) -> float:
    r"""A bound on ‖E‖, where the run is an exact one for WᵀW + E; evaluated in float64.

    Let V be the k + 1 computed vectors, V_k all but the last, $\underline T$ the (k+1)×k coefficients,
    $R = W^TWV_k - V\underline T$ and η = ‖VᵀV − I‖. V's orthonormal polar factor Q has
    ‖Q − V‖ ≤ η(1+η)/2. Of the symmetric E with $(W^TW + E)Q_k = Q\underline T$ one is no longer than
    $Q\underline T - W^TWQ_k$ (Davis, Kahan and Weinberger 1982), hence than
    ‖R‖ + η(1+η)/2 · (‖T‖ + ‖WᵀW‖), and both of these norms are at most root + ‖E‖.

    Args:
        run: A finished run on WᵀW in any precision.
        root: The upper bound it gives, rounding apart.
        pieces: W in row blocks, any floating dtype.
        workspace: For the products.
    """
    steps, known = run.steps, run.vectors
    vectors = workspace.take("audit.vectors", *known.shape).copy_(known)
    basis, size = vectors[:steps], vectors.shape[1]
    product = workspace.take("audit.residual", steps, size).zero_()
    for piece in pieces:
        exact = piece if piece.dtype == torch.float64 else workspace.copied("audit.piece", piece)
        image = workspace.take("audit.image", steps, len(piece))
        product.addmm_(torch.mm(basis, exact.mT, out=image), exact)
    return rounding_from(run, root, vectors, product, terms=size + sum(len(piece) for piece in pieces))


def rounding_from(
    run: Coefficients,
    root: float,
    vectors: Float[Tensor, "known size"],
    product: Float[Tensor, "steps size"],
    *,
    terms: int,
) -> float:
    """As `rounding_of`, from the run's vectors and WᵀW applied to all but the next one.

    Args:
        run: A finished run.
        root: The upper bound it gives, rounding apart.
        vectors: Its vectors and, unless it has ended, the one the next step would start from; float64.
        product: WᵀW on those of the steps, float64; overwritten.
        terms: Length of the sums in it.
    """
    basis, residual = vectors[: len(product)], product
    alphas = torch.tensor(run.alphas, dtype=torch.float64, device=basis.device)[:, None]
    betas = torch.tensor(run.betas, dtype=torch.float64, device=basis.device)[:, None]
    residual.addcmul_(alphas, basis, value=-1)
    residual[1:].addcmul_(betas[:-1], basis[:-1], value=-1)
    following = vectors[1:]  # one fewer where the run has no next vector: its residual is then left whole
    residual[: len(following)].addcmul_(betas[: len(following)], following, value=-1)
    overlaps = vectors @ vectors.mT
    overlaps.diagonal().sub_(1)
    skew = _norm(overlaps)
    skew *= 1 + skew
    if skew > 0.1:
        return math.inf
    # Rounding of this evaluation itself: at most λ√n·u with probability 1 − 2n·exp(−λ²/2) (Higham and Mary
    # 2019), here with λ = 8.
    own = 8 * math.sqrt(terms) * _UNIT_ROUNDOFF * root
    return (_norm(residual) + skew * root + own) / (1 - skew)


def _norm(wide: Float[Tensor, "few many"]) -> float:
    """‖M‖₂ of a matrix with few rows, up to rounding far below what it is used for."""
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(wide @ wide.mT)[-1]))) * (1 + 1e-9)
