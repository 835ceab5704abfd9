r"""Power law of the largest eigenvalues of WᵀW: continuous maximum likelihood, x_min by Kolmogorov–Smirnov.

For a tail x ≥ x_min of n values, $\alpha = 1 + n / \sum \ln(x/x_{min})$ and the fitted distribution is
$F(x) = 1 - (x/x_{min})^{1-\alpha}$. Every value with at least `MIN_TAIL` values from it on, or as many as
asked for, is tried as x_min; the one with the smallest distance between F and the empirical distribution
wins.

Source: Clauset, Shalizi and Newman 2009, equations (3.1) and (3.9); the empirical distribution at a value
counts the values below it, as the `powerlaw` package (1.5) does.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Below ten values a fit is an anecdote.
MIN_TAIL = 10
# Elements of the distance table computed at once: 8 MB of float64, inside a large cache.
_BLOCK_ELEMENTS = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """A fitted power law; NaN where there are too few values."""

    alpha: float
    """Exponent of the density, above 1."""
    xmin: float
    """Smallest value of the tail."""
    ks_distance: float
    """Largest distance between the fitted and the empirical distribution of the tail."""


def fit_power_law(
    values: Float[Tensor, " count"], *, min_tail: int = MIN_TAIL, correction: int = 0
) -> PowerLaw:
    """Fit the tail of some positive values.

    Args:
        values: float64, positive, any order.
        min_tail: Values that a tail has at least.
        correction: Taken off n in α. With x_min the smallest of n values, Σ ln(x/x_min) is a Gamma variable
            of shape n − 1: α − 1 is too large by the factor n/(n − 2) on average, and 2 would remove that.
    """
    ascending = values.sort().values
    count = len(ascending)
    undefined = PowerLaw(alpha=math.nan, xmin=math.nan, ks_distance=math.nan)
    if count < max(1, min_tail) or ascending[0] <= 0:
        return undefined
    logs = ascending.log()
    candidates = count - min_tail + 1
    sizes = torch.arange(count, 0, -1, dtype=torch.float64, device=values.device)[:candidates]
    suffix_sums = logs.flip(0).cumsum(0).flip(0)[:candidates]
    excess = suffix_sums - sizes * logs[:candidates]
    # A tail of equal values has no exponent; a repeated value is the same candidate as its first copy.
    below = torch.searchsorted(ascending, ascending)
    fresh = below[:candidates] == torch.arange(candidates, device=values.device)
    usable = fresh & (excess > 1e-12 * sizes)
    alphas = torch.where(usable, 1 + (sizes - correction) / excess, torch.nan)
    distances = torch.full_like(alphas, torch.inf)
    step = max(1, _BLOCK_ELEMENTS // count)
    for start in range(0, candidates, step):
        stop = min(start + step, candidates)
        table = _distances(logs[start:], below[start:], start, alphas[start:stop], sizes[start:stop])
        distances[start:stop] = torch.where(usable[start:stop], table, torch.inf)
    best = int(distances.argmin())
    if not math.isfinite(float(distances[best])):
        return undefined
    return PowerLaw(
        alpha=float(alphas[best]), xmin=float(ascending[best]), ks_distance=float(distances[best])
    )


def _distances(
    logs: Float[Tensor, " tail"],
    below: Tensor,
    start: int,
    alphas: Float[Tensor, " block"],
    sizes: Float[Tensor, " block"],
) -> Float[Tensor, " block"]:
    """Kolmogorov–Smirnov distance of each candidate of a block; the first tail value is the first one's."""
    block = len(alphas)
    rows = torch.arange(block, device=logs.device)
    gaps = logs[None, :] - logs[:block, None]
    gaps.mul_((1 - alphas)[:, None]).expm1_().neg_()  # the fitted distribution
    gaps.sub_((below[None, :] - (start + rows)[:, None]) / sizes[:, None]).abs_()
    gaps[:, :block].triu_()  # values before the candidate are not in its tail
    return gaps.amax(dim=1)
