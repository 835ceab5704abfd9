r"""The Marchenko–Pastur law: what the spectrum of pure noise would be.

The singular values of an m×n matrix of independent entries of variance s² fill, for large sizes, the
interval up to s(√m + √n). The noise level is read off the median, which a few spikes do not move:
$\hat s = \mathrm{median}(\sigma)/\sqrt{N\mu_\beta}$ with N the longer side, β ≤ 1 the aspect ratio and μ_β
the median of the Marchenko–Pastur distribution.

Source: Gavish and Donoho 2014, "The optimal hard threshold for singular values is 4/√3", section III.E.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from torch import Tensor

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(80)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseEdge:
    """Where noise would end, and what lies beyond."""

    edge: float
    """σ̂(√m + √n)."""
    spikes: int
    """Number of singular values above it."""


def noise_edge(singular_values: Float[Tensor, " rank"], rows: int, columns: int) -> NoiseEdge:
    """The edge of the noise in a spectrum, and the number of values above it.

    Args:
        singular_values: Shape (min(rows, columns),), descending.
        rows: m.
        columns: n.
    """
    short, long = min(rows, columns), max(rows, columns)
    middle = short // 2
    upper = float(singular_values[middle])
    median = upper if short % 2 else (upper + float(singular_values[middle - 1])) / 2
    level = median / math.sqrt(long * median_eigenvalue(short / long))
    edge = level * (math.sqrt(rows) + math.sqrt(columns))
    return NoiseEdge(edge=edge, spikes=int((singular_values > edge).sum()))


@lru_cache(maxsize=256)
def median_eigenvalue(aspect_ratio: float) -> float:
    """μ_β: the median of the Marchenko–Pastur distribution with unit variance.

    Args:
        aspect_ratio: β in (0, 1].
    """
    root = math.sqrt(aspect_ratio)

    def share_below(angle: float) -> float:
        # With t = 1 + β − 2√β cos φ the density's square roots at both ends turn into sin²φ: smooth.
        phi = (_NODES + 1) * angle / 2
        t = 1 + aspect_ratio - 2 * root * np.cos(phi)
        return float((_WEIGHTS * 2 * np.sin(phi) ** 2 / (math.pi * t)).sum()) * angle / 2

    low, high = 0.0, math.pi
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if share_below(middle) < 0.5 else (low, middle)
    return 1 + aspect_ratio - 2 * root * math.cos((low + high) / 2)
