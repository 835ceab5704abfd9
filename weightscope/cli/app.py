"""The commands, assembled. Nothing here may import torch or pandas: `--help` must be instant."""

from typing import Annotated

import typer

from weightscope.cli.analyze import EXAMPLES as ANALYZE_EXAMPLES
from weightscope.cli.analyze import analyze
from weightscope.cli.families import families
from weightscope.cli.inspect import inspect
from weightscope.cli.plot import plot
from weightscope.cli.run import EXAMPLES as RUN_EXAMPLES
from weightscope.cli.run import run
from weightscope.cli.train import train

app = typer.Typer(
    name="weightscope",
    help="Norms and ranks of every matrix of a pretrained model.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"weightscope {version('weightscope')}")
        raise typer.Exit


@app.callback(epilog="Start with:  weightscope analyze demo")
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Norms and ranks of every matrix of a pretrained model."""


app.command(epilog=ANALYZE_EXAMPLES)(analyze)
app.command()(inspect)
app.add_typer(families, name="families")
app.command()(plot)
app.command(epilog=RUN_EXAMPLES)(run)
app.add_typer(train, name="train")
