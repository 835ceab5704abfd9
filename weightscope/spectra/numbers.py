"""What is asked of a matrix, and what is found."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.extremal import Bound
from weightscope.spectra.spectrum import SpectrumMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralOptions:
    """What to compute of each matrix."""

    rtol: float = 1e-6
    """Width of the interval around the spectral norm, relative."""
    bound: Bound = Bound.PROBABLE
    """What must stand behind the upper end of the interval."""
    with_spectrum: bool = False
    """Whether to compute every singular value."""
    spectrum_method: SpectrumMethod = "auto"
    """By which method."""
    epsilon: tuple[float, ...] = (1e-3, 1e-2)
    """Thresholds of the ε-ranks."""
    seed: int = 0
    """Of the random start."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatrixNumbers:
    """The numbers of one matrix."""

    status: str
    """`ok`, `zero` or `non_finite`."""
    method: str
    """How they were found; empty where nothing had to be."""
    bound: str
    """What stands behind the upper bound; empty where there is none."""
    values: dict[str, float]
    """Column name to number; an undefined one is NaN or absent."""
    singular_values: Float[Tensor, " rank"] | None = None
    """Descending, float64, on the CPU; None unless asked for and defined."""
