"""The output folder: written beside, then renamed, so that a killed run leaves the old result."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from errno import EISDIR
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weightscope.errors import OptionError, OutputError, SelectionError
from weightscope.plots import plot_quantity, save_figure
from weightscope.table import write_csv

if TYPE_CHECKING:
    import pandas as pd

_STAGING = ".weightscope-"
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


def check_writable(folder: Path) -> None:
    """Make the folder, and be sure a file can be written to it, before hours of work.

    Raises:
        OutputError: It cannot.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise OutputError(
            f"Results were to be written to {str(folder)!a}.",
            "Its name is no text, which some of the files' formats need.",
            "Choose a folder with another name.",
        ) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _failed(folder, error) from None


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
    for left in folder.glob(f"{_STAGING}*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
    try:
        write_csv(table, staging / "matrices.csv")
        table.to_parquet(staging / "matrices.parquet", index=False)
        write_csv(skipped, staging / "skipped.csv")
        _write_json(staging / "summary.json", summary)
        if spectra is not None:
            spectra.to_parquet(staging / "spectra.parquet", index=False)
        if weightwatcher is not None:
            write_csv(weightwatcher, staging / "weightwatcher.csv")
        if plots:
            _draw(staging, table, label)
        _write_json(staging / "provenance.json", provenance())
        written = [name for name in REPORT_FILES if (staging / name).exists()]
        for name in REPORT_FILES:  # all or none: what would fail half-way is looked for first
            if (folder / name).is_dir():
                raise IsADirectoryError(EISDIR, "Is a directory", str(folder / name))
        for name in REPORT_FILES:
            if name in written:
                (staging / name).replace(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
        (folder / JOURNAL_FILE).unlink(missing_ok=True)  # all of it is in the report now
    except OSError as error:
        raise _failed(folder, error) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return [folder / name for name in written]


def _draw(staging: Path, table: pd.DataFrame, label: str) -> None:
    for quantity in PLOTTED:
        try:
            figure = plot_quantity({label: table}, quantity)
        except SelectionError:
            return  # nothing selected belongs to a layer: there is nothing to plot against
        for ending in ("png", "svg"):
            save_figure(figure, staging / f"{quantity}.{ending}")


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
