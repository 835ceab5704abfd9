"""All numbers of stacks of matrices, many in flight: the solver for a GPU.

It takes what `StackSolver` takes and gives what that gives. A stack's values are kept as they were stored,
its sums and Gram matrices are formed at once, and nothing is fetched from the device. When a group is full
its matrices are solved together: one transfer of all their sums, one batch of Lanczos for each size, one
more transfer for the values. What is right does not depend on the device, so all of it runs on a CPU too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.device_pass import Learnt, Scaled, learn
from weightscope.spectra.device_sums import fetched, power_of_two, stacked
from weightscope.spectra.extremal import Bound, Top
from weightscope.spectra.group_spectra import GroupSpectra, Spectral
from weightscope.spectra.group_tops import largest_of
from weightscope.spectra.held import Held, bytes_of, kept_copy
from weightscope.spectra.numbers import MatrixNumbers, SpectralOptions
from weightscope.spectra.outcome import NON_FINITE, norms, with_no_spectrum, with_spectrum
from weightscope.spectra.spectrum import Spectrum, choose_method
from weightscope.spectra.workspace import Workspace

# Stored values and float64 Gram matrices of a group: some fifty matrices of a 3-billion-weight model.
DEFAULT_GROUP_BYTES = 4 * 2**30


class GroupSolver:
    """Solves stacks in groups of a bounded size.

    Its memory on the device: the group, as much again while it is solved, and the largest stack.
    """

    def __init__(
        self, options: SpectralOptions, workspace: Workspace, *, group_bytes: int = DEFAULT_GROUP_BYTES
    ) -> None:
        self._options = options
        self._workspace = workspace
        self._group_bytes = group_bytes
        self._held_bytes = 0
        self._waiting: list[Held] = []
        self._order: deque[Held] = deque()
        self._spectra = GroupSpectra()

    def add(
        self,
        parts: Sequence[Float[Tensor, "_ columns"]],
        whole: Float[Tensor, "rows columns"] | None,
        *,
        bf16_valued: bool,
    ) -> None:
        """Take in a stack; when this returns its memory may be written to again, on the same stream.

        Args:
            parts: float32 or float64, any layout.
            whole: The parts below one another, in the same memory.
            bf16_valued: Whether bfloat16 holds every value.
        """
        needed = bytes_of(parts, whole, bf16_valued=bf16_valued)
        if self._waiting and self._held_bytes + needed > self._group_bytes:
            self._solve_group()
        self._held_bytes += needed
        stored = torch.bfloat16 if bf16_valued else None
        if whole is None:
            kept = [kept_copy(part, stored) for part in parts]
        else:
            values = kept_copy(whole, stored)
            kept = list(torch.split(values, [len(part) for part in parts]))
        held = [Held.of(matrix, bf16_valued=bf16_valued) for matrix in kept]
        for one in held:
            self._learn(one)
        if whole is not None:
            self._learn_whole(values, held)
        self._waiting += held
        self._order += held

    def results(self) -> Iterator[MatrixNumbers]:
        """Those that are there and whose predecessors are, in order, each once."""
        while self._order and (numbers := self._order[0].numbers) is not None:
            self._order.popleft()
            yield numbers

    def finish(self) -> Iterator[MatrixNumbers]:
        """Solve what still waits; all results that are left."""
        self._solve_group()
        self._spectra.finish()
        return self.results()

    def _learn(self, held: Held) -> Learnt:
        learnt = learn(held.scaled, self._workspace, with_error=self._options.with_spectrum)
        held.sums = learnt.sums if held.is_tall else learnt.sums.transposed()
        held.gram, held.gram_error = learnt.gram, learnt.error
        return learnt

    def _learn_whole(self, values: Float[Tensor, "rows columns"], parts: list[Held]) -> None:
        """A whole: its sums from those of its parts, and its Gram matrix too where theirs are on its side."""
        peak = torch.stack([part.peak for part in parts]).max()  # NaN propagates
        whole = Held.of(values, bf16_valued=parts[0].bf16_valued, peak=peak)
        if not whole.is_tall:
            self._learn(whole)
            parts.append(whole)
            return
        factors = [power_of_two(part.exponent - whole.exponent) for part in parts]
        sums = [part.sums.scaled(factor) for part, factor in zip(parts, factors, strict=True) if part.sums]
        whole.sums = stacked(sums)
        size = whole.shape[1]
        gram = torch.zeros(size, size, dtype=torch.float64, device=values.device)
        errors = []
        for part, factor in zip(parts, factors, strict=True):
            one, error = part.gram, part.gram_error
            if not part.is_tall:  # its own is on the other side
                other = Scaled(tall=part.matrix, factor=power_of_two(-part.exponent))
                learnt = learn(other, self._workspace, with_error=self._options.with_spectrum)
                one, error = learnt.gram, learnt.error
            assert one is not None  # noqa: S101 - each part was learnt
            gram.addcmul_(one, factor * factor)
            if error is not None:
                errors.append(error * factor * factor)
        whole.gram = gram
        whole.gram_error = torch.stack(errors).sum() if errors else None
        parts.append(whole)

    def _solve_group(self) -> None:
        group, self._waiting, self._held_bytes = self._waiting, [], 0
        if not group:
            return
        rows = torch.stack([held.numbers_on_device() for held in group]).cpu().tolist()  # one transfer
        usable: dict[int, list[int]] = {}
        for i, (held, (peak, *_)) in enumerate(zip(group, rows, strict=True)):
            if not math.isfinite(peak):
                held.numbers = NON_FINITE
            elif peak > 0:
                usable.setdefault(min(held.shape), []).append(i)
        tops: dict[int, Top] = {}
        for same_size in usable.values():
            for bounded, which in self._by_bound(group, same_size):
                found = largest_of(
                    [group[i].member for i in which],
                    rtol=self._options.rtol,
                    bound=bounded,
                    seed=self._options.seed,
                    workspace=self._workspace,
                )
                tops |= zip(which, found, strict=True)
        spectral = []
        for i, (held, (peak, exponent, error, *moments)) in enumerate(zip(group, rows, strict=True)):
            if held.numbers is not None:
                continue
            top, unscale = tops.get(i), math.ldexp(1.0, int(exponent))
            numbers = norms(held.shape, peak=peak, moments=fetched(moments), top=top, unscale=unscale)
            if not self._options.with_spectrum:
                held.numbers = numbers
            elif top is None:
                held.numbers = with_no_spectrum(numbers, held.shape)
            else:
                spectral.append(self._spectral(held, numbers, unscale, error))
        self._spectra.add(spectral)
        for held in group:
            held.release()

    def _by_bound(self, group: list[Held], which: list[int]) -> list[tuple[Bound | None, list[int]]]:
        """Those whose largest eigenvalue, found soon, is a better upper bound than any search could give."""
        asked = self._options.bound
        if asked is Bound.PROVED or not self._options.with_spectrum:
            return [(asked, which)]
        by_gram = [i for i in which if self._has_gram_spectrum(group[i])]
        others = [i for i in which if i not in set(by_gram)]
        return [(bound, some) for bound, some in ((None, by_gram), (asked, others)) if some]

    def _has_gram_spectrum(self, held: Held) -> bool:
        method = choose_method(
            held.shape, bf16_valued=held.bf16_valued, on_cpu=False, asked=self._options.spectrum_method
        )
        return method != "svdvals"

    def _spectral(self, held: Held, numbers: MatrixNumbers, unscale: float, error: float) -> Spectral:
        by_gram = self._has_gram_spectrum(held)
        concluded = partial(
            with_spectrum,
            numbers,
            shape=held.shape,
            unscale=unscale,
            options=self._options,
            by_gram=by_gram,
        )

        def done(found: Spectrum) -> None:
            held.numbers = concluded(found)

        return Spectral(matrix=held.scaled, gram=held.gram if by_gram else None, gram_error=error, done=done)
