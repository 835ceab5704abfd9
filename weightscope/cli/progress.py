"""Progress bars in bytes and in steps, with time left, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weightscope.sweep.run import Progress
    from weightscope.training.follow import TrainingProgress


@contextmanager
def bytes_progress(
    *, enabled: bool, label: str = "analysing", received: Callable[[], int] | None = None
) -> Iterator[Callable[[Progress], None] | None]:
    """Yield an observer for `analyze`, its bar under a label; None if no bar is wanted.

    Args:
        enabled: Whether a bar is wanted.
        label: In front of it.
        received: Bytes that have come over a network, to be shown behind it: they come long before the
            matrices that they belong to are done.
    """
    if not enabled:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Received(ProgressColumn):
        """Looked up whenever the bar is drawn, ten times a second."""

        def render(self, task: Task) -> Text:
            return Text(f"{received() / 1e6:,.1f} MB received" if received else "")

    console = Console(stderr=True)
    with Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20 if received else 40),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        *([Received()] if received else []),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task(label, total=None)
        yield lambda state: bar.update(task, total=state.total_bytes, completed=state.done_bytes)


@contextmanager
def steps_progress(*, enabled: bool, label: str) -> Iterator[Callable[[TrainingProgress], None] | None]:
    """Yield an observer for an experiment that trains, its bar under a label; None if no bar is wanted."""
    if not enabled:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task(label, total=None, unit="")
        yield lambda state: bar.update(task, total=state.total, completed=state.done, unit=state.unit)
