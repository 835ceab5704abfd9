"""`weightscope analyze`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from weightscope.checkpoints.reading import DEFAULT_CONNECTIONS
from weightscope.cli.options import (
    AllowPickleOption,
    CacheOption,
    ConnectionsOption,
    FamilyOption,
    JsonOption,
    OutOption,
    PartialOption,
    RevisionOption,
    SourceArgument,
    SubfolderOption,
    VerifyOption,
)
from weightscope.errors import OptionError

EXAMPLES = """
Examples:

  weightscope analyze demo

  weightscope analyze microsoft/phi-2 --out report

  weightscope analyze ./phi-2 --out report --spectrum

  weightscope analyze ./phi-2 --groups Q,K --layers 0-3 --json

  weightscope analyze ./phi-2 --groups all --out report --schema weightwatcher
"""


def analyze(
    source: SourceArgument,
    out: OutOption = None,
    revision: RevisionOption = None,
    subfolder: SubfolderOption = None,
    groups: Annotated[
        str,
        typer.Option(
            metavar="Q,K,…|all",
            help="Roles to analyse: those of attention and feed-forward if left out; all for embeddings, "
            "routers, convolutions and what has no role too.",
            show_default=False,
        ),
    ] = "Q,K,V,O,QKV,M1,G,M2,Q_A,Q_B,KV_A,K_R,K_B,V_B",
    layers: Annotated[
        str | None,
        typer.Option(metavar="0-3,7", help="Layers to analyse; all if left out.", show_default=False),
    ] = None,
    spectrum: Annotated[bool, typer.Option("--spectrum", help="Compute every singular value too.")] = False,
    epsilon: Annotated[
        str | None,
        typer.Option(
            metavar="E,E",
            help="Count the singular values above these shares of the largest; 1e-3,1e-2 if left out. "
            "Implies --spectrum.",
            show_default=False,
        ),
    ] = None,
    spectrum_method: Annotated[
        str, typer.Option(metavar="auto|svdvals|gram", help="How the singular values are computed.")
    ] = "auto",
    schema: Annotated[
        str,
        typer.Option(
            metavar="weightscope|weightwatcher",
            help="With weightwatcher, write weightwatcher.csv too, in that program's columns. "
            "Implies --spectrum.",
        ),
    ] = "weightscope",
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:1", help="Where to compute.")] = "auto",
    rtol: Annotated[
        float, typer.Option(help="Relative width of the interval around the spectral norm.")
    ] = 1e-6,
    bound: Annotated[
        str,
        typer.Option(
            metavar="residual|probable|audited|proved",
            help="How sure the upper end of that interval is, from residual (not at all) to proved.",
        ),
    ] = "probable",
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="4G|500MiB",
            help="What tensors and solvers may take; three quarters of what is free if left out. "
            "A matrix that is larger is read in blocks.",
            show_default=False,
        ),
    ] = None,
    family: FamilyOption = None,
    allow_pickle: AllowPickleOption = False,
    cache: CacheOption = False,
    connections: ConnectionsOption = DEFAULT_CONNECTIONS,
    verify: VerifyOption = False,
    partial: PartialOption = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run of the same --out DIR.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and stop; no weight is read.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit 3 if nothing was selected, or anything has no numbers."),
    ] = False,
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Write no pictures.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Norms and ranks of every selected matrix: a table by group, and files with --out."""
    from weightscope.analysis import analyze_checkpoint
    from weightscope.checkpoint import open_checkpoint
    from weightscope.cli import render, render_analysis
    from weightscope.cli.progress import bytes_progress
    from weightscope.families.select import parse_groups, parse_layers
    from weightscope.options import Options
    from weightscope.planning import groups_not_there, plan_analysis
    from weightscope.publish import check_writable, refuse_others
    from weightscope.report import JOURNAL_FILE
    from weightscope.sweep.memory import parse_memory

    if resume and out is None:
        raise OptionError(
            "An interrupted run was to be resumed.",
            "Its journal lies in the folder of its report, and none was named.",
            "Add --out DIR.",
        )
    if quiet or not sys.stderr.isatty():  # before huggingface_hub is loaded, which reads it once
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    in_their_columns = _parse_schema(schema, needs_folder=out is None and not dry_run)
    options = Options(
        groups=parse_groups(groups),
        layers=parse_layers(layers),
        spectrum=spectrum or epsilon is not None or in_their_columns,
        epsilon=_parse_epsilon(epsilon) if epsilon is not None else (1e-3, 1e-2),
        spectrum_method=spectrum_method,
        device=device,
        rtol=rtol,
        bound=bound,
        memory=parse_memory(memory),
    )
    try:
        opened = open_checkpoint(
            source,
            revision=revision,
            subfolder=subfolder,
            family=family,
            allow_pickle=allow_pickle,
            cache=cache,
            connections=connections,
            verify=verify,
            partial=partial,
        )
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        raise typer.Exit(130) from None
    with opened as checkpoint:
        if not quiet:
            notes = (*checkpoint.notes, *groups_not_there(checkpoint, options))
            render.notes(notes, checkpoint.detection.guesses)
        if dry_run:
            from weightscope.estimate import estimate

            render.dry_run(checkpoint, estimate(checkpoint, options), as_json=as_json)
            return
        plan_analysis(checkpoint, options)  # what is wrong with the options is said before a folder is made
        if out is not None:
            check_writable(out)
            refuse_others(out, "recipe.yaml", "a recipe or a training")
        journal = out / JOURNAL_FILE if out is not None else None
        if not quiet and journal is not None and journal.exists() and not resume:
            render.notes([f"'{journal}', of an interrupted run, is started anew; --resume goes on."], [])
        try:
            weights = checkpoint.source
            received = (lambda: weights.received_bytes) if weights.requests else None
            with bytes_progress(enabled=not quiet, received=received) as observe:
                analysis = analyze_checkpoint(
                    checkpoint, options, journal=journal, resume=resume, progress=observe
                )
        except KeyboardInterrupt:
            left = journal is not None and journal.exists()  # not if nothing was done yet
            more = f" The same command with --resume goes on from '{journal}'." if left else ""
            typer.echo(f"Interrupted.{more}", err=True)
            raise typer.Exit(130) from None
    files: list[Path] = analysis.save(out, plots=not no_plots, schema=schema) if out is not None else []
    if as_json:
        document = {**analysis.summary, "provenance": analysis.provenance, "files": [str(f) for f in files]}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        render_analysis.analysis(analysis, files, plots=not no_plots)
    if strict and not analysis.complete:
        raise typer.Exit(3)


def _parse_schema(schema: str, *, needs_folder: bool) -> bool:
    from weightscope.report import SCHEMAS, check_schema

    if check_schema(schema) == SCHEMAS[0]:
        return False
    if needs_folder:
        raise OptionError(
            f"The schema {schema!r} was asked for.",
            "It is a file of the report, and no folder was named for one.",
            "Add --out DIR.",
        )
    return True


def _parse_epsilon(text: str) -> tuple[float, ...]:
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise OptionError(
            f"The thresholds epsilon {text!r} were asked for.",
            "They are no numbers.",
            "Write for example 1e-3,1e-2.",
        ) from None
