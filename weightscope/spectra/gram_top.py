"""The largest singular value from a Gram matrix alone, where the matrix is not there to be evaluated on.

‖Ĝ − WᵀW‖₂ ≤ e puts every λ(WᵀW) within e of Ĝ's (Weyl), and for a unit vector v it puts ‖Wv‖² within e of
vᵀĜv. So the value reported, the root of vᵀĜv − e, is a lower bound whatever found v, and what is added to
an upper bound for Ĝ is e again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra import bounds
from weightscope.spectra.extremal import DIRECT_SIDE, KNOWN_FACTOR, MAX_STEPS, Bound, Goal, Top, widths
from weightscope.spectra.gram import proves_upper_bound
from weightscope.spectra.lanczos import Lanczos
from weightscope.spectra.probes import ALPHA, PROBES
from weightscope.spectra.workspace import Workspace

_UNIT_ROUNDOFF = torch.finfo(torch.float64).eps / 2
# The random start may fail with the probability that the probes leave of the 1e-9 for both.
_FAILURE = bounds.FAILURE_PROBABILITY - ALPHA**-PROBES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnownGram:
    """A Gram matrix and what is known of it."""

    matrix: Float[Tensor, "size size"]
    """Ĝ: float64, symmetric, of a matrix that is finite and not zero."""
    error: float
    """Bound on ‖Ĝ − WᵀW‖₂."""
    squares: float
    """‖W‖_F²."""
    rows: int
    """Length of the sums in Ĝ."""


def top_of_gram(gram: KnownGram, *, rtol: float, bound: Bound, seed: int, workspace: Workspace) -> Top:
    """σ₁ by Lanczos on Ĝ in float64, or by its eigenvalues where it is small or Lanczos does not do.

    Args:
        gram: Ĝ.
        rtol: Width of the interval around the value, relative.
        bound: What must stand behind its upper end.
        seed: Of the random start.
        workspace: For the basis and a factorisation.
    """
    if len(gram.matrix) > DIRECT_SIDE:
        found = _by_lanczos(gram, rtol, bound, seed, workspace)
        if found is not None:
            return found
    largest = float(torch.linalg.eigvalsh(gram.matrix)[-1])
    return top_of_eigenvalue(gram, largest, rtol=rtol, bound=bound, workspace=workspace)


def eigenvalue_error(gram: KnownGram, largest: float, size: int) -> float:
    """How far computed eigenvalues are from those of WᵀW; LAPACK's part as in `spectrum`, for this size."""
    return gram.error + size * _UNIT_ROUNDOFF * largest


def top_of_eigenvalue(
    gram: KnownGram, largest: float, *, rtol: float, bound: Bound, workspace: Workspace
) -> Top:
    """σ₁ from Ĝ's largest computed eigenvalue.

    Args:
        gram: Ĝ.
        largest: That eigenvalue.
        rtol: Width of an interval that must be proved.
        bound: What must stand behind the upper bound; what is found is `probable` at least.
        workspace: For a factorisation.
    """
    error = eigenvalue_error(gram, largest, len(gram.matrix))
    value, upper = math.sqrt(max(0.0, largest - error)), math.sqrt(largest + error)
    if bound is Bound.PROVED:
        for width in widths(rtol):
            if _is_proved(gram, value * (1 + width), workspace):
                upper = value * (1 + width)
                break
        else:
            raise ArithmeticError("the largest eigenvalue of a Gram matrix is not bounded by itself")
    elif bound is not Bound.AUDITED:
        bound = Bound.PROBABLE
    return Top(value=value, upper=upper, bound=bound, steps=0, method="streamed_eigvalsh")


def _by_lanczos(gram: KnownGram, rtol: float, bound: Bound, seed: int, workspace: Workspace) -> Top | None:
    """None where the interval is still too wide at the end."""
    size = len(gram.matrix)
    run = Lanczos(size, dtype=torch.float64, seed=seed, max_steps=MAX_STEPS, workspace=workspace)
    goal = _goal(gram, bound, rtol)
    if goal.widest <= 1:
        return None

    def apply(vector: Tensor, out: Tensor) -> None:
        torch.mv(gram.matrix, vector, out=out)

    look = 4
    while run.steps < run.max_steps:
        run.step(apply)
        ended = run.steps == run.max_steps or run.betas[-1] == 0
        if run.steps < look and not ended:
            continue
        look += max(2, run.steps // 12)
        if found := goal.reached(run):
            return _finish(gram, run, *found, goal, workspace)
        if ended:
            return None
    return None


def _goal(gram: KnownGram, bound: Bound, rtol: float) -> Goal:
    """As for a matrix that is there, with room in the interval for the error of Ĝ on both sides."""
    goal = Goal.of(bound, rtol, len(gram.matrix), torch.float64)
    known = 3 * gram.error / float(gram.matrix.diagonal().max())
    return replace(goal, limit=bounds.sum_limit(len(gram.matrix), _FAILURE), allowance=goal.allowance + known)


def _finish(
    gram: KnownGram,
    run: Lanczos,
    theta: float,
    weights: Float[Tensor, " steps"],
    goal: Goal,
    workspace: Workspace,
) -> Top | None:
    """Bound the value of a finished run; None where the interval is too wide."""
    vector = run.vector(weights)
    image = torch.mv(gram.matrix, vector)
    ritz = float(vector @ image)
    value = math.sqrt(max(0.0, ritz - gram.error))
    if goal.bound is Bound.RESIDUAL:
        upper = math.sqrt(ritz + float(image.sub_(vector, alpha=ritz).norm()) + gram.error)
    elif goal.bound is Bound.PROVED:
        upper = value * (1 + goal.rtol)
        if not _is_proved(gram, upper, workspace):
            return None
    else:
        root = bounds.upper_bound(theta, goal.widest * theta, run, goal.limit)
        if goal.bound is Bound.AUDITED:
            product = torch.mm(run.basis, gram.matrix)
            rounding = bounds.rounding_from(run, root, run.vectors, product, terms=len(gram.matrix))
        else:
            allowance = Goal.of(goal.bound, goal.rtol, len(gram.matrix), torch.float64).allowance
            rounding = max(allowance * theta, KNOWN_FACTOR * abs(ritz - theta))
        upper = math.sqrt(root + rounding + gram.error)
        if not upper <= value * (1 + goal.rtol):
            return None
    return Top(value=value, upper=upper, bound=goal.bound, steps=run.steps, method="streamed_lanczos")


def _is_proved(gram: KnownGram, upper: float, workspace: Workspace) -> bool:
    return proves_upper_bound(
        gram.matrix, upper**2, squares=gram.squares, rows=gram.rows, workspace=workspace
    )
