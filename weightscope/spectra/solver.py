"""All numbers of a stack of matrices: what the sweep calls."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.extremal import Bound, Problem, Top, largest_singular_value
from weightscope.spectra.moments import (
    Sums,
    largest_element,
    product_squares,
    scale_exponent,
    stacked,
    sums_and_product,
)
from weightscope.spectra.numbers import MatrixNumbers, SpectralOptions
from weightscope.spectra.outcome import NON_FINITE, norms, with_no_spectrum, with_spectrum
from weightscope.spectra.precision import float32_products
from weightscope.spectra.side_by_side import SideBySide, Waiting
from weightscope.spectra.spectrum import Spectrum, choose_method
from weightscope.spectra.stack_gram import Gram, StackGram
from weightscope.spectra.workspace import Workspace

# Within this range of largest elements no square over- or underflows in float32, at any size.
_SAFE_EXPONENT = 30


@dataclass(slots=True, eq=False)
class _Part:
    """What is learnt of one matrix of a stack and serves the whole."""

    matrix: Float[Tensor, "rows columns"]
    peak: float
    sums: Sums | None = None

    @property
    def exponent(self) -> int:
        """The power of two to take off before squares are formed; none within the safe range."""
        exponent = scale_exponent(self.peak)
        return 0 if abs(exponent) <= _SAFE_EXPONENT else exponent


@dataclass(slots=True, eq=False)
class _Outcome:
    """A matrix' place in the order of results."""

    numbers: MatrixNumbers | None = None


class StackSolver:
    """Solves stacks of matrices one after the other, in memory that is kept.

    A stack is one matrix, or several whose rows lie below one another and form a whole: Q, K, V and QKV.
    Numbers come out in the order the matrices went in, spectra a few matrices late: they are computed
    side by side.
    """

    def __init__(
        self, options: SpectralOptions, workspace: Workspace, *, side_by_side: int | None = None
    ) -> None:
        self._options = options
        self._workspace = workspace
        self._spectra = SideBySide(workspace.device, side_by_side)
        self._outcomes: deque[_Outcome] = deque()
        self._grams = StackGram(workspace)
        self._bf16_valued = False

    def solve(
        self,
        parts: Sequence[Float[Tensor, "_ columns"]],
        whole: Float[Tensor, "rows columns"] | None,
        *,
        bf16_valued: bool,
    ) -> list[MatrixNumbers]:
        """The numbers of each part, then of the whole if there is one, and of what was added before.

        As `add` and `finish`.
        """
        self.add(parts, whole, bf16_valued=bf16_valued)
        return list(self.finish())

    def add(
        self,
        parts: Sequence[Float[Tensor, "_ columns"]],
        whole: Float[Tensor, "rows columns"] | None,
        *,
        bf16_valued: bool,
    ) -> None:
        """Solve a stack; when this returns its memory may be used again.

        Args:
            parts: float32 or float64, any layout, or bfloat16 row by row or column by column where there is
                `compiled`. What lies in the workspace may be scaled in place and back.
            whole: The parts below one another, in the same memory.
            bf16_valued: Whether bfloat16 holds every value.
        """
        self._bf16_valued = bf16_valued
        known = [_Part(matrix=part, peak=largest_element(part)) for part in parts]
        with float32_products("exact"):
            self._grams.begin(len(parts) if whole is not None else 0)
            for part in known:
                self._solve(part, None)
            if whole is not None:
                peak = max((part.peak for part in known), key=lambda peak: (math.isnan(peak), peak))
                self._solve(_Part(matrix=whole, peak=peak), known)

    def results(self) -> Iterator[MatrixNumbers]:
        """Those that are there and whose predecessors are, in order, each once."""
        while self._outcomes and (numbers := self._outcomes[0].numbers) is not None:
            self._outcomes.popleft()
            yield numbers

    def finish(self) -> Iterator[MatrixNumbers]:
        """Compute what still waits; all results that are left."""
        self._spectra.run()
        return self.results()

    def _solve(self, matrix: _Part, parts: list[_Part] | None) -> None:
        outcome = _Outcome()
        self._outcomes.append(outcome)
        if not math.isfinite(matrix.peak):
            outcome.numbers = NON_FINITE
            return
        exponent = matrix.exponent
        mine = self._workspace.holds(matrix.matrix)
        if exponent:
            if not mine:
                matrix.matrix = self._workspace.copied("solver.scaled", matrix.matrix, matrix.matrix.dtype)
            _shift(matrix.matrix, -exponent)
            parts = None  # what is known of them is not of the scaled ones
        elif parts and any(part.exponent or not part.sums for part in parts):
            parts = None
        try:
            self._finite(matrix, parts, math.ldexp(1.0, exponent), outcome)
        finally:
            if exponent and mine:
                _shift(matrix.matrix, exponent)

    def _finite(self, part: _Part, parts: list[_Part] | None, unscale: float, outcome: _Outcome) -> None:
        matrix = part.matrix
        shape = (matrix.shape[0], matrix.shape[1])
        gram = top = None
        if part.peak > 0:
            gram = self._gram(matrix, parts)
            top = self._top(part, parts, gram)
        else:
            part.sums, _ = sums_and_product(matrix, workspace=self._workspace)
        assert part.sums is not None  # noqa: S101 - both branches set it
        numbers = norms(shape, peak=part.peak, moments=part.sums.moments(), top=top, unscale=unscale)
        if not self._options.with_spectrum:
            outcome.numbers = numbers
        elif top is None:
            outcome.numbers = with_no_spectrum(numbers, shape)
        else:
            self._let_wait(matrix, gram, numbers, unscale, outcome)

    def _gram(self, matrix: Float[Tensor, "rows columns"], parts: list[_Part] | None) -> Gram | None:
        """The Gram matrix its spectrum is computed from; None if it is not."""
        options = self._options
        if not options.with_spectrum:
            return None
        method = choose_method(
            (matrix.shape[0], matrix.shape[1]),
            bf16_valued=self._bf16_valued,
            on_cpu=self._workspace.device.type == "cpu",
            asked=options.spectrum_method,
        )
        if method == "svdvals":
            return None
        # A proof needs float64 throughout.
        mixed = method == "mixed_gram" and options.bound is not Bound.PROVED
        if parts is None:
            return self._grams.of(matrix, mixed=mixed)
        return self._grams.of_whole(matrix, [part.matrix for part in parts], mixed=mixed)

    def _top(self, part: _Part, parts: list[_Part] | None, gram: Gram | None) -> Top:
        matrix = part.matrix
        is_tall = matrix.shape[0] >= matrix.shape[1]

        def evaluate(vector: Tensor) -> float:
            right = vector if is_tall else None
            left = None if is_tall else vector
            if parts is not None:
                part.sums = stacked([one.sums for one in parts if one.sums])
                return product_squares(matrix, right=right, left=left, workspace=self._workspace)
            part.sums, product = sums_and_product(matrix, right=right, left=left, workspace=self._workspace)
            return product

        def squares() -> float:
            assert part.sums is not None  # noqa: S101 - evaluate is called first
            return part.sums.squares

        known = self._grams.known(gram, of_whole=parts is not None)
        problem = Problem(
            tall=matrix if is_tall else matrix.mT,
            evaluate=evaluate,
            squares=squares,
            bf16_valued=self._bf16_valued,
            gram=known.rounded,
            gram64=known.double,
        )
        options = self._options
        top = largest_singular_value(
            problem,
            rtol=options.rtol,
            # The largest eigenvalue, found soon, is a better upper bound than any that the search could give.
            bound=options.bound if gram is None or options.bound is Bound.PROVED else None,
            seed=options.seed,
            workspace=self._workspace,
        )
        if gram is None and parts is None and is_tall:
            self._grams.learn(rounded=top.gram, double=top.gram64)
        return top

    def _let_wait(
        self,
        matrix: Float[Tensor, "rows columns"],
        gram: Gram | None,
        numbers: MatrixNumbers,
        unscale: float,
        outcome: _Outcome,
    ) -> None:
        shape = (matrix.shape[0], matrix.shape[1])

        def done(found: Spectrum) -> None:
            if gram is not None:
                self._grams.release(gram)
            outcome.numbers = with_spectrum(
                numbers,
                found,
                shape=shape,
                unscale=unscale,
                options=self._options,
                by_gram=gram is not None,
            )

        if gram is None:
            waiting = Waiting(matrix=matrix.to(torch.float64, copy=True), is_gram=False, done=done)
        else:
            waiting = Waiting(
                matrix=gram.double, is_gram=True, gram_error=gram.error, mixed=gram.mixed, done=done
            )
        self._spectra.add(waiting)


def _shift(matrix: Float[Tensor, "rows columns"], exponent: int) -> None:
    """Multiply by a power of two, in place: in steps that float32 holds."""
    while exponent:
        step = max(-100, min(100, exponent))
        matrix.mul_(math.ldexp(1.0, step))
        exponent -= step
