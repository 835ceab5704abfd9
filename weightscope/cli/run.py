"""`weightscope run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
Examples:

  weightscope run --list

  weightscope run paper_a/table1

  weightscope run paper_a/figure1 --set models.phi-2.source=./phi-2 --set models.gpt-j=null

  weightscope run my-recipe.yaml --out results --resume
"""


def run(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="A shipped recipe such as paper_a/figure1, or a YAML file.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a key of the recipe, dotted, its value as YAML; may be repeated.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Write the results here; else a folder named like the recipe.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished models of the same --out DIR, go on with others.")
    ] = False,
    list_recipes: Annotated[
        bool, typer.Option("--list", help="Print the recipes that come with weightscope and stop.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done and stop; no weight is read.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit 3 if a matrix has no numbers, a size is not the paper's or a claim not held.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Reproduce a published table or figure, for several models at once."""
    from weightscope.cli import render_recipe
    from weightscope.cli.terminal import Terminal
    from weightscope.cli.train import train_into
    from weightscope.recipes import load
    from weightscope.recipes.run import run_recipe, trains

    if recipe is None or list_recipes:
        render_recipe.listing(load.list_recipes())
        return
    loaded = load.load_recipe(recipe, settings or [])
    folder = out if out is not None else Path(loaded.stem)
    if trains(loaded) and not dry_run:
        train_into(loaded, folder, resume=resume, strict=strict, quiet=quiet)
        return
    if dry_run:
        if render_recipe.plan(loaded, folder, resume=resume):
            raise typer.Exit(1)
        return
    try:
        outcome, rows = run_recipe(loaded, folder, Terminal(quiet=quiet), resume=resume)
    except KeyboardInterrupt:
        typer.echo("Interrupted. The same command with --resume goes on from there.", err=True)
        raise typer.Exit(130) from None
    render_recipe.outcome(loaded, folder, outcome, rows)
    if outcome.failed:
        raise typer.Exit(1)
    if strict and outcome.reservations:
        raise typer.Exit(3)
