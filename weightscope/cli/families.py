"""`weightscope families`."""

from typing import Annotated

import typer

from weightscope.cli.options import (
    AllowPickleOption,
    CacheOption,
    FamilyOption,
    RevisionOption,
    SourceArgument,
    SubfolderOption,
)

families = typer.Typer(help="The families weightscope knows, as data.", invoke_without_command=True)


@families.callback(invoke_without_command=True)
def _list(
    context: typer.Context,
    verified: Annotated[
        bool, typer.Option("--verified", help="Print how each family was verified, instead of its groups.")
    ] = False,
) -> None:
    """The families weightscope knows, as data."""
    if context.invoked_subcommand is not None:
        return
    from weightscope.families.registry import FAMILIES
    from weightscope.families.spec import Group
    from weightscope.families.verification import verification

    width = max(map(len, FAMILIES))
    for spec in FAMILIES.values():
        if verified:
            typer.echo(f"{spec.name:{width}}  {verification(spec)}")
            continue
        assigned = {group for pattern in spec.patterns for group in pattern.groups}
        typer.echo(f"{spec.name:{width}}  {' '.join(group for group in Group if group in assigned)}")


@families.command()
def show(
    name: Annotated[str, typer.Argument(help="A family's name, or a YAML file.", show_default=False)],
) -> None:
    """Print a family as the YAML that --family reads; correct a copy to describe your own."""
    import yaml

    from weightscope.families.family_file import load_family
    from weightscope.families.family_text import plain

    typer.echo(yaml.safe_dump(plain(load_family(name)), sort_keys=False, allow_unicode=True), nl=False)


@families.command()
def draft(
    source: SourceArgument,
    revision: RevisionOption = None,
    subfolder: SubfolderOption = None,
    family: FamilyOption = None,
    allow_pickle: AllowPickleOption = False,
    cache: CacheOption = False,
) -> None:
    """Print a family file drafted from a checkpoint's names and shapes, to correct and use with --family.

    Write it to a file:  weightscope families draft SOURCE > my.yaml
    """
    from weightscope.cli import render
    from weightscope.drafting import draft_family

    found = draft_family(
        source,
        revision=revision,
        subfolder=subfolder,
        family=family,
        allow_pickle=allow_pickle,
        cache=cache,
    )
    render.notes(found.notes, [])
    typer.echo(found.text, nl=False)
