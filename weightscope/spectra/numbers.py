"""All numbers of a stack of matrices: the one call the sweep makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.extremal import Bound, Problem, Top, largest_singular_value
from weightscope.spectra.measures import gaussian_stable_rank, spectrum_measures, stable_rank_of
from weightscope.spectra.moments import Sums, product_squares, scale_exponent, stacked, sums_and_product
from weightscope.spectra.precision import float32_products
from weightscope.spectra.spectrum import Spectrum, spectrum
from weightscope.spectra.workspace import Workspace

# Within this range of largest elements no square over- or underflows in float32, at any size.
_SAFE_EXPONENT = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralOptions:
    """What to compute of each matrix."""

    rtol: float = 1e-6
    """Width of the interval around the spectral norm, relative."""
    bound: Bound = Bound.PROBABLE
    """What must stand behind the upper end of the interval."""
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
    bound: str
    """What stands behind the upper bound; empty where there is none."""
    values: dict[str, float]
    """Column name to number; an undefined one is NaN or absent."""
    singular_values: Float[Tensor, " rank"] | None = None
    """Descending, float64, on the CPU; None unless asked for and defined."""


@dataclass(slots=True, eq=False)
class _Part:
    """What is learnt of one matrix of a stack and serves the whole."""

    peak: float
    sums: Sums | None = None


@dataclass(slots=True, eq=False)
class _GramSum:
    """Gram matrices of parts below one another add up to that of the whole."""

    total: Tensor | None = None
    parts: int = 0

    def add(self, gram: Tensor | None, name: str, workspace: Workspace) -> None:
        if gram is None:
            return
        self.parts += 1
        if self.total is None:
            self.total = workspace.take(name, *gram.shape, dtype=gram.dtype).copy_(gram)
        else:
            self.total += gram


class StackSolver:
    """Solves stacks of matrices one after the other, in memory that is kept.

    A stack is one matrix, or several whose rows lie below one another and form a whole: Q, K, V and QKV.
    """

    def __init__(self, options: SpectralOptions, workspace: Workspace) -> None:
        self._options = options
        self._workspace = workspace
        self._sums: dict[str, _GramSum] = {}  # over the parts of the stack so far
        self._adding = False

    def solve(
        self,
        parts: Sequence[Float[Tensor, "_ columns"]],
        whole: Float[Tensor, "rows columns"] | None,
        *,
        bf16_valued: bool,
    ) -> list[MatrixNumbers]:
        """The numbers of each part, then of the whole if there is one.

        Args:
            parts: float32 or float64, any layout; scaled in place and back.
            whole: The parts below one another, in the same memory.
            bf16_valued: Whether bfloat16 holds every value.
        """
        with float32_products("exact"):
            return self._solve(parts, whole, bf16_valued)

    def _solve(
        self, parts: Sequence[Float[Tensor, "_ columns"]], whole: Tensor | None, bf16_valued: bool
    ) -> list[MatrixNumbers]:
        known = [_Part(peak=_peak(part)) for part in parts]
        self._sums = {name: _GramSum() for name in ("gram", "gram64")}
        self._adding = whole is not None
        numbers = [
            self._numbers(part, learnt, None, bf16_valued) for part, learnt in zip(parts, known, strict=True)
        ]
        if whole is not None:
            joint = _Part(peak=max((part.peak for part in known), key=lambda peak: (math.isnan(peak), peak)))
            numbers.append(self._numbers(whole, joint, list(zip(parts, known, strict=True)), bf16_valued))
        return numbers

    def _numbers(
        self,
        matrix: Float[Tensor, "rows columns"],
        learnt: _Part,
        parts: list[tuple[Tensor, _Part]] | None,
        bf16_valued: bool,
    ) -> MatrixNumbers:
        if not math.isfinite(learnt.peak):
            return MatrixNumbers(status="non_finite", method="", bound="", values={})
        exponent = _exponent(learnt.peak)
        if exponent:
            matrix.mul_(math.ldexp(1.0, -exponent))
        try:
            return self._finite(matrix, learnt, parts, bf16_valued, math.ldexp(1.0, exponent))
        finally:
            if exponent:
                matrix.mul_(math.ldexp(1.0, exponent))

    def _finite(
        self,
        matrix: Float[Tensor, "rows columns"],
        learnt: _Part,
        parts: list[tuple[Tensor, _Part]] | None,
        bf16_valued: bool,
        unscale: float,
    ) -> MatrixNumbers:
        options, rows, columns = self._options, *matrix.shape
        shared = parts if parts and all(part.sums and not _exponent(part.peak) for _, part in parts) else None
        if unscale != 1:
            shared = None
        values = {
            "stable_rank_gaussian": gaussian_stable_rank(rows, columns),
            "stable_rank_max": math.sqrt(min(rows, columns)),
            "max_abs": learnt.peak,
        }
        status, method, bound, singular_values = "zero", "", "", None
        if learnt.peak > 0:
            top = self._top(matrix, learnt, shared, bf16_valued)
            status, method, bound = "ok", top.method, str(top.bound)
            values["spectral_norm"] = top.value * unscale
            values["spectral_norm_upper"] = top.upper * unscale
        else:
            learnt.sums, _ = sums_and_product(matrix, workspace=self._workspace)
            values["spectral_norm"] = values["spectral_norm_upper"] = 0.0
        assert learnt.sums is not None  # noqa: S101 - both branches set it
        found = learnt.sums.moments()
        values |= {
            "frobenius_norm": found.frobenius_norm * unscale,
            "mean": found.mean * unscale,
            "std": found.std * unscale,
            "row_norm_ratio": found.row_norm_ratio,
            "column_norm_ratio": found.column_norm_ratio,
        }
        if status == "ok":
            values["stable_rank"] = stable_rank_of(values["frobenius_norm"], values["spectral_norm"])
            values["stable_rank_squared"] = values["stable_rank"] ** 2
        if options.with_spectrum:
            singular_values = torch.zeros(min(rows, columns), dtype=torch.float64)
            if status == "ok":
                whole = spectrum(matrix.to(torch.float64)[None])
                singular_values = whole.values[0].cpu() * unscale
                method = f"{method}+{whole.method}"
                values |= self._spectrum_values(whole, (rows, columns), unscale)
        return MatrixNumbers(
            status=status, method=method, bound=bound, values=values, singular_values=singular_values
        )

    def _top(
        self,
        matrix: Float[Tensor, "rows columns"],
        learnt: _Part,
        parts: list[tuple[Tensor, _Part]] | None,
        bf16_valued: bool,
    ) -> Top:
        is_tall = matrix.shape[0] >= matrix.shape[1]

        def evaluate(vector: Tensor) -> float:
            right = vector if is_tall else None
            left = None if is_tall else vector
            if parts is not None:
                learnt.sums = stacked([part.sums for _, part in parts if part.sums])
                return product_squares(matrix, right=right, left=left, workspace=self._workspace)
            learnt.sums, product = sums_and_product(matrix, right=right, left=left, workspace=self._workspace)
            return product

        def squares() -> float:
            assert learnt.sums is not None  # noqa: S101 - evaluate is called first
            return learnt.sums.squares

        problem = Problem(
            tall=matrix if is_tall else matrix.mT,
            evaluate=evaluate,
            squares=squares,
            bf16_valued=bf16_valued,
            **{
                name: found.total for name, found in self._sums.items() if parts and found.parts == len(parts)
            },
        )
        options = self._options
        top = largest_singular_value(
            problem, rtol=options.rtol, bound=options.bound, seed=options.seed, workspace=self._workspace
        )
        if self._adding and parts is None and is_tall:
            for name, found in self._sums.items():
                found.add(getattr(top, name), f"stack.{name}", self._workspace)
        return top

    def _spectrum_values(self, found: Spectrum, shape: tuple[int, int], unscale: float) -> dict[str, float]:
        values = spectrum_measures(
            found.values[0].cpu(),
            shape=shape,
            epsilon=self._options.epsilon,
            relative_error=found.relative_error,
        )
        for name in ("nuclear_norm", "smallest_singular_value", "mp_edge"):
            values[name] *= unscale
        values["alpha_xmin"] *= unscale * unscale  # of eigenvalues: squares
        return values


def _peak(matrix: Float[Tensor, "rows columns"]) -> float:
    """Largest absolute element; NaN or infinite where one is."""
    lowest, highest = torch.aminmax(matrix)  # NaN propagates through both
    return max(-float(lowest), float(highest))


def _exponent(peak: float) -> int:
    """The power of two to take off before squares are formed; none within the safe range."""
    exponent = scale_exponent(peak)
    return 0 if abs(exponent) <= _SAFE_EXPONENT else exponent
