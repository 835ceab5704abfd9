"""Spectra computed side by side.

Reducing a matrix to tridiagonal form, which is most of the work of an eigensolver, is bound by memory and
uses a second core badly. On a CPU two matrices on one thread each are done much sooner than one after the
other on both. A GPU gets batches of equal shape.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from weightscope.spectra.spectrum import Spectrum, by_gram, by_svd, from_eigenvalues

# More at once would need more memory than the gain is worth.
_MOST_THREADS, _MOST_ON_GPU = 4, 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Waiting:
    """A spectrum that is still to be computed."""

    matrix: Tensor
    """float64: W, or Ĝ. It must not change until the spectrum is done."""
    is_gram: bool
    """Which of the two."""
    gram_error: float = 0.0
    """Bound on ‖Ĝ − WᵀW‖₂."""
    mixed: bool = False
    """Whether the products of Ĝ were summed in float32."""
    done: Callable[[Spectrum], None]
    """Called with the result, on any thread."""


class SideBySide:
    """Collects spectra and computes them as soon as there are enough.

    Attributes:
        width: How many are computed at once.
    """

    def __init__(self, device: torch.device, width: int | None = None) -> None:
        threads = torch.get_num_threads()
        self._on_cpu = device.type == "cpu"
        most = min(threads, _MOST_THREADS) if self._on_cpu else _MOST_ON_GPU
        self.width = min(width or most, most)
        # The same for every matrix and width, also for a last one that is alone: with another number of
        # threads the last digits would differ.
        self._threads = max(1, threads // min(threads, _MOST_THREADS))
        self._waiting: list[Waiting] = []
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, waiting: Waiting) -> None:
        """Let one wait, and compute all that wait if there are enough now."""
        self._waiting.append(waiting)
        if len(self._waiting) == self.width:
            self.run()

    def run(self) -> None:
        """Compute all that wait."""
        waiting, self._waiting = self._waiting, []
        if not self._on_cpu:
            _in_batches(waiting)
        elif waiting:
            self._pool = self._pool or workers(self.width, self._threads)
            list(self._pool.map(_compute, waiting))


def _compute(waiting: Waiting) -> None:
    with torch.inference_mode():
        if waiting.is_gram:
            found = by_gram(waiting.matrix, gram_error=waiting.gram_error, mixed=waiting.mixed)
        else:
            found = by_svd(waiting.matrix)
        waiting.done(found)


def _in_batches(waiting: list[Waiting]) -> None:
    """Gram matrices of equal size as one batch each."""
    by_size: dict[int, list[Waiting]] = defaultdict(list)
    for one in waiting:
        if one.is_gram:
            by_size[len(one.matrix)].append(one)
        else:
            _compute(one)
    for members in by_size.values():
        batch = torch.stack([one.matrix for one in members])
        for one, values in zip(members, torch.linalg.eigvalsh(batch).cpu(), strict=True):
            one.done(from_eigenvalues(values, gram_error=one.gram_error, mixed=one.mixed))


def workers(count: int, threads: int) -> ThreadPoolExecutor:
    """Threads whose own torch computes on `threads` threads each; the caller's setting stays.

    They end when the pool is no longer referred to.
    """
    before = torch.get_num_threads()
    all_here = threading.Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # else torch sets a new thread's number when it first computes
        torch.set_num_threads(threads)  # of this thread, and what threads to come start with
        all_here.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="weightscope-spectrum", initializer=begin)
    for _ in range(count):
        pool.submit(int)  # a pool starts a thread only when there is work
    all_here.wait()
    torch.set_num_threads(before)
    return pool
