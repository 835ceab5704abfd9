"""All numbers of a matrix that was read in blocks, from what one pass over them gave."""

from __future__ import annotations

import math

import torch

from weightscope.spectra.accumulate import Accumulator
from weightscope.spectra.extremal import Top
from weightscope.spectra.gram_top import (
    KnownGram,
    eigenvalue_error,
    top_of_eigenvalue,
    top_of_gram,
)
from weightscope.spectra.numbers import MatrixNumbers, SpectralOptions
from weightscope.spectra.outcome import NON_FINITE, norms, with_no_spectrum, with_spectrum
from weightscope.spectra.precision import float32_products
from weightscope.spectra.spectrum import Spectrum, from_eigenvalues
from weightscope.spectra.workspace import Workspace


def numbers_of(
    found: Accumulator,
    shape: tuple[int, int],
    *,
    transposed: bool,
    options: SpectralOptions,
    workspace: Workspace,
) -> MatrixNumbers:
    """The numbers of a matrix W.

    Args:
        found: From one pass over all rows of V; it may be merged with others' afterwards.
        shape: Of W.
        transposed: Whether V is Wᵀ and not W.
        options: What to compute. Its `spectrum_method` is passed over: there is one method here.
        workspace: For what a search needs beside the Gram matrix.
    """
    if not found.is_finite:
        return NON_FINITE
    found.finish()
    sums = found.sums.transposed() if transposed else found.sums
    unscale = math.ldexp(1.0, found.exponent)
    top = spectrum = None
    if found.peak > 0:
        gram = KnownGram(matrix=found.gram, error=found.gram_error(), squares=sums.squares, rows=found.rows)
        with float32_products("exact"):
            top, spectrum = _solve(gram, min(shape), options, workspace)
    numbers = norms(shape, peak=found.peak, moments=sums.moments(), top=top, unscale=unscale)
    if top is None:
        return with_no_spectrum(numbers, shape) if options.with_spectrum else numbers
    if spectrum is None:
        return numbers
    # `by_gram` would put the eigenvalue's interval in place of the search's: here it is that already.
    return with_spectrum(numbers, spectrum, shape=shape, unscale=unscale, options=options, by_gram=False)


def _solve(
    gram: KnownGram, short: int, options: SpectralOptions, workspace: Workspace
) -> tuple[Top, Spectrum | None]:
    rtol, bound = options.rtol, options.bound
    if not options.with_spectrum:
        return top_of_gram(gram, rtol=rtol, bound=bound, seed=options.seed, workspace=workspace), None
    eigenvalues = torch.linalg.eigvalsh(gram.matrix).cpu()
    largest = float(eigenvalues[-1])
    top = top_of_eigenvalue(gram, largest, rtol=rtol, bound=bound, workspace=workspace)
    # Where V has fewer rows than columns the others are zero but for rounding.
    left_out = eigenvalue_error(gram, largest, len(eigenvalues) - short)
    return top, from_eigenvalues(eigenvalues[-short:], gram_error=left_out, mixed=False)
