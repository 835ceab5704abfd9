"""From what was computed of a matrix to its row of numbers: the same for every solver."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from weightscope.spectra.extremal import Bound, Top
from weightscope.spectra.measures import gaussian_stable_rank, spectrum_measures, stable_rank_of
from weightscope.spectra.moments import Moments
from weightscope.spectra.numbers import MatrixNumbers, SpectralOptions
from weightscope.spectra.spectrum import Spectrum

NON_FINITE = MatrixNumbers(status="non_finite", method="", bound="", values={})
"""Of a matrix with a NaN or an infinite element."""


def norms(
    shape: tuple[int, int], *, peak: float, moments: Moments, top: Top | None, unscale: float
) -> MatrixNumbers:
    """Everything that needs no whole spectrum.

    Args:
        shape: Of the matrix.
        peak: Its largest absolute element, as stored.
        moments: Of the matrix divided by `unscale`.
        top: Its largest singular value, likewise; None for a zero matrix.
        unscale: A power of two.
    """
    values = {
        "stable_rank_gaussian": gaussian_stable_rank(*shape),
        "stable_rank_max": math.sqrt(min(shape)),
        "max_abs": peak,
        "spectral_norm": top.value * unscale if top else 0.0,
        "spectral_norm_upper": top.upper * unscale if top else 0.0,
        "frobenius_norm": moments.frobenius_norm * unscale,
        "mean": moments.mean * unscale,
        "std": moments.std * unscale,
        "row_norm_ratio": moments.row_norm_ratio,
        "column_norm_ratio": moments.column_norm_ratio,
    }
    if top is None:
        return MatrixNumbers(status="zero", method="", bound="", values=values)
    values |= _stable_ranks(values)
    return MatrixNumbers(status="ok", method=top.method, bound=str(top.bound or ""), values=values)


def with_no_spectrum(numbers: MatrixNumbers, shape: tuple[int, int]) -> MatrixNumbers:
    """The singular values of a zero matrix."""
    return replace(numbers, singular_values=torch.zeros(min(shape), dtype=torch.float64))


def with_spectrum(
    numbers: MatrixNumbers,
    found: Spectrum,
    *,
    shape: tuple[int, int],
    unscale: float,
    options: SpectralOptions,
    by_gram: bool,
) -> MatrixNumbers:
    """With what follows from all singular values.

    Args:
        numbers: From `norms`.
        found: The singular values of the matrix divided by `unscale`.
        shape: Of the matrix.
        unscale: A power of two.
        options: What was asked for.
        by_gram: Whether they come from a Gram matrix, whose largest eigenvalue bounds the spectral norm.
    """
    values = spectrum_measures(found.values, shape=shape, epsilon=options.epsilon, errors=found.errors)
    for name in ("nuclear_norm", "smallest_singular_value", "mp_edge"):
        values[name] *= unscale
    values["alpha_xmin"] *= unscale * unscale  # of eigenvalues: squares
    known = _bounded(numbers, found, unscale, options) if by_gram else numbers
    return replace(
        known,
        method=f"{known.method}+{found.method}",
        values=known.values | values,
        singular_values=found.values * unscale,
    )


def _stable_ranks(values: dict[str, float]) -> dict[str, float]:
    found = stable_rank_of(values["frobenius_norm"], values["spectral_norm"])
    return {"stable_rank": found, "stable_rank_squared": found**2}


def _bounded(
    numbers: MatrixNumbers, found: Spectrum, unscale: float, options: SpectralOptions
) -> MatrixNumbers:
    """With the largest eigenvalue of the Gram matrix as the upper bound, unless there is a proved one.

    It fails where the bound on the error of the Gram matrix does: with probability below 1e-9.
    """
    if numbers.bound == Bound.PROVED:
        return numbers
    value = numbers.values["spectral_norm"]
    largest, error = float(found.values[0]) * unscale, float(found.errors[0]) * unscale
    method = numbers.method
    if largest + error > value * (1 + options.rtol):
        # The search stopped at a value that is not the largest. This one is a lower bound as well.
        value, method = max(value, largest - error), "gram_eigvalsh"
    values = numbers.values | {
        "spectral_norm": value,
        "spectral_norm_upper": max(value, largest + error),
    }
    bound = Bound.AUDITED if options.bound is Bound.AUDITED else Bound.PROBABLE
    return replace(numbers, method=method, bound=str(bound), values=values | _stable_ranks(values))
