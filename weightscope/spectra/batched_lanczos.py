"""Lanczos on many Gram matrices of one size at once, for a GPU.

One matrix is too little work for a GPU and each number fetched from it stops it, so all members take their
steps together, the coefficients stay on the device, and they are looked at every eight to sixteen steps.
What a member's run is and when it is done is as in `lanczos` and `extremal`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.extremal import MAX_STEPS, Goal
from weightscope.spectra.lanczos import start_vector
from weightscope.spectra.tridiagonal import Tridiagonals

_FIRST_LOOK, _LONGEST_WAIT = 8, 16
# The basis grows with the steps: trained spectra need 16, and room for 600 is a quarter of a Gram matrix.
_FIRST_ROOM = 32
# A residual that loses more than this to its second orthogonalisation was rounding alone.
_NOISE = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A member's finished run."""

    theta: float
    """Largest Ritz value."""
    upper: float
    """Upper bound on the largest eigenvalue of the matrix the run is an exact one for; infinite where the
    residual decided."""
    vector: Float[Tensor, " size"]
    """Its Ritz vector, float64, of length one, on the device."""
    alphas: list[float]
    betas: list[float]
    basis: Float[Tensor, "steps size"] | None
    """Where it was asked for."""
    next_vector: Float[Tensor, " size"] | None
    """Where there is one and the basis was asked for."""

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.alphas)


def batched_lanczos(
    grams: Float[Tensor, "members size size"],
    goal: Goal,
    *,
    seed: int = 0,
    max_steps: int = MAX_STEPS,
    with_basis: bool = False,
) -> list[Run | None]:
    """A run for each Gram matrix; None where the goal was not reached.

    Args:
        grams: float32 or float64, finite; overwritten, as members that are done make room.
        goal: When a run is done.
        seed: Of the random start, which depends on the size alone.
        max_steps: At most the size.
        with_basis: Whether to return the vectors, for an audit.
    """
    batch = _Batch(grams, seed=seed, max_steps=max_steps)
    found: list[Run | None] = [None] * len(grams)
    look = min(_FIRST_LOOK, batch.max_steps)
    while batch.members:
        while batch.steps < look:
            batch.step()
        last = batch.steps == batch.max_steps
        finished = _finished(batch, goal, with_basis=with_basis)
        for slot, run in finished.items():
            found[batch.members[slot]] = run
        if last:
            break
        batch.leave(set(finished))
        look += min(_LONGEST_WAIT, max(_FIRST_LOOK, batch.steps // 12))
        look = min(look, batch.max_steps)
    return found


class _Batch:
    """Runs that take their steps together.

    Attributes:
        members: Which Gram matrix lies in each slot, -1 where its run is done.
        steps: Taken so far.
    """

    def __init__(self, grams: Float[Tensor, "members size size"], *, seed: int, max_steps: int) -> None:
        count, size, _ = grams.shape
        self.members = list(range(count))
        self.max_steps = min(size, max_steps)
        self.steps = 0
        self._grams = grams
        self._basis = grams.new_empty(count, min(_FIRST_ROOM, self.max_steps) + 1, size)
        self._basis[:, 0] = start_vector(size, seed).to(grams)
        self._coefficients = grams.new_zeros(2, self.max_steps, count)
        self._spare = torch.Generator(grams.device).manual_seed(seed)

    def step(self) -> None:
        """One step of every member. Nothing in here waits for the device."""
        steps = self.steps + 1
        if steps == self._basis.shape[1]:
            self._grow()
        known = self._basis[:, :steps]
        vectors = torch.bmm(self._grams, known[:, -1:].mT)
        vectors, first = _orthogonal(vectors, known)
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        # The second of the two times that are enough is of the unit vector: what it loses shows what it was.
        vectors, second = _orthogonal(vectors / lengths, known)
        kept = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        alphas, betas = self._coefficients[:, steps - 1]
        alphas.copy_((first[:, -1:] + torch.where(lengths > 0, lengths * second[:, -1:], 0))[:, 0, 0])
        betas.copy_(torch.where(lengths > 0, lengths * kept, 0)[:, 0, 0])
        # Where only rounding is left the Krylov space has ended, and any other direction serves.
        spare = torch.randn(
            len(self._grams[0]), 1, generator=self._spare, dtype=vectors.dtype, device=vectors.device
        )
        unit = torch.where(kept >= _NOISE, vectors / kept, spare / torch.linalg.vector_norm(spare))
        unit, _ = _orthogonal(unit, known)
        torch.div(
            unit, torch.linalg.vector_norm(unit, dim=1, keepdim=True), out=self._basis[:, steps, :, None]
        )
        self.steps = steps

    def coefficients(self) -> Tridiagonals:
        """Those of every slot, in one transfer."""
        alphas, betas = self._coefficients[:, : self.steps].to("cpu", torch.float64).numpy()
        return Tridiagonals.of(alphas.T, betas.T)

    def vectors(self, slot: int, steps: int) -> tuple[Tensor, Tensor]:
        """A slot's basis and the vector that comes after it."""
        return self._basis[slot, :steps], self._basis[slot, steps]

    def leave(self, slots: set[int]) -> None:
        """These are done: they stay as they are until half of all are, then the others move together."""
        for slot in slots:
            self.members[slot] = -1
        staying = [slot for slot, member in enumerate(self.members) if member >= 0]
        if not staying:
            self.members = []
        elif 2 * len(staying) <= len(self.members):
            self.members = [self.members[slot] for slot in staying]
            for target, source in enumerate(staying):
                if target != source:
                    self._grams[target].copy_(self._grams[source])
                    self._basis[target].copy_(self._basis[source])
            self._grams = self._grams[: len(staying)]
            self._basis = self._basis[: len(staying)]
            self._coefficients = self._coefficients[:, :, torch.tensor(staying)]

    def _grow(self) -> None:
        count, room, size = self._basis.shape
        basis = self._basis.new_empty(count, min(2 * room, self.max_steps + 1), size)
        basis[:, :room].copy_(self._basis)
        self._basis = basis


def _orthogonal(
    vectors: Float[Tensor, "members size 1"], known: Float[Tensor, "members steps size"]
) -> tuple[Float[Tensor, "members size 1"], Float[Tensor, "members steps 1"]]:
    """Without what lies along known vectors, and how much that was."""
    overlaps = torch.bmm(known, vectors)
    return torch.baddbmm(vectors, known.mT, overlaps, alpha=-1), overlaps


def _finished(batch: _Batch, goal: Goal, *, with_basis: bool) -> dict[int, Run]:
    """The slots whose goal is reached, with their runs."""
    every = batch.coefficients()
    open_slots = np.flatnonzero(np.array(batch.members) >= 0)
    known = every.select(open_slots)
    theta, weights = known.largest()
    if goal.by_residual:
        reached = known.residuals(weights) <= goal.rtol * theta
    else:
        reached = known.is_upper_bound(goal.widest * theta, goal.limit)
    which = np.flatnonzero(reached)
    if not len(which):
        return {}
    known, theta, weights = known.select(which), theta[which], weights[:, which]
    upper = np.full_like(theta, np.inf)
    if not goal.by_residual:
        upper = known.upper_bounds(theta, goal.widest * theta, goal.limit)
    first, _ = batch.vectors(0, batch.steps)
    shares = torch.from_numpy(np.ascontiguousarray(weights.T)).to(first)
    runs = {}
    for i, slot in enumerate(open_slots[which].tolist()):
        steps = int(known.lengths[i])
        basis, following = batch.vectors(slot, steps)
        vector = torch.mv(basis.mT, shares[i, :steps]).to(torch.float64)
        has_next = with_basis and steps < batch.max_steps and known.betas[steps - 1, i] > 0
        runs[slot] = Run(
            theta=float(theta[i]),
            upper=float(upper[i]),
            vector=vector / torch.linalg.vector_norm(vector),
            alphas=known.alphas[:steps, i].tolist(),
            betas=known.betas[:steps, i].tolist(),
            basis=basis.clone() if with_basis else None,
            next_vector=following.clone() if has_next else None,
        )
    return runs
