"""All singular values of a group of matrices: eigenvalues in batches on the device, the rest on the CPU.

What follows from a spectrum (ranks, a power law) is computed on the CPU by threads, while the device is at
the next batch. So are the spectra of short matrices, for which LAPACK is quicker than a GPU's solver.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.device_pass import Scaled
from weightscope.spectra.side_by_side import workers
from weightscope.spectra.spectrum import AT_ONCE, SVD_SIDE, Spectrum, by_svd, from_eigenvalues

# More threads than this gain nothing: the device is the slower one.
_MOST_THREADS = 8
# Of one batch; an eigensolver takes as much again.
_BATCH_BYTES = 2**30


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectral:
    """A matrix whose spectrum is asked for: finite, not zero."""

    matrix: Scaled
    gram: Float[Tensor, "size size"] | None
    """WᵀW in float64; None to have an SVD."""
    gram_error: float
    """Bound on its distance from WᵀW."""
    done: Callable[[Spectrum], None]
    """Called with the result, on any thread."""


class GroupSpectra:
    """Computes the spectra of groups; the last of them are there after `finish`."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._running: deque[Future[None]] = deque()

    def add(self, group: Sequence[Spectral]) -> None:
        """Compute these. When it returns the device is done with them, the CPU perhaps not."""
        by_size: dict[int, list[Spectral]] = {}
        for one in group:
            if one.gram is not None:
                by_size.setdefault(len(one.gram), []).append(one)
            else:
                self._svd(one)
        for size, members in by_size.items():
            most = max(1, min(AT_ONCE, _BATCH_BYTES // (8 * size * size)))
            for start in range(0, len(members), most):
                self._eigenvalues(members[start : start + most])
        while self._running and self._running[0].done():
            self._running.popleft().result()  # raises what went wrong

    def finish(self) -> None:
        """Wait for the CPU."""
        while self._running:
            self._running.popleft().result()

    def _eigenvalues(self, members: Sequence[Spectral]) -> None:
        batch = torch.stack([one.gram for one in members if one.gram is not None])
        for one, values in zip(members, torch.linalg.eigvalsh(batch).cpu(), strict=True):
            self._run(_from_gram, one, values)

    def _svd(self, one: Spectral) -> None:
        exact = one.matrix.tall.to(torch.float64) * one.matrix.factor
        if exact.shape[1] <= SVD_SIDE:
            self._run(_from_svd, one, exact.cpu())
        else:
            _from_svd(one, exact)

    def _run(self, function: Callable[[Spectral, Tensor], None], one: Spectral, values: Tensor) -> None:
        if self._pool is None:
            self._pool = workers(max(1, min(_MOST_THREADS, (os.cpu_count() or 1) // 2)), 1)
        self._running.append(self._pool.submit(function, one, values))


def _from_gram(one: Spectral, values: Tensor) -> None:
    with torch.inference_mode():
        one.done(from_eigenvalues(values, gram_error=one.gram_error, mixed=False))


def _from_svd(one: Spectral, exact: Tensor) -> None:
    with torch.inference_mode():
        one.done(by_svd(exact))
