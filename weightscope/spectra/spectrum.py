r"""All singular values: by an SVD, or as roots of the eigenvalues of the small-side Gram matrix.

Which one is a table, from timings on two cores (docs, benchmarks):

| short side | stored values | shape | method |
|---|---|---|---|
| up to 256 | any | any | `svdvals`, float64 |
| longer | bfloat16 holds them | longer side at least twice the shorter | `mixed_gram`, on a CPU |
| longer | else | | `gram`, float64 |

A Gram matrix has the squares of the singular values, so an error ε in it moves a value σ by about ε/(2σ):
a small one moves far. In float64 even the worst case, √ε, is about 1e-6 σ₁ (5e-7 for a short side of 2560),
less than an SVD in float32 is off by. With sums in float32 it is not, unless the smallest value is far from
zero, as it is in long matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Method = Literal["svdvals", "gram", "mixed_gram"]
SpectrumMethod = Literal["auto", "svdvals", "gram"]
"""What a user may ask for; `auto` is the table above."""
SPECTRUM_METHODS: tuple[str, ...] = get_args(SpectrumMethod)

# Up to this short side an SVD takes milliseconds and finds the smallest values too.
SVD_SIDE = 256
# Matrices of one batch: cuSOLVER's batched eigensolver refuses more than some 32 thousand.
AT_ONCE = 2**14
# From this aspect ratio on the smallest value of a matrix in use is far from zero.
_LONG = 2
_EPS, _TINY = torch.finfo(torch.float64).eps, torch.finfo(torch.float64).tiny


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectrum:
    """The singular values of one matrix."""

    values: Float[Tensor, " rank"]
    """Descending, float64, on the CPU."""
    errors: Float[Tensor, " rank"]
    """Bound on the absolute error of each."""
    method: str
    """`svdvals`, `gram_eigvalsh` or `mixed_gram_eigvalsh`."""


def choose_method(
    shape: tuple[int, int], *, bf16_valued: bool, on_cpu: bool, asked: SpectrumMethod = "auto"
) -> Method:
    """The table.

    Args:
        shape: Of the matrix.
        bf16_valued: Whether bfloat16 holds every value.
        on_cpu: Elsewhere float64 is fast enough.
        asked: `svdvals` or `gram` to have that one.
    """
    short, long = sorted(shape)
    if asked == "svdvals" or (asked == "auto" and short <= SVD_SIDE):
        return "svdvals"
    return "mixed_gram" if bf16_valued and on_cpu and asked == "auto" and long >= _LONG * short else "gram"


def by_svd(matrix: Float[Tensor, "rows columns"]) -> Spectrum:
    """By an SVD in float64.

    The error bound is LAPACK's: a backward stable SVD moves each value by at most p(m, n)·eps·σ₁ with a
    modest polynomial p, taken as the longer side (LAPACK Users' Guide, 3rd edition, section 4.9.1).

    Args:
        matrix: float64.
    """
    # LAPACK's gesdd is slower on a wide matrix than on its transpose.
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    values = torch.linalg.svdvals(tall).cpu()
    errors = torch.full_like(values, max(matrix.shape) * _EPS * float(values[0]))
    return Spectrum(values=values, errors=errors, method="svdvals")


def by_gram(gram: Float[Tensor, "short short"], *, gram_error: float, mixed: bool) -> Spectrum:
    """From the eigenvalues of WᵀW.

    The eigenvalues of a computed Ĝ are off by at most ‖Ĝ − WᵀW‖₂ (Weyl), and those that LAPACK finds by
    n·u·λ₁ more (Users' Guide, section 4.7.1, with p(n) = n). What that makes of a root is worked out for
    each.

    Args:
        gram: float64; its lower triangle is read.
        gram_error: Bound on ‖Ĝ − WᵀW‖₂.
        mixed: Whether its products were summed in float32.
    """
    return from_eigenvalues(torch.linalg.eigvalsh(gram).cpu(), gram_error=gram_error, mixed=mixed)


def from_eigenvalues(eigenvalues: Float[Tensor, " short"], *, gram_error: float, mixed: bool) -> Spectrum:
    """As `by_gram`, from eigenvalues in ascending order."""
    squares = eigenvalues.flip(0).clamp(min=0)
    error = gram_error + len(squares) * _EPS / 2 * float(squares[0])
    values = squares.sqrt()
    above = error / ((squares + error).sqrt() + values)
    # Differences of roots, written as quotients so that nothing cancels.
    below = squares.clamp(max=error) / (values + (squares - error).clamp(min=0).sqrt()).clamp(min=_TINY)
    method = "mixed_gram_eigvalsh" if mixed else "gram_eigvalsh"
    return Spectrum(values=values, errors=torch.maximum(above, below) + _EPS * values, method=method)
