"""`weightscope plot`."""

from pathlib import Path
from typing import Annotated

import typer

from weightscope.errors import OutputError


def plot(
    tables: Annotated[
        list[Path],
        typer.Argument(
            metavar="A.csv [B.csv …]",
            help="Tables that analyze --out DIR wrote, or their folders.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Picture to write: .png, .svg or .pdf.")] = Path(
        "weightscope.png"
    ),
    quantity: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Draw this column, attention beside feed-forward; else stable rank beside Frobenius norm.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Draw tables that analyze wrote: value against layer, one line a group, a row of panels a table."""
    from weightscope.plots import plot_overview, plot_quantity, save_figure
    from weightscope.table import read_table

    found = {}
    for path in tables:
        table = read_table(path)
        checkpoint = str(table["checkpoint"].iloc[0]) if len(table) else str(path)
        label = Path(checkpoint).name or checkpoint
        # Two runs of one checkpoint are told apart by their files, one file drawn twice by a number.
        candidates = [label, f"{label} ({path})", *(f"{label} ({path}, {n})" for n in range(2, 100))]
        found[next(name for name in candidates if name not in found)] = table
    figure = plot_quantity(found, quantity) if quantity else plot_overview(found)
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise _failed(out, f"its ending {out.suffix!r} is no picture's" if out.suffix else "it has no ending")
    try:
        save_figure(figure, out)
    except OSError as error:
        raise _failed(out, str(error.strerror)) from None
    typer.echo(out)


def _failed(out: Path, reason: str) -> OutputError:
    return OutputError(
        f"The picture was to be written to '{out}'.",
        f"That failed: {reason}.",
        "Choose a path you can write to that ends in .png, .svg or .pdf.",
    )
