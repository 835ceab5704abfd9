r"""What follows from norms and singular values: pure functions, float64, nothing hidden.

σ are the singular values, descending, of an m×n matrix W that is not zero.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.marchenko_pastur import noise_edge
from weightscope.spectra.power_law import fit_power_law


def stable_rank_of(frobenius_norm: float, spectral_norm: float) -> float:
    r"""Stable rank $\|W\|_F / \|W\|_2$, not squared; NaN for a zero matrix.

    Dimensionless, in [1, √min(m, n)]. Rounding that would carry a rank-one matrix below 1 is cut off.

    Source: Kuzborskij and Abbasi Yadkori 2025, section 2, footnote 1; deviation: none.
    """
    return max(1.0, frobenius_norm / spectral_norm) if spectral_norm > 0 else math.nan


def gaussian_stable_rank(rows: int, columns: int) -> float:
    r"""Stable rank that a Gaussian m×n matrix has in the limit, $\sqrt{mn}/(\sqrt m+\sqrt n)$.

    Source: E‖W‖_F² = mn and ‖W‖₂ → √m + √n (Geman 1980; Davidson and Szarek 2001).
    """
    return math.sqrt(rows * columns) / (math.sqrt(rows) + math.sqrt(columns))


def nuclear_norm_of(singular_values: Float[Tensor, " rank"]) -> float:
    """Nuclear norm Σσ."""
    return float(singular_values.sum())


def effective_rank_of(singular_values: Float[Tensor, " rank"]) -> float:
    r"""Effective rank $\exp(-\sum p \ln p)$ with $p = \sigma/\sum\sigma$, in [1, rank].

    Source: Roy and Vetterli 2007, "The effective rank", definition 1; deviation: none.
    """
    shares = singular_values / singular_values.sum()
    return float(torch.special.entr(shares).sum().exp())


def participation_ratio_of(singular_values: Float[Tensor, " rank"]) -> float:
    """(Σσ²)²/Σσ⁴, in [1, rank]."""
    squares = singular_values.square()
    return float(squares.sum().square() / squares.square().sum())


def energy_rank_of(singular_values: Float[Tensor, " rank"], share: float) -> int:
    """Smallest rank whose best approximation keeps `share` of ‖W‖_F²."""
    energy = singular_values.square().cumsum(dim=-1)
    # A share within rounding of a partial sum counts as reached.
    goal = share * energy[-1] * (1 - 1e-14)
    return int((energy < goal).sum()) + 1


def epsilon_rank_of(singular_values: Float[Tensor, " rank"], epsilon: float) -> int:
    """Number of σ with σ/σ₁ > ε.

    Source: Galanti et al., "SGD and weight decay provably induce a low-rank bias in neural networks":
    the rank of W/‖W‖₂ above ε.
    """
    return int((singular_values > epsilon * singular_values[0]).sum())


def spectrum_measures(
    singular_values: Float[Tensor, " rank"],
    *,
    shape: tuple[int, int],
    epsilon: Sequence[float],
    errors: Float[Tensor, " rank"],
) -> dict[str, float]:
    """Every column of the table that needs the whole spectrum.

    Args:
        singular_values: Shape (min(shape),), descending, float64, the first one positive.
        shape: (m, n).
        epsilon: Thresholds of the ε-ranks.
        errors: Bound on the absolute error of each value. The smallest value and the condition number are NaN
            where its own exceeds a tenth of it.
    """
    largest, smallest = float(singular_values[0]), float(singular_values[-1])
    known = singular_values > 10 * errors
    # A value that its error swallows is no sample of the tail.
    tail = fit_power_law(singular_values[known].square())
    noise = noise_edge(singular_values, *shape)
    return {
        "nuclear_norm": nuclear_norm_of(singular_values),
        "effective_rank": effective_rank_of(singular_values),
        "participation_ratio": participation_ratio_of(singular_values),
        "energy_rank_0.9": energy_rank_of(singular_values, 0.9),
        "energy_rank_0.99": energy_rank_of(singular_values, 0.99),
        **{f"epsilon_rank_{eps:g}": epsilon_rank_of(singular_values, eps) for eps in epsilon},
        "smallest_singular_value": smallest if known[-1] else math.nan,
        "condition_number": largest / smallest if known[-1] else math.nan,
        "spectrum_error": float(errors.max()) / largest,
        "alpha": tail.alpha,
        "alpha_xmin": tail.xmin,
        "alpha_ks_distance": tail.ks_distance,
        "mp_edge": noise.edge,
        "mp_spikes": noise.spikes,
    }
