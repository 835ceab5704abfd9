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
# Elements of the distance table computed at once: 1 MB of float32, half of a level-2 cache.
_BLOCK_ELEMENTS = 2**18
_FLOAT32_EPS = torch.finfo(torch.float32).eps


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
    if not usable.any():
        return undefined
    rough, error = _rough_distances(logs, below, alphas, sizes)
    # NaN, where a value is no candidate, is never close.
    close = rough - error <= (rough + error).nan_to_num(torch.inf).min()
    best, distance = 0, math.inf
    for candidate in torch.nonzero(close).flatten().tolist():
        exact = _distance(logs, below, candidate, float(alphas[candidate]))
        if exact < distance:
            best, distance = candidate, exact
    return PowerLaw(alpha=float(alphas[best]), xmin=float(ascending[best]), ks_distance=distance)


def _distance(logs: Float[Tensor, " count"], below: Tensor, candidate: int, alpha: float) -> float:
    """Kolmogorov–Smirnov distance of the tail from one candidate on."""
    tail = logs[candidate:]
    fitted = torch.expm1((tail - tail[0]) * (1 - alpha)).neg_()
    shares = (below[candidate:] - candidate).double() / len(tail)
    return float(fitted.sub_(shares).abs_().max())


def _rough_distances(
    logs: Float[Tensor, " count"],
    below: Tensor,
    alphas: Float[Tensor, " candidates"],
    sizes: Float[Tensor, " candidates"],
) -> tuple[Float[Tensor, " candidates"], Float[Tensor, " candidates"]]:
    """The distance of every candidate in float32, and how far off it may be. NaN where alpha is.

    A logarithm is off by its rounding, which the exponent α − 1 multiplies; an exponential and a quotient by
    a few units of their own.
    """
    count, candidates = len(logs), len(alphas)
    spread = float(logs[-1] - logs[0])
    error = _FLOAT32_EPS * (8 + 2 * (alphas - 1).abs() * spread)
    narrow, ranks = (logs - logs[-1]).float(), below.float()
    exponents, shares = (1 - alphas).float(), (1 / sizes).float()
    firsts = torch.arange(candidates, device=logs.device, dtype=torch.float32)
    distances = torch.empty(candidates, dtype=torch.float32, device=logs.device)
    step = max(1, _BLOCK_ELEMENTS // count)
    for start in range(0, candidates, step):
        block = slice(start, min(start + step, candidates))
        table = narrow[None, start:] - narrow[block, None]
        table.mul_(exponents[block, None]).expm1_()  # minus the fitted distribution
        table.addcmul_(ranks[None, start:] - firsts[block, None], shares[block, None]).abs_()
        width = block.stop - start
        table[:, :width].triu_()  # values before the candidate are not in its tail
        torch.amax(table, dim=1, out=distances[block])
    return distances.double(), error
