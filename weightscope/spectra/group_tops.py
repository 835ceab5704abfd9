"""The largest singular values of a group of matrices with Gram matrices of one size.

As `extremal.largest_singular_value` finds that of one: Lanczos in float32 where the stored values fit, then
in float64, then an eigendecomposition; the value is ‖Wv‖ in float64 whatever found v; the same bounds. Each
stage fetches its numbers from the device once for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.batched_lanczos import Run, batched_lanczos
from weightscope.spectra.bounds import rounding_from
from weightscope.spectra.device_pass import Scaled, image_squares, proof
from weightscope.spectra.extremal import DIRECT_SIDE, KNOWN_FACTOR, Bound, Goal, Top, precisions, widths
from weightscope.spectra.precision import float32_products
from weightscope.spectra.spectrum import AT_ONCE
from weightscope.spectra.workspace import Workspace

# Of Gram matrices copied side by side for one batch: enough of them to fill a GPU.
_BATCH_BYTES = 2**31


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Member:
    """A matrix of the group: finite, not zero."""

    matrix: Scaled
    gram: Float[Tensor, "size size"]
    """WᵀW in float64."""
    squares: Float[Tensor, ""]
    """‖W‖_F², on the device."""

    @property
    def stored(self) -> torch.dtype:
        """The narrower of float32 and float64 that holds every value."""
        return torch.promote_types(self.matrix.tall.dtype, torch.float32)


def largest_of(
    members: Sequence[Member], *, rtol: float, bound: Bound | None, seed: int, workspace: Workspace
) -> list[Top]:
    """σ₁ of each.

    Args:
        members: With Gram matrices of one size.
        rtol: As in `extremal.largest_singular_value`.
        bound: Likewise.
        seed: Likewise.
        workspace: For everything of a matrix' size.
    """
    tops: list[Top | None] = [None] * len(members)
    if len(members[0].gram) > DIRECT_SIDE:
        for precision in (torch.float32, torch.float64):
            tried = [
                i
                for i, top in enumerate(tops)
                if top is None and precision in precisions(members[i].stored, rtol)
            ]
            for batch in _batches(tried, members, precision):
                some = [members[i] for i in batch]
                for i, top in zip(
                    batch, _by_lanczos(some, precision, rtol, bound, seed, workspace), strict=True
                ):
                    tops[i] = top
    left = [i for i, top in enumerate(tops) if top is None]
    for batch in _batches(left, members, torch.float64):
        for i, top in zip(batch, _by_eigh([members[i] for i in batch], rtol, workspace), strict=True):
            tops[i] = top
    return [top for top in tops if top is not None]


def _batches(which: Sequence[int], members: Sequence[Member], dtype: torch.dtype) -> list[Sequence[int]]:
    size = len(members[0].gram)
    most = max(1, min(AT_ONCE, _BATCH_BYTES // (size * size * dtype.itemsize)))
    return [which[start : start + most] for start in range(0, len(which), most)]


def _side_by_side(members: Sequence[Member], dtype: torch.dtype, workspace: Workspace) -> Tensor:
    """Copies of their Gram matrices, in one piece of memory."""
    size = len(members[0].gram)
    batch = workspace.take("group.batch", len(members), size, size, dtype=dtype)
    for slot, member in enumerate(members):
        batch[slot].copy_(member.gram)
    return batch


def _by_lanczos(
    members: Sequence[Member],
    precision: torch.dtype,
    rtol: float,
    bound: Bound | None,
    seed: int,
    workspace: Workspace,
) -> list[Top | None]:
    """By Lanczos in this precision; None where the interval is still too wide at the end."""
    goal = Goal.of(bound, rtol, len(members[0].gram), precision)
    with float32_products("exact"):
        runs = batched_lanczos(
            _side_by_side(members, precision, workspace),
            goal,
            seed=seed,
            with_basis=bound is Bound.AUDITED,
        )
    # As on a CPU, what float32 rounded to nothing may be what the bound would have shown.
    ends_count = precision != torch.float32 or goal.by_residual
    reached = [
        (i, run) for i, run in enumerate(runs) if run is not None and (ends_count or run.betas[-1] != 0)
    ]
    squares = [image_squares(members[i].matrix, run.vector, workspace) for i, run in reached]
    beside = [
        _beside(members[i], run, goal, one, workspace) for (i, run), one in zip(reached, squares, strict=True)
    ]
    tops: list[Top | None] = [None] * len(members)
    for (i, run), square, other in zip(reached, _fetched(squares), _fetched(beside), strict=True):
        tops[i] = _concluded(run, goal, math.sqrt(square), other)
    return tops


def _beside(
    member: Member, run: Run, goal: Goal, square: Float[Tensor, ""], workspace: Workspace
) -> Float[Tensor, ""]:
    """What the upper bound needs beside the run: rounding, a residual, whether it is proved (0)."""
    if goal.bound is Bound.PROVED:
        upper = square * (1 + goal.rtol) ** 2
        rows = len(member.matrix.tall)
        return proof(member.gram, upper, squares=member.squares, rows=rows, workspace=workspace)
    if goal.bound is Bound.RESIDUAL:
        residual: Tensor = torch.linalg.vector_norm(torch.mv(member.gram, run.vector) - square * run.vector)
        return residual
    if goal.bound is Bound.AUDITED:
        assert run.basis is not None  # noqa: S101 - it was asked for
        vectors = run.basis.to(torch.float64)
        product = vectors @ member.gram
        if run.next_vector is not None:
            vectors = torch.cat([vectors, run.next_vector.to(torch.float64)[None]])
        terms = sum(member.matrix.tall.shape)
        return square.new_tensor(rounding_from(run, run.upper, vectors, product, terms=terms))
    # Along the vector found the rounding is known, and may show that the allowance is too small.
    return (KNOWN_FACTOR * (square - run.theta).abs()).clamp(min=goal.allowance * run.theta)


def _concluded(run: Run, goal: Goal, value: float, beside: float) -> Top | None:
    """The interval, if it is narrow enough."""
    match goal.bound:
        case None:
            upper = math.inf
        case Bound.PROVED:
            if beside != 0:
                return None
            upper = value * (1 + goal.rtol)
        case Bound.RESIDUAL:
            upper = math.sqrt(value**2 + beside)
        case _:
            upper = max(value, math.sqrt(run.upper + beside))
            if not upper <= value * (1 + goal.rtol):
                return None
    return Top(value=value, upper=upper, bound=goal.bound, steps=run.steps, method="lanczos")


def _by_eigh(members: Sequence[Member], rtol: float, workspace: Workspace) -> list[Top]:
    """By full eigendecompositions of the Gram matrices, then proved."""
    vectors = torch.linalg.eigh(_side_by_side(members, torch.float64, workspace)).eigenvectors[:, :, -1]
    squares = [
        image_squares(member.matrix, vector.contiguous(), workspace)
        for member, vector in zip(members, vectors, strict=True)
    ]
    values = [math.sqrt(square) for square in _fetched(squares)]
    tops: dict[int, Top] = {}
    for width in widths(rtol):
        left = [i for i in range(len(members)) if i not in tops]
        infos = [
            proof(
                members[i].gram,
                squares[i] * (1 + width) ** 2,
                squares=members[i].squares,
                rows=len(members[i].matrix.tall),
                workspace=workspace,
            )
            for i in left
        ]
        for i, info in zip(left, _fetched(infos), strict=True):
            if info == 0:
                upper = values[i] * (1 + width)
                tops[i] = Top(value=values[i], upper=upper, bound=Bound.PROVED, steps=0, method="gram_eigh")
    if len(tops) < len(members):
        raise ArithmeticError(
            "the largest eigenvalue of a Gram matrix is not bounded by its eigendecomposition"
        )
    return [tops[i] for i in range(len(members))]


def _fetched(numbers: Sequence[Tensor]) -> list[float]:
    """From the device, in one transfer."""
    if not numbers:
        return []
    found: list[float] = torch.stack(list(numbers)).cpu().tolist()
    return found
