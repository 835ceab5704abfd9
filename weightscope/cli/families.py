"""`weightscope families`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from weightscope.cli.options import (
    AllowPickleOption,
    CacheOption,
    FamilyOption,
    RevisionOption,
    SourceArgument,
    SubfolderOption,
)

if TYPE_CHECKING:
    from weightscope.families.spec import FamilySpec

families = typer.Typer(invoke_without_command=True)


@families.callback(invoke_without_command=True)
def _list(
    context: typer.Context,
    verified: Annotated[
        bool, typer.Option("--verified", help="Print how each family was verified, instead of its groups.")
    ] = False,
) -> None:
    """List the families of models whose weights are known by name, each with its groups.

    Attention: Q K V O, and QKV for the first three stacked; Q_A Q_B KV_A K_R K_B V_B in latent attention.

    Feed-forward: M1 (up), G (gate), M2 (down).
    """
    if context.invoked_subcommand is not None:
        return
    from weightscope.families.registry import FAMILIES
    from weightscope.families.verification import verification

    width = max(map(len, FAMILIES))
    for spec in FAMILIES.values():
        if verified:
            typer.echo(f"{spec.name:{width}}  {verification(spec)}")
            continue
        typer.echo(f"{spec.name:{width}}  {' '.join(_groups(spec))}")


def _groups(spec: FamilySpec) -> list[str]:
    """The groups that a table of the family has rows of, the parts of fused weights included."""
    from weightscope.families.layouts import QKV_LAYOUTS
    from weightscope.families.matrix import GROUP_ORDER
    from weightscope.families.spec import Group

    assigned = {group for pattern in spec.patterns for group in pattern.groups}
    parts = {Group.Q, Group.K, Group.V}
    if any(pattern.layout in QKV_LAYOUTS for pattern in spec.patterns):
        assigned |= parts
    if parts <= assigned:  # stacked, where they are stored apart
        assigned.add(Group.QKV)
    return [group for group in GROUP_ORDER if group in assigned]


@families.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="A family's name, or a YAML file.", show_default=False)
    ],
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
