"""`follow`: train an ensemble, look at it at chosen steps, and keep what is needed to go on after a kill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from torch import Tensor

from weightscope.errors import TrainingDiverged
from weightscope.training.history import History
from weightscope.training.saved_state import SavedState

# Seconds between two states written.
_BETWEEN_STATES = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """How far a run is."""

    done: int
    """Steps taken."""
    total: int
    """Steps to take."""
    unit: str
    """`steps` or `epochs`."""


Observer = Callable[[TrainingProgress], None]


class Ensemble(Protocol):
    """What is trained: nets side by side.

    Attributes:
        steps: Taken so far.
        unit: What a step is called: `steps` or `epochs`.
        at_once: How many steps to take before one looks.
    """

    unit: str
    at_once: int

    @property
    def steps(self) -> int:
        """Taken so far."""

    def advance(self, count: int) -> None:
        """Take steps."""

    def finite(self) -> bool:
        """Whether every weight is a number."""

    def record(self, history: History, *, last: bool) -> None:
        """Write down what is to be seen now."""

    def state(self) -> dict[str, Tensor]:
        """What is needed to go on from here."""

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Go on from there."""


def follow(
    ensemble: Ensemble,
    at: Sequence[int],
    *,
    saved: SavedState | None = None,
    observe: Observer | None = None,
) -> History:
    """Train until the last of the steps, and return what was seen.

    Args:
        ensemble: At step 0.
        at: When to look, ascending.
        saved: Where to write what is needed to go on; goes on from what is there already.
        observe: Told how far the run is.

    Raises:
        TrainingDiverged: A weight is no number any more; it carries the history up to there.
        OutputError: The state could not be written.
    """
    history, written = History(), monotonic()
    if saved is not None and (found := saved.read()) is not None:
        ensemble.load(found.tensors, found.steps)
        history = found.history
    elif at[0] == 0:
        ensemble.record(history, last=at[-1] == 0)
    for step in at:
        while ensemble.steps < step:
            before = ensemble.steps
            ensemble.advance(min(ensemble.at_once, step - before))
            if observe is not None:
                observe(TrainingProgress(done=ensemble.steps, total=at[-1], unit=ensemble.unit))
            if not ensemble.finite():
                raise _diverged(ensemble, before, history)
            if ensemble.steps == step:
                ensemble.record(history, last=step == at[-1])
            if saved is not None and monotonic() - written > _BETWEEN_STATES:
                saved.write(ensemble.state(), ensemble.steps, history)
                written = monotonic()
    return history


def _diverged(ensemble: Ensemble, before: int, history: History) -> TrainingDiverged:
    error = TrainingDiverged(
        f"Training was at {ensemble.unit[:-1]} {ensemble.steps:,}.",
        f"A weight is infinite or no number; at {ensemble.unit[:-1]} {before:,} all were finite.",
        "Choose a smaller step size, or smaller initial weights.",
    )
    error.history = history.table()
    return error
