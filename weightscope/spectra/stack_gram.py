"""Gram matrices of a stack: those of parts below one another add up to that of the whole.

G_QKV = G_Q + G_K + G_V, so the largest of the four costs three additions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.spectra.gram import gram64, mixed_gram
from weightscope.spectra.probes import gram_error
from weightscope.spectra.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gram:
    """A small-side Gram matrix to compute a spectrum from; its memory is its own until it is released."""

    double: Float[Tensor, "short short"]
    """float64, symmetric."""
    error: float
    """Bound on the distance from WᵀW in the 2-norm."""
    mixed: bool
    """Whether products were summed in float32."""
    name: str
    """Of its memory."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """What a search for the largest singular value need not compute."""

    rounded: Float[Tensor, "columns columns"] | None = None
    """WᵀW in float32."""
    double: Float[Tensor, "columns columns"] | None = None
    """WᵀW in float64, no sums in float32."""


@dataclass(slots=True, eq=False)
class _Total:
    """A sum over the parts of the current stack, and how many are in it."""

    name: str
    sum: Tensor | None = None
    count: int = 0

    def add(self, gram: Tensor | None, workspace: Workspace) -> None:
        if gram is None:
            return
        self.count += 1
        if self.sum is None:
            self.sum = workspace.take(self.name, *gram.shape, dtype=gram.dtype).copy_(gram)
        else:
            self.sum += gram


@dataclass(slots=True, eq=False)
class _Stack:
    """The stack that is being solved."""

    parts: int = 0
    """How many parts its whole has; 0 if there is none."""
    rounded: _Total = field(default_factory=lambda: _Total("stack.rounded"))
    double: _Total = field(default_factory=lambda: _Total("stack.double"))
    grams: _Total | None = None
    added: list[Tensor] = field(default_factory=list)
    error: float = 0.0
    mixed: bool = False


class StackGram:
    """The Gram matrices of the stack in work, and memory for those that wait for their eigenvalues."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._free: deque[str] = deque()
        self._named = 0
        self._stack = _Stack()

    def begin(self, parts: int) -> None:
        """A new stack; `parts` make up a whole, 0 if there is none."""
        if self._stack.grams is not None:  # of a whole that never came
            self._free.append(self._stack.grams.name)
        self._stack = _Stack(parts=parts)

    def of(self, matrix: Float[Tensor, "rows columns"], *, mixed: bool) -> Gram:
        """The Gram matrix of a part, or of a matrix alone."""
        tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
        name = self._take_name()
        double = (mixed_gram if mixed else gram64)(tall, self._workspace, name=name)
        found = Gram(double=double, error=self._error(double, tall, mixed), mixed=mixed, name=name)
        stack = self._stack
        if stack.parts and tall is matrix:
            stack.grams = stack.grams or _Total(self._take_name())
            stack.grams.add(double, self._workspace)
            stack.added.append(matrix)
            stack.error += found.error
            stack.mixed |= mixed
        return found

    def of_whole(
        self,
        whole: Float[Tensor, "rows columns"],
        parts: Sequence[Float[Tensor, "_ columns"]],
        *,
        mixed: bool,
    ) -> Gram:
        """That of a whole, from those of its parts as far as they lie on its short side."""
        stack, total = self._stack, self._stack.grams
        if whole.shape[0] < whole.shape[1] or total is None or total.sum is None:
            return self.of(whole, mixed=mixed)
        double, error, stack.grams = total.sum, stack.error, None
        missing = [part for part in parts if not any(part is one for one in stack.added)]
        for part in missing:
            gram64(part, self._workspace, onto=double)
        if missing:
            error = self._error(double, whole, stack.mixed)
        return Gram(double=double, error=error, mixed=stack.mixed, name=total.name)

    def known(self, gram: Gram | None, *, of_whole: bool) -> Known:
        """What is known of a matrix before its largest singular value is looked for."""
        if gram is not None:
            narrow = self._workspace.take("extremal.gram", *gram.double.shape, dtype=torch.float32)
            return Known(rounded=narrow.copy_(gram.double), double=None if gram.mixed else gram.double)
        rounded, double = self._stack.rounded, self._stack.double
        if not of_whole:
            return Known()
        return Known(
            rounded=rounded.sum if rounded.count == self._stack.parts else None,
            double=double.sum if double.count == self._stack.parts else None,
        )

    def learn(self, *, rounded: Tensor | None, double: Tensor | None) -> None:
        """Add what the search on a part had to compute; both live until the next search."""
        if self._stack.parts:
            self._stack.rounded.add(rounded, self._workspace)
            self._stack.double.add(double, self._workspace)

    def release(self, gram: Gram) -> None:
        """Its memory may be used again. On any thread."""
        self._free.append(gram.name)

    def _take_name(self) -> str:
        try:
            return self._free.popleft()
        except IndexError:
            self._named += 1
            return f"stack.gram{self._named}"

    def _error(self, gram: Tensor, tall: Tensor, mixed: bool) -> float:
        return gram_error(gram, tall, self._workspace, power=2 if mixed else 1)
