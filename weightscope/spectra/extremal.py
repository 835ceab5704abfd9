"""The largest singular value without an SVD, with an interval around it.

Lanczos finds a vector v, in float32 where the stored values fit, in float64 where the tolerance asks for
it; the value is ‖Wv‖/‖v‖ in float64 whatever found v, so it is a lower bound. What stands behind the upper
bound is chosen: see `Bound`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra import bounds, compiled
from weightscope.spectra.gram import gram32, gram64, proves_upper_bound
from weightscope.spectra.lanczos import Lanczos
from weightscope.spectra.operators import explicit, implicit
from weightscope.spectra.workspace import Workspace

# Up to this short side a full eigendecomposition costs no more than the fourteen steps that trained
# spectra need, and a third of the forty that Gaussian ones need.
DIRECT_SIDE = 128
# Trained spectra need 14 to 24 steps at 1e-6, Gaussian ones 110 to 180; where this many do not do, the
# eigendecomposition of a Gram matrix is cheaper than many more.
MAX_STEPS = 600
# After these steps a run that is still far away is a long one, and a Gram matrix pays for itself.
_IMPLICIT_STEPS, _FAR = 12, 6e-3
# Below this tolerance float32 rounding would be a good part of the interval.
_FLOAT32_RTOL = 8e-7
# Elements cast to float64 at a time: half of a level-2 cache.
_PIECE_ELEMENTS = 131_072
# And where they are multiplied by a whole basis: large enough for BLAS to run at its best.
_BLOCK_ELEMENTS = 2**21
# Rounding of a run, relative to λ₁, that `probable` allows for without measuring it. See docs, lab log.
_ALLOWANCE = {torch.float32: 5e-7, torch.float64: 1e-13}
# And this many times the difference between the value, evaluated in float64, and the run's own.
KNOWN_FACTOR = 2


class Bound(StrEnum):
    """What stands behind the upper bound of the spectral norm."""

    RESIDUAL = "residual"
    """Only that some singular value lies within the residual of the value."""
    PROBABLE = "probable"
    """Fails with probability at most 1e-9 over the random start; rounding allowed for, not measured."""
    AUDITED = "audited"
    """The same, with the rounding of the run bounded in float64."""
    PROVED = "proved"
    """A Cholesky factorisation in float64 with its rounding margin; no probability."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Top:
    """The largest singular value and what is known of it."""

    value: float
    """‖Wv‖/‖v‖: a lower bound up to rounding."""
    upper: float
    """Upper bound, in the sense of `bound`."""
    bound: Bound | None
    """What stands behind it; stronger than asked where that was cheaper. None behind an infinite one."""
    steps: int
    """Lanczos steps taken."""
    method: str
    """`lanczos`, or `gram_eigh` where an eigendecomposition was needed."""
    gram: Float[Tensor, "columns columns"] | None = None
    """WᵀW in float32 if the run went over to it; lives until the next run."""
    gram64: Float[Tensor, "columns columns"] | None = None
    """WᵀW in float64 if a proof needed it; lives until the next one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """One matrix, seen so that its columns are the short side."""

    tall: Float[Tensor, "rows columns"]
    """float32, float64, or bfloat16 as `compiled` takes it; exact, finite, not zero, squares in range."""
    evaluate: Callable[[Tensor], float]
    """‖Wv‖² of a unit vector, in float64."""
    squares: Callable[[], float]
    """‖W‖_F², known once `evaluate` was called."""
    bf16_valued: bool = False
    """Whether bfloat16 holds every value."""
    gram: Float[Tensor, "columns columns"] | None = None
    """WᵀW in float32 if it is known already, as a sum over parts."""
    gram64: Float[Tensor, "columns columns"] | None = None
    """WᵀW in float64, likewise."""


def largest_singular_value(
    problem: Problem,
    *,
    rtol: float = 1e-6,
    bound: Bound | None = Bound.PROBABLE,
    seed: int = 0,
    workspace: Workspace,
    method: Literal["auto", "lanczos", "gram_eigh"] = "auto",
) -> Top:
    """σ₁ of one matrix.

    Args:
        problem: The matrix.
        rtol: Width of the interval, relative to the value, at which to stop.
        bound: What must stand behind the upper bound; None if the caller has a better one: then the run stops
            by its residual, and the upper bound is infinite unless a proved one comes for nothing.
        seed: Of the random start, which depends on the short side alone.
        workspace: For everything of the matrix' size.
        method: `lanczos` tries it whatever the size, `gram_eigh` never; `auto` tries it where the short
            side is longer than 128. Where it does not reach rtol, `gram_eigh` takes over.
    """
    direct = method == "gram_eigh" or (method == "auto" and problem.tall.shape[1] <= DIRECT_SIDE)
    if not direct:
        for precision in precisions(problem.tall.dtype, rtol):
            found = _by_lanczos(problem, precision, rtol, bound, seed, workspace)
            if found is not None:
                return found
    return _by_eigh(problem, rtol, workspace)


def precisions(stored: torch.dtype, rtol: float) -> list[torch.dtype]:
    """Precisions to try in turn: a run in float32 may stay too wide, one in float64 hardly."""
    narrow = stored != torch.float64 and rtol >= _FLOAT32_RTOL
    return [torch.float32, torch.float64] if narrow else [torch.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """When a run is done, and what may then be said."""

    bound: Bound | None
    rtol: float
    limit: float
    """What Σ p_j(λ₁)² stays below, but for the failure probability."""
    allowance: float
    """Rounding of the run allowed for, relative to λ₁."""

    @classmethod
    def of(cls, bound: Bound | None, rtol: float, size: int, precision: torch.dtype) -> Goal:
        """That of a run of this size in this precision."""
        limit = bounds.sum_limit(size, bounds.FAILURE_PROBABILITY)
        return cls(bound=bound, rtol=rtol, limit=limit, allowance=_ALLOWANCE[precision])

    @property
    def by_residual(self) -> bool:
        """Whether the residual decides, because the upper bound comes from elsewhere."""
        return self.bound in (None, Bound.RESIDUAL, Bound.PROVED)

    @property
    def widest(self) -> float:
        """How far beyond the largest Ritz value, as a factor, λ₁ may lie at the end."""
        if self.bound is Bound.AUDITED:  # nearly the whole interval is left to the rounding found afterwards
            return (1 + self.rtol / 10) ** 2
        return (1 + self.rtol) ** 2 - self.allowance

    def reached(self, run: Lanczos) -> tuple[float, Float[Tensor, " steps"]] | None:
        """Largest Ritz value and the weights of its vector, if the run is done."""
        if not self.by_residual and not bounds.is_upper_bound(self.widest * run.largest(), run, self.limit):
            return None
        theta, weights = run.top()
        return (theta, weights) if self.is_reached(run, theta, weights) else None

    def is_reached(self, run: Lanczos, theta: float, weights: Float[Tensor, " steps"]) -> bool:
        """Whether the run's interval is narrow enough, or its residual small enough where that decides."""
        if self.by_residual:
            return run.betas[-1] * abs(float(weights[-1])) <= self.rtol * theta
        return bounds.is_upper_bound(self.widest * theta, run, self.limit)


def _by_lanczos(
    problem: Problem,
    precision: torch.dtype,
    rtol: float,
    bound: Bound | None,
    seed: int,
    workspace: Workspace,
) -> Top | None:
    """By Lanczos in this precision; None where the interval is still too wide at the end."""
    tall = problem.tall
    gram = problem.gram if precision == torch.float32 else problem.gram64
    if bound is Bound.PROVED and problem.gram64 is None:
        problem = replace(problem, gram64=gram64(problem.tall, workspace))
    if precision == torch.float64 and tall.dtype != precision and gram is None:
        # A copy in float64 could be larger than all else; and where one run failed many steps are ahead.
        gram = problem.gram64 if problem.gram64 is not None else gram64(tall, workspace)
    size = tall.shape[1]
    run = Lanczos(size, dtype=precision, seed=seed, max_steps=MAX_STEPS, workspace=workspace)
    goal = Goal.of(bound, rtol, size, precision)
    operator = implicit(tall, workspace) if gram is None else explicit(gram, workspace)
    look = 4
    while run.steps < run.max_steps:
        run.step(operator)
        if run.steps == _IMPLICIT_STEPS and gram is None:
            gram = _gram_if_far(problem, run, tall, workspace)
            operator = operator if gram is None else explicit(gram, workspace)
        ended = run.steps == run.max_steps or run.betas[-1] == 0
        if run.steps < look and not ended:
            continue
        look += max(2, run.steps // 12)
        if found := goal.reached(run):
            if run.betas[-1] == 0 and precision == torch.float32 and bound in (Bound.PROBABLE, Bound.AUDITED):
                return None  # what float32 rounded to nothing may be what the bound would have shown
            top = _finish(problem, run, *found, goal, workspace)
            return top and replace(top, gram=gram if precision == torch.float32 else None)
        if ended:
            return None
    return None


def _gram_if_far(
    problem: Problem, run: Lanczos, tall: Float[Tensor, "rows columns"], workspace: Workspace
) -> Float[Tensor, "columns columns"] | None:
    """A Gram matrix to go on with where many steps are ahead and it is cheap; the basis stays."""
    rows, columns = tall.shape
    theta, weights = run.top()
    near = run.betas[-1] * abs(float(weights[-1])) <= _FAR * theta
    if compiled.has_gram_of(tall):
        cheap = rows >= 2 * columns or not compiled.takes(tall)
    elif compiled.takes(tall):  # a step reads it once, so that a Gram matrix saves less
        cheap = rows >= 6 * columns
    else:
        cheap = rows >= 4 * columns or problem.bf16_valued
    if near or tall.dtype == torch.float64 or not (cheap or problem.gram64 is not None):
        return None
    gram = workspace.take("extremal.gram", columns, columns, dtype=torch.float32)
    if problem.gram64 is not None:
        gram.copy_(problem.gram64)
    else:
        gram32(tall, gram, workspace, bf16_valued=problem.bf16_valued)
    return gram


def _finish(
    problem: Problem,
    run: Lanczos,
    theta: float,
    weights: Float[Tensor, " steps"],
    goal: Goal,
    workspace: Workspace,
) -> Top | None:
    """Evaluate the vector of a finished run and bound the value; None where the interval is too wide."""
    vector = run.vector(weights)
    value = math.sqrt(problem.evaluate(vector))
    if goal.bound is Bound.PROVED:
        assert problem.gram64 is not None  # noqa: S101 - formed before the run
        upper, rows, squares = value * (1 + goal.rtol), len(problem.tall), problem.squares()
        if not proves_upper_bound(problem.gram64, upper**2, squares=squares, rows=rows, workspace=workspace):
            return None
    elif goal.bound is None:
        upper = math.inf
    elif goal.bound is Bound.RESIDUAL:
        upper = math.sqrt(value**2 + _residual(problem.tall, vector, value**2))
    else:
        root = bounds.upper_bound(theta, goal.widest * theta, run, goal.limit)
        if goal.bound is Bound.AUDITED:
            rounding = bounds.rounding_of(run, root, _pieces(problem.tall, _BLOCK_ELEMENTS), workspace)
        else:  # along the vector found the rounding is known, and may show that the allowance is too small
            rounding = max(goal.allowance * theta, KNOWN_FACTOR * abs(value**2 - theta))
        upper = max(value, math.sqrt(root + rounding))
        if not upper <= value * (1 + goal.rtol):
            return None
    return Top(
        value=value, upper=upper, bound=goal.bound, steps=run.steps, method="lanczos", gram64=problem.gram64
    )


def _by_eigh(problem: Problem, rtol: float, workspace: Workspace) -> Top:
    """By a full eigendecomposition of WᵀW in float64, then proved: beside it the proof costs nothing."""
    gram = gram64(problem.tall, workspace) if problem.gram64 is None else problem.gram64
    _, vectors = torch.linalg.eigh(gram)
    value = math.sqrt(problem.evaluate(vectors[:, -1].contiguous()))
    rows, squares = len(problem.tall), problem.squares()
    for width in widths(rtol):
        upper = value * (1 + width)
        if proves_upper_bound(gram, upper**2, squares=squares, rows=rows, workspace=workspace):
            return Top(value=value, upper=upper, bound=Bound.PROVED, steps=0, method="gram_eigh")
    raise ArithmeticError("the largest eigenvalue of a Gram matrix is not bounded by its eigendecomposition")


def widths(rtol: float) -> tuple[float, ...]:
    """Relative widths of an interval to try a proof of, after an eigendecomposition: the narrowest first."""
    return tuple(sorted({1e-12, 1e-10, 1e-8, rtol, 1e-4, 1e-2}))


def _pieces(tall: Float[Tensor, "rows columns"], elements: int) -> list[Tensor]:
    step = max(1, elements // tall.shape[1])
    return [tall[start : start + step] for start in range(0, len(tall), step)]


def _residual(tall: Float[Tensor, "rows columns"], vector: Float[Tensor, " columns"], ritz: float) -> float:
    """‖WᵀWv − ρv‖ for a unit v, in float64."""
    image = -ritz * vector
    for piece in _pieces(tall, _PIECE_ELEMENTS):
        exact = piece.to(torch.float64)
        image.addmv_(exact.mT, torch.mv(exact, vector))
    return float(image.norm())
