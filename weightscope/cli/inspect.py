"""`weightscope inspect`."""

import json

import typer

from weightscope.cli.options import (
    AllowPickleOption,
    CacheOption,
    FamilyOption,
    JsonOption,
    PartialOption,
    RevisionOption,
    SourceArgument,
    SubfolderOption,
)


def inspect(
    source: SourceArgument,
    revision: RevisionOption = None,
    subfolder: SubfolderOption = None,
    family: FamilyOption = None,
    allow_pickle: AllowPickleOption = False,
    cache: CacheOption = False,
    partial: PartialOption = False,
    as_json: JsonOption = False,
) -> None:
    """Sizes and roles from headers and config alone; no weight is read."""
    from weightscope.cli import render, render_inspection
    from weightscope.inspection import inspect as inspect_checkpoint

    found = inspect_checkpoint(
        source,
        revision=revision,
        subfolder=subfolder,
        family=family,
        allow_pickle=allow_pickle,
        cache=cache,
        partial=partial,
    )
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
        return
    render.notes(found.notes, found.guesses)
    render_inspection.inspection(found)
