"""What the commands print: tables for people on stdout, notes on stderr."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from weightscope.counting import counted

if TYPE_CHECKING:
    from weightscope.checkpoint import Checkpoint
    from weightscope.estimate import Estimate

NOTHING = "–"


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; 100 columns where there is none, so that logs keep their lines."""
    found = Console(stderr=stderr, highlight=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        return Console(stderr=stderr, highlight=False, width=100)
    return found


def notes(sentences: Sequence[str], guesses: Sequence[str]) -> None:
    """What was assumed or passed over, and every guess, on stderr."""
    out = console(stderr=True)
    for note in sentences:
        out.print(Text(f"note: {note}"), style="yellow", soft_wrap=True)
    for guess in guesses:
        out.print(Text(f"  guess: {guess}"), soft_wrap=True)


def print_whole(out: Console, table: Table) -> None:
    """Print a table as wide as it needs: a narrow terminal breaks its lines, and loses no column."""
    width = width_of(table)
    whole = out if width <= out.width else Console(file=out.file, width=width, highlight=False)
    whole.print(table)


def width_of(table: Table) -> int:
    """The columns that a table needs."""
    return Console(width=10_000).measure(table).maximum


def print_hanging(out: Console, text: str, indent: int = 2) -> None:
    """Print a sentence whose second line, where the terminal is too narrow for one, is set in."""
    lead = text[: len(text) - len(text.lstrip())]
    lines = wrap(
        text.strip(),
        max(out.width, 20),
        initial_indent=lead,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        out.print(Text(line), soft_wrap=True)


def role(entry: Mapping[str, Any]) -> str:
    """The group of an entry of the summary, and whether it is of experts."""
    count = f"{entry['experts']} " if entry.get("experts") else ""
    noun = "expert" if entry.get("experts") == 1 else "experts"
    what = {"numbered": f" ({count}{noun})", "shared": " (shared)"}.get(entry["expert"], "")
    return f"{entry['group']}{what}"


def several_places(places: Iterable[tuple[str, str]]) -> bool:
    """Whether groups must be told apart by their stack and kind of attention."""
    there = list(places)
    return any(len({*names} - {""}) > 1 for names in zip(*there, strict=True))


def dry_run(checkpoint: Checkpoint, found: Estimate, *, as_json: bool) -> None:
    """The plan."""
    out = console()
    if as_json:
        out.file.write(
            json.dumps({"checkpoint": checkpoint.source.reference, **found.as_dict()}, indent=2) + "\n"
        )
        return
    out.print(Text(f"{checkpoint.source.reference}  ({checkpoint.detection.spec.name})", style="bold"))
    out.print(
        Text(
            f"{counted(found.matrices, 'matrix', 'matrices')} from {counted(found.tensors, 'tensor')}, "
            f"{byte_count(found.read_bytes)} to read"
        )
    )
    out.print(Text(f"memory for tensors and solvers: {byte_count(found.memory_bytes)} on {found.device}"))
    if found.streamed:
        out.print(Text(f"matrices that do not fit as a whole and are read in blocks: {found.streamed}"))
    out.print(Text(f"time: about {duration(found.estimated_seconds)} ({_what_is_estimated(found)})"))


def _what_is_estimated(found: Estimate) -> str:
    if found.download_bytes:
        return f"an estimate, beside the download of {byte_count(found.download_bytes)}"
    return "an estimate, with the files in the page cache"


def figure(value: float | None) -> str:
    """Three significant digits, without an exponent where that reads well."""
    if value is None:
        return NOTHING
    if 99.95 <= abs(value) < 1e5:
        return f"{value:.0f}"
    if value == 0 or 1e-3 <= abs(value) < 99.95:
        return f"{value:#.3g}"
    return f"{value:.2e}"


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best."""
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 99.5 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def byte_count(count: int) -> str:
    """Bytes in the unit that reads best."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:  # else three digits would be 1e+03
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
