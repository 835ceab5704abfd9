"""What a run of a recipe says on stderr while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import typer

from weightscope.cli import render
from weightscope.cli.progress import bytes_progress, steps_progress
from weightscope.errors import WeightscopeError
from weightscope.recipes.outcome import Listener

if TYPE_CHECKING:
    from weightscope.sweep.run import Progress
    from weightscope.training.follow import TrainingProgress


class Terminal(Listener):
    """Which model is next, notes, and a bar of its bytes; nothing if quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet

    def begins(self, label: str, reference: str, number: int, count: int) -> None:
        """Print the model that is next."""
        if not self.quiet:
            typer.echo(f"{number}/{count}  {label}: {reference}", err=True)

    def notes(self, sentences: Sequence[str], guesses: Sequence[str] = ()) -> None:
        """Print what was assumed or passed over."""
        if not self.quiet:
            render.notes(sentences, guesses)

    def fails(self, label: str, error: WeightscopeError) -> None:
        """Print that a model was given up; why stands at the end, quiet or not."""
        if not self.quiet:
            typer.echo(f"     {label} failed ({type(error).__name__}); the run goes on", err=True)

    def training(self, label: str) -> AbstractContextManager[Callable[[TrainingProgress], None] | None]:
        """A progress bar of steps."""
        return steps_progress(enabled=not self.quiet, label="training")

    def progress(self, label: str) -> AbstractContextManager[Callable[[Progress], None] | None]:
        """A progress bar."""
        return bytes_progress(enabled=not self.quiet, label=label)
