"""All numbers of a batch of matrices: the one call the sweep makes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.extremal import largest_singular_value
from weightscope.spectra.measures import gaussian_stable_rank, spectrum_measures, stable_rank_of
from weightscope.spectra.moments import moments, scale_exponent
from weightscope.spectra.spectrum import spectrum


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralOptions:
    """What to compute of each matrix."""

    rtol: float = 1e-6
    """Width of the interval around the spectral norm, relative."""
    with_spectrum: bool = False
    """Whether to compute every singular value."""
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
    values: dict[str, float]
    """Column name to number; an undefined one is NaN or absent."""
    singular_values: Float[Tensor, " rank"] | None = None
    """Descending, float64, on the CPU; None unless asked for and defined."""


def matrix_numbers(
    batch: Float[Tensor, "batch rows columns"], options: SpectralOptions
) -> list[MatrixNumbers]:
    """The numbers of each matrix of a batch; what is wrong with one never touches another.

    Args:
        batch: float64, equal shapes; scaled in place.
        options: What to compute.
    """
    lowest, highest = batch.flatten(1).aminmax(dim=1)  # NaN propagates through both
    peaks = torch.maximum(-lowest, highest).tolist()
    exponents = [scale_exponent(peak) for peak in peaks]
    for matrix, exponent in zip(batch, exponents, strict=True):
        if exponent:
            matrix.mul_(math.ldexp(1.0, -exponent))
    usable = [i for i, peak in enumerate(peaks) if peak > 0 and math.isfinite(peak)]
    spectra = {}
    if options.with_spectrum and usable:
        whole = spectrum(batch if len(usable) == len(peaks) else batch[usable])
        spectra = dict(zip(usable, whole.values.cpu(), strict=True))
    results = []
    for i, peak in enumerate(peaks):
        if not math.isfinite(peak):
            results.append(MatrixNumbers(status="non_finite", method="", values={}))
            continue
        values = _baselines(*batch.shape[1:]) | _norms(batch[i], math.ldexp(1.0, exponents[i]), peak)
        if peak == 0:
            zeros = torch.zeros(min(batch.shape[1:]), dtype=torch.float64) if options.with_spectrum else None
            results.append(
                MatrixNumbers(
                    status="zero", method="", values={**values, "spectral_norm": 0.0}, singular_values=zeros
                )
            )
            continue
        unscale = math.ldexp(1.0, exponents[i])
        top = largest_singular_value(batch[i], rtol=options.rtol, seed=options.seed)
        values["spectral_norm"] = top.value * unscale
        values["stable_rank"] = stable_rank_of(values["frobenius_norm"], values["spectral_norm"])
        values["stable_rank_squared"] = values["stable_rank"] ** 2
        method, singular_values = top.method, None
        if options.with_spectrum:
            measured = spectrum_measures(
                spectra[i], epsilon=options.epsilon, relative_error=whole.relative_error
            )
            for name in ("nuclear_norm", "smallest_singular_value"):
                measured[name] *= unscale
            values |= measured
            method = f"{top.method}+{whole.method}"
            singular_values = spectra[i] * unscale
        results.append(
            MatrixNumbers(status="ok", method=method, values=values, singular_values=singular_values)
        )
    return results


def _baselines(rows: int, columns: int) -> dict[str, float]:
    return {
        "stable_rank_gaussian": gaussian_stable_rank(rows, columns),
        "stable_rank_max": math.sqrt(min(rows, columns)),
    }


def _norms(matrix: Float[Tensor, "rows columns"], unscale: float, peak: float) -> dict[str, float]:
    found = moments(matrix)
    return {
        "frobenius_norm": found.frobenius_norm * unscale,
        "max_abs": peak,
        "mean": found.mean * unscale,
        "std": found.std * unscale,
        "row_norm_ratio": found.row_norm_ratio,
        "column_norm_ratio": found.column_norm_ratio,
    }
