"""Lanczos on a symmetric operator: random start, full reorthogonalisation, one short-side basis.

On the CPU one vector beats blocks, and plain matrix-vector products beat batched ones; only the short
side's basis is kept, as rows of one buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra import compiled
from weightscope.spectra.workspace import Workspace

Operator = Callable[[Tensor, Tensor], None]
"""Writes the operator applied to its first argument into its second."""


@runtime_checkable
class Coefficients(Protocol):
    """What of a run its bounds follow from."""

    @property
    def alphas(self) -> Sequence[float]:
        """Diagonal of the tridiagonal matrix."""

    @property
    def betas(self) -> Sequence[float]:
        """Below it; the last one belongs to the next step."""


class Lanczos:
    """A run of Lanczos steps.

    Attributes:
        alphas: Diagonal of the tridiagonal matrix so far.
        betas: Below it; the last one belongs to the next step.
    """

    def __init__(
        self, size: int, *, dtype: torch.dtype, seed: int, max_steps: int, workspace: Workspace
    ) -> None:
        self.max_steps = min(size, max_steps)
        self._workspace = workspace
        self._basis = workspace.take("lanczos.basis", self.max_steps + 1, size, dtype=dtype)
        self._residual = workspace.take("lanczos.residual", size, dtype=dtype)
        self._basis[0] = start_vector(size, seed).to(workspace.device, dtype)
        # A residual below this share of λ₁ has lost too many digits to be orthogonal once it is normalised.
        self._noise = torch.finfo(dtype).eps ** 0.5
        self.alphas: list[float] = []
        self.betas: list[float] = []

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.alphas)

    @property
    def basis(self) -> Float[Tensor, "steps size"]:
        """The basis so far, one vector a row."""
        return self._basis[: self.steps]

    @property
    def vectors(self) -> Float[Tensor, "known size"]:
        """The basis, and below it the vector the next step starts from unless the run has ended."""
        ended = self.steps == self.max_steps or self.betas[-1:] == [0]
        return self._basis[: self.steps + (not ended)]

    def step(self, operator: Operator) -> None:
        """Take one step."""
        steps, residual = self.steps + 1, self._residual
        known = self._basis[:steps]
        operator(known[-1], residual)
        if compiled.orthogonalises(known):
            alpha, beta = compiled.orthogonalise(known, residual, self._workspace)
        else:
            alpha, beta = _orthogonalise(known, residual)
        self.alphas.append(alpha)
        self.betas.append(beta)
        if beta > 0 and steps < self.max_steps:
            torch.div(residual, beta, out=self._basis[steps])
            if beta < self._noise * max(self.alphas):
                _orthonormalise(self._basis[steps], known)

    def largest(self) -> float:
        """Largest Ritz value."""
        if compiled.available():
            return compiled.largest_eigenvalue(self.alphas, self.betas)
        return self.top()[0]

    def top(self) -> tuple[float, Float[Tensor, " steps"]]:
        """Largest Ritz value, and the weights of its vector over the basis."""
        # torch and not numpy: two BLAS libraries spin their threads against each other.
        below = torch.tensor(self.betas[:-1], dtype=torch.float64)
        tridiagonal = torch.diag(torch.tensor(self.alphas, dtype=torch.float64))
        tridiagonal += torch.diag(below, -1)  # eigh reads the lower triangle only
        found = torch.linalg.eigh(tridiagonal)
        vectors: Tensor = found.eigenvectors
        return float(found.eigenvalues[-1]), vectors[:, -1]

    def vector(self, weights: Float[Tensor, " steps"]) -> Float[Tensor, " size"]:
        """The Ritz vector of these weights, float64, of length one."""
        found = torch.mv(self.basis.mT, weights.to(self._basis)).to(torch.float64)
        unit: Tensor = found / found.norm()
        return unit


@lru_cache(maxsize=64)
def start_vector(size: int, seed: int) -> Float[Tensor, " size"]:
    """A direction uniform on the sphere; it depends on size and seed alone, never on a matrix."""
    drawn = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    unit: Tensor = drawn / drawn.norm()
    return unit


def _orthogonalise(
    known: Float[Tensor, "steps size"], residual: Float[Tensor, " size"]
) -> tuple[float, float]:
    """As `compiled.orthogonalise`, in any type and size."""
    alpha = 0.0
    for _ in range(2):  # "twice is enough": Kahan; Giraud and Langou 2002
        overlaps = torch.mv(known, residual)
        residual.addmv_(known.mT, overlaps, alpha=-1)
        alpha += float(overlaps[-1])
    # In float64: squares of a small residual of small weights underflow in float32, and a length of zero
    # says that the Krylov space has ended.
    return alpha, float(torch.linalg.vector_norm(residual, dtype=torch.float64))


def _orthonormalise(vector: Float[Tensor, " size"], known: Float[Tensor, "steps size"]) -> None:
    """Make a unit vector orthogonal to the rows of `known`, in place.

    What is left of rounding may lie along a row itself, and keep doing so however often the row is taken
    away. Then any other direction serves: the Krylov space has ended.
    """
    generator = torch.Generator().manual_seed(len(known))
    while True:
        vector.addmv_(known.mT, torch.mv(known, vector), alpha=-1)
        norm = float(vector.norm())
        if norm > 0.7:  # what was taken away was no larger than what is left: the digits are good
            vector /= norm
            return
        if norm < 1e-4:
            vector.copy_(torch.randn(len(vector), generator=generator, dtype=torch.float64))
            norm = float(vector.norm())
        vector /= norm
