"""`weightscope families`."""

from dataclasses import fields, is_dataclass
from typing import Annotated, Any

import typer

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

    typer.echo(yaml.safe_dump(_plain(load_family(name)), sort_keys=False, allow_unicode=True), nl=False)


def _plain(value: Any) -> Any:
    """Dataclasses to mappings without their defaults, tuples to lists, enums to text."""
    if is_dataclass(value):
        return {
            field.name: _plain(getattr(value, field.name))
            for field in fields(value)
            if field.compare and getattr(value, field.name) not in (field.default, {})
        }
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value
