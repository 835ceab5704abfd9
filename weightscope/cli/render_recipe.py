"""What `weightscope run` prints: its tables on stdout, what failed on stderr."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from weightscope.cli.render import NOTHING, byte_count, console, duration, figure, print_whole
from weightscope.counting import counted
from weightscope.recipes.inspecting import SIZES, Comparison
from weightscope.recipes.outcome import stated
from weightscope.recipes.spec import AnalyzeRecipe, InspectRecipe

if TYPE_CHECKING:
    from weightscope.recipes.joint import Report
    from weightscope.recipes.load import LoadedRecipe
    from weightscope.recipes.outcome import Outcome


_NORMS_EXPLAINED = """\
stable rank: ‖W‖_F/‖W‖₂, harmonic mean over QKV, O, M1, G and M2, beside that of
Gaussian matrices of the same shapes; within a layer: max/min of ‖W‖_F over QKV,
M1 and M2; QKV, M1, M2, O: max/min of ‖W‖_F over the layers; O/mean: ‖O‖_F over
the mean of its layer's ‖QKV‖_F, ‖M1‖_F and ‖M2‖_F"""


def listing(recipes: Mapping[str, LoadedRecipe]) -> None:
    """Name and title of each recipe."""
    width = max(map(len, recipes), default=0)
    out = console()
    for name, loaded in recipes.items():
        item = f"{loaded.recipe.paper.item}: " if loaded.recipe.paper else ""
        out.print(Text(f"{name:{width}}  {item}{loaded.recipe.title}"), soft_wrap=True)


def plan(loaded: LoadedRecipe, folder: Path, *, resume: bool) -> bool:
    """What would be done with each model; whether one of them would fail."""
    heading(loaded)
    out = console()
    failing = False
    if isinstance(loaded.recipe, InspectRecipe):
        for name, model in loaded.recipe.models.items():
            out.print(Text(f"{model.label or name}: headers and config of {stated(model)}"), soft_wrap=True)
    elif isinstance(loaded.recipe, AnalyzeRecipe):
        failing = _plan_analysis(loaded.recipe, folder, resume=resume)
    else:
        for name, value in asdict(loaded.recipe.setting).items():
            out.print(Text(f"{name}: {_plain(value)}"), soft_wrap=True)
    out.print(Text(f"Results would be written to {folder}{os.sep}"))
    return failing


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _plan_analysis(recipe: AnalyzeRecipe, folder: Path, *, resume: bool) -> bool:
    from weightscope.recipes.analysing import plan_models

    out, failing = console(), False
    for planned in plan_models(recipe, folder, resume=resume):
        model, cost = planned.outcome, planned.estimate
        name = f"{model.label} ({model.reference})"
        if model.error is not None:
            failing = True
            out.print(
                Text(f"{name}: {type(model.error).__name__}: {model.error}", style="red"), soft_wrap=True
            )
        elif cost is None:
            out.print(Text(f"{name}: its report is there already and would be kept"), soft_wrap=True)
        else:
            out.print(
                Text(
                    f"{name}: {counted(cost.matrices, 'matrix', 'matrices')} "
                    f"from {counted(cost.tensors, 'tensor')}, {byte_count(cost.read_bytes)} to read"
                ),
                soft_wrap=True,
            )
            out.print(
                Text(f"  memory for tensors and solvers: {byte_count(cost.memory_bytes)} on {cost.device}")
            )
            out.print(
                Text(
                    f"  time: about {duration(cost.estimated_seconds)} (an estimate, files in the page cache)"
                )
            )
    return failing


def outcome(
    loaded: LoadedRecipe, folder: Path, found: Outcome, rows: Sequence[Comparison] | Sequence[Report]
) -> None:
    """The table, the files, and at the end what failed."""
    out = console()
    if found.files:
        heading(loaded)
        if isinstance(loaded.recipe, InspectRecipe):
            print_whole(out, _sizes([row for row in rows if isinstance(row, Comparison)]))
        else:
            from weightscope.recipes.joint import Report

            print_whole(out, _norms([row for row in rows if isinstance(row, Report)]))
            out.print(Text(_NORMS_EXPLAINED), soft_wrap=True)
    for sentence in found.reservations:
        out.print(Text(sentence, style="yellow"), soft_wrap=True)
    done = [model for model in found.models if model.status != "failed"]
    kept = [model.label for model in done if model.status == "kept"]
    if kept:
        out.print(Text(f"kept from an earlier run: {', '.join(kept)}"), soft_wrap=True)
    if not found.files:
        out.print(Text("Every model failed; nothing was written."))
    else:
        names = ", ".join(file.name for file in found.files)
        out.print(Text(f"{counted(len(found.files), 'file')} in {folder}{os.sep}: {names}"), soft_wrap=True)
        if not isinstance(loaded.recipe, InspectRecipe):
            reports = ", ".join(f"{model.name}{os.sep}" for model in done)
            out.print(Text(f"and a report for each model in {reports}"), soft_wrap=True)
    if found.failed:
        _failures(found)


def _failures(found: Outcome) -> None:
    err = console(stderr=True)
    err.print(Text(f"{len(found.failed)} of {counted(len(found.models), 'model')} failed:"), style="red")
    for model in found.failed:
        err.print(Text(f"  {model.label}: {type(model.error).__name__}: {model.error}"), soft_wrap=True)


def heading(loaded: LoadedRecipe) -> None:
    """Title, what it reproduces and what must come out."""
    out, recipe = console(), loaded.recipe
    out.print(Text(_one_line(recipe.title), style="bold"), soft_wrap=True)
    if recipe.paper:
        out.print(Text(_one_line(f"{recipe.paper.item} of {recipe.paper.reference}")), soft_wrap=True)
        out.print(Text(f"What must come out: {_one_line(recipe.paper.outcome)}"), soft_wrap=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sizes(rows: Sequence[Comparison]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("model")
    with_paper = any(any(row.expected.values()) for row in rows)
    for name in ("layers", "model dim", "FF dim", "parameters"):
        table.add_column(name, justify="right", no_wrap=True)
        if with_paper:
            table.add_column("paper", justify="right", no_wrap=True, style="dim")
    if with_paper:
        table.add_column("agrees")
    for row in rows:
        cells = []
        for size in SIZES:
            approximate = "≈" if size == "parameters" and row.expected[size] else ""
            cells.append(_size(size, row.found[size]))
            if with_paper:
                cells.append(approximate + _size(size, row.expected[size]))
        verdict = {True: "yes", False: "no", None: NOTHING}[row.agrees]
        if row.outcome.error is not None:
            verdict = "not read"
        table.add_row(Text(row.outcome.label), *cells, *([verdict] if with_paper else []))
    return table


def _size(name: str, value: int | None) -> str:
    if value is None:
        return NOTHING
    if name != "parameters":
        return str(value)
    for unit, power in (("B", 9), ("M", 6), ("k", 3)):
        if value >= 10**power:
            return f"{value / 10**power:.4g}{unit}"
    return str(value)


def _norms(reports: Sequence[Report]) -> Table:
    from weightscope.recipes.joint import norm_preservation
    from weightscope.summary import PRESERVED_GROUPS

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("model", overflow="fold")
    for name in (
        "layers",
        "stable\nrank",
        "Gaussian",
        "within a layer\nmean  worst",
        *PRESERVED_GROUPS,
        "O",
        "O/mean",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    rows = norm_preservation(list(reports)).astype(object)
    several = rows["model"].duplicated().any() if len(rows) else False
    ranks = {report.outcome.label: _ranks(report.summary) for report in reports}
    for row in rows.where(rows.notna(), None).to_dict("records"):
        stack = f" {row['stack']}" if several else ""
        mean, worst = row["within_layer_max_over_min_mean"], row["within_layer_max_over_min_max"]
        table.add_row(
            Text(f"{row['model']}{stack}"),
            str(row["layers"]),
            *ranks[row["model"]],
            NOTHING if mean is None else f"{figure(mean)}   {figure(worst)}",
            *(figure(row[f"over_layers_max_over_min_{group}"]) for group in (*PRESERVED_GROUPS, "O")),
            figure(row["o_over_mean"]),
        )
    return table


def _ranks(summary: Mapping[str, Any]) -> tuple[str, str]:
    """Harmonic mean of the stable rank, and what Gaussian matrices of these shapes would have."""
    groups = [g for g in summary["groups"] if g["group"] in ("QKV", "O", "M1", "G", "M2")]
    gaussian = [(g["stable_rank_gaussian"], g["matrices"]) for g in groups if g["stable_rank_gaussian"]]
    inverse = sum(count / value for value, count in gaussian)
    return (
        figure(summary["all"]["harmonic_mean_stable_rank"]),
        figure(sum(count for _, count in gaussian) / inverse if inverse else None),
    )
