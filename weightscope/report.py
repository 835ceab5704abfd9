"""The output folder: written beside, then renamed, so that a killed run leaves the old result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weightscope.errors import OptionError, OutputError, SelectionError
from weightscope.over_experts import over_experts
from weightscope.plots import plot_quantity, save_figure
from weightscope.publish import check_writable, publish, refuse_others
from weightscope.table import write_csv

if TYPE_CHECKING:
    import pandas as pd

JOURNAL_FILE = "weightscope.journal"
"""What an interrupted run leaves in its folder; `--resume` goes on from it."""
PLOTTED = ("stable_rank", "frobenius_norm")
# Everything a report may consist of. What an earlier run left and this one does not write is removed,
# so that a folder never mixes two runs. The provenance comes last: with it the report is complete.
REPORT_FILES = (
    "matrices.csv",
    "matrices.parquet",
    "summary.json",
    "skipped.csv",
    "experts.csv",
    "spectra.parquet",
    "weightwatcher.csv",
    *(f"{quantity}.{ending}" for quantity in PLOTTED for ending in ("png", "svg")),
    "provenance.json",
)
# The columns a report is written in; the first one always is.
SCHEMAS = ("weightscope", "weightwatcher")


def check_schema(schema: str) -> str:
    """The schema, if there is such a one.

    Raises:
        OptionError: There is none.
    """
    if schema not in SCHEMAS:
        raise OptionError(
            f"The schema {schema!r} was asked for.",
            f"The schemas are: {', '.join(SCHEMAS)}.",
            "Use one of these.",
        )
    return schema


def write_report(
    folder: Path,
    *,
    table: pd.DataFrame,
    skipped: pd.DataFrame,
    summary: Mapping[str, Any],
    spectra: pd.DataFrame | None,
    provenance: Callable[[], Mapping[str, Any]],
    label: str,
    plots: bool = True,
    weightwatcher: pd.DataFrame | None = None,
) -> list[Path]:
    """Write a whole report and return its files.

    Args:
        folder: Made if it is not there; files of other names in it are left alone.
        table: The rows.
        skipped: Tensors without a row.
        summary: For summary.json.
        spectra: Every singular value, long; None without `--spectrum`.
        provenance: Called last, so that it can state the time all else took.
        label: Name of the model in the plots.
        plots: Whether to draw.
        weightwatcher: The rows in WeightWatcher's columns; None if not asked for.

    Raises:
        OutputError: Something could not be written; an earlier report is untouched.
    """
    check_writable(folder)
    refuse_others(folder, "recipe.yaml", "a recipe or a training")
    writers: dict[str, Callable[[Path], object]] = {
        "matrices.csv": lambda path: write_csv(table, path),
        "matrices.parquet": lambda path: table.to_parquet(path, index=False),
        "summary.json": lambda path: _write_json(path, summary),
        "skipped.csv": lambda path: write_csv(skipped, path),
    }
    experts = over_experts(table)
    if len(experts):
        writers["experts.csv"] = lambda path: write_csv(experts, path)
    if spectra is not None:
        writers["spectra.parquet"] = lambda path: spectra.to_parquet(path, index=False)
    if weightwatcher is not None:
        writers["weightwatcher.csv"] = lambda path: write_csv(weightwatcher, path)
    if plots:
        writers |= _pictures(table, label)
    writers["provenance.json"] = lambda path: _write_json(path, provenance())
    try:
        written = publish(folder, writers, stale=REPORT_FILES)
        (folder / JOURNAL_FILE).unlink(missing_ok=True)  # all of it is in the report now
    except OSError as error:
        raise _failed(folder, error) from None
    return written


def _pictures(table: pd.DataFrame, label: str) -> dict[str, Callable[[Path], object]]:
    try:
        figures = {quantity: plot_quantity({label: table}, quantity) for quantity in PLOTTED}
    except SelectionError:
        return {}  # nothing selected belongs to a layer: there is nothing to plot against
    return {
        f"{quantity}.{ending}": partial(save_figure, figure)
        for quantity, figure in figures.items()
        for ending in ("png", "svg")
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(
        json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )


def _failed(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"The report was to be written to '{folder}'.",
        f"That failed: {error.strerror or error}.",
        "Choose another folder with --out, or make room there; nothing that was in it has changed, and "
        "--resume goes on from what was computed."
        if (folder / JOURNAL_FILE).exists()
        else "Choose another folder with --out, or make room there; nothing that was in it has changed.",
    )
