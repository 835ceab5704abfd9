"""Recipes of norms and ranks: a report for each model, then all of them in one figure (paper A's 1 and 4)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from weightscope.analysis import analyze_checkpoint
from weightscope.checkpoint import Checkpoint, open_checkpoint
from weightscope.counting import counted
from weightscope.errors import WeightscopeError
from weightscope.estimate import Estimate, estimate
from weightscope.options import Options
from weightscope.planning import plan_analysis
from weightscope.plots import save_figure
from weightscope.provenance import run_identity
from weightscope.publish import check_writable, refuse_others, remove_if_empty
from weightscope.recipes.finished import is_finished, remember
from weightscope.recipes.joint import (
    Report,
    can_be_drawn,
    joint_figure,
    joint_matrices,
    joint_summary,
    norm_preservation,
)
from weightscope.recipes.load import LoadedRecipe
from weightscope.recipes.outcome import Listener, ModelOutcome, Outcome, Status, reference_of, stated
from weightscope.recipes.results import PROVENANCE_FILE, models_provenance, write_results
from weightscope.recipes.spec import AnalyzeRecipe, ModelSpec
from weightscope.report import JOURNAL_FILE
from weightscope.table import read_table, write_csv


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """What a run would do with one model."""

    outcome: ModelOutcome
    """Which, and whether it would fail or be kept."""
    estimate: Estimate | None = None
    """What it would cost, if it is to be done."""


def plan_models(recipe: AnalyzeRecipe, folder: Path, *, resume: bool) -> Iterator[PlannedModel]:
    """What `run_analyze` would do, from headers alone; nothing is written."""
    options = recipe.options.options()
    for name, model in recipe.models.items():
        label, reference = model.label or name, stated(model)
        try:
            reference = reference_of(model)
            with _open(model, reference) as checkpoint:
                kept = resume and is_finished(folder / name, _identity(checkpoint, options))
                found = None if kept else estimate(checkpoint, options)
        except WeightscopeError as error:
            outcome = ModelOutcome(name=name, label=label, reference=reference, status="failed", error=error)
            yield PlannedModel(outcome=outcome)
            continue
        status: Status = "kept" if kept else "done"
        yield PlannedModel(
            outcome=ModelOutcome(name=name, label=label, reference=reference, status=status), estimate=found
        )


def run_analyze(
    loaded: LoadedRecipe, recipe: AnalyzeRecipe, folder: Path, listener: Listener, *, resume: bool
) -> tuple[Outcome, list[Report]]:
    """Analyse every model, each with a report and a journal of its own, and write what joins them.

    Raises:
        DeviceUnavailable: The device is not here.
        OutputError: The folder cannot be written to.
    """
    from weightscope.sweep.devices import resolve_device

    started, options = perf_counter(), recipe.options.options()
    resolve_device(options.device)  # what is wrong for every model is said once, before any is opened
    is_new = not folder.exists()
    check_writable(folder)
    refuse_others(folder, "summary.json", "an analysis")
    models: list[ModelOutcome] = []
    reports: list[Report] = []
    for number, (name, model) in enumerate(recipe.models.items(), start=1):
        label, reference = model.label or name, stated(model)
        listener.begins(label, reference, number, len(recipe.models))
        try:
            reference = reference_of(model)
            outcome = ModelOutcome(name=name, label=label, reference=reference, status="done")
            reports.append(_analyse(outcome, model, options, folder / name, listener, resume=resume))
            models.append(reports[-1].outcome)
        except WeightscopeError as error:
            listener.fails(label, error)
            remove_if_empty(folder / name)
            models.append(
                ModelOutcome(name=name, label=label, reference=reference, status="failed", error=error)
            )
    reservations = list(_reservations(reports))
    files: tuple[Path, ...] = ()
    if reports:
        drawn = [report for report in reports if can_be_drawn(report)]
        files = _write(loaded, recipe, folder, models, reports, drawn, perf_counter() - started)
    elif is_new:
        remove_if_empty(folder)
    return Outcome(models=tuple(models), files=files, reservations=tuple(reservations)), reports


def _analyse(
    outcome: ModelOutcome,
    model: ModelSpec,
    options: Options,
    folder: Path,
    listener: Listener,
    *,
    resume: bool,
) -> Report:
    """One model's report: that of an earlier run if it may stay, else a new one."""
    with _open(model, outcome.reference) as checkpoint:
        listener.notes(checkpoint.notes, checkpoint.detection.guesses)
        identity = _identity(checkpoint, options)
        if resume and is_finished(folder, identity):
            return _kept(outcome, folder)
        check_writable(folder)
        journal = folder / JOURNAL_FILE
        if resume and (folder / PROVENANCE_FILE).exists() and not journal.exists():
            listener.notes([f"The report in '{folder}' is not of this run, or was changed: it is done anew."])
        if journal.exists() and not resume:
            listener.notes([f"'{journal}', of an interrupted run, is started anew; --resume goes on."])
        with listener.progress(outcome.label) as observe:
            analysis = analyze_checkpoint(
                checkpoint, options, journal=journal, resume=resume, progress=observe
            )
    analysis.save(folder)
    remember(folder, identity)
    return Report(outcome=outcome, table=analysis.table, summary=analysis.summary)


def _open(model: ModelSpec, reference: str) -> Checkpoint:
    return open_checkpoint(reference, family=model.family, allow_pickle=model.allow_pickle, cache=model.cache)


def _identity(checkpoint: Checkpoint, options: Options) -> dict[str, Any]:
    fitted, device = plan_analysis(checkpoint, options)
    return run_identity(checkpoint, fitted.plan, options, device)


def _kept(outcome: ModelOutcome, folder: Path) -> Report:
    kept = ModelOutcome(name=outcome.name, label=outcome.label, reference=outcome.reference, status="kept")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return Report(outcome=kept, table=read_table(folder), summary=summary)


def _reservations(reports: list[Report]) -> Iterator[str]:
    for report in reports:
        counts, label = report.summary["coverage"], report.outcome.label
        if missing := counts["selected"] - counts["analysed"]:
            yield f"{label}: {missing} of {counts['selected']} matrices have no numbers (NaN or infinity)."
        if skipped := counts["skipped"] - counts["harmless"]:
            yield f"{label}: {counted(skipped, 'tensor')} skipped; skipped.csv says why."
        if not can_be_drawn(report):
            yield f"{label} is not in the figure: none of its analysed matrices belongs to a layer."


def _write(
    loaded: LoadedRecipe,
    recipe: AnalyzeRecipe,
    folder: Path,
    models: list[ModelOutcome],
    reports: list[Report],
    drawn: list[Report],
    seconds: float,
) -> tuple[Path, ...]:
    pictures = [f"{loaded.file}.png", f"{loaded.file}.svg"]
    figure = joint_figure(drawn, recipe.figure.quantities) if drawn else None
    return write_results(
        folder,
        loaded,
        writers={
            **({name: lambda path: save_figure(figure, path) for name in pictures} if figure else {}),
            "norm_preservation.csv": lambda path: write_csv(norm_preservation(reports), path),
            "summary.csv": lambda path: write_csv(joint_summary(reports), path),
            "matrices.csv": lambda path: write_csv(joint_matrices(reports), path),
        },
        provenance=models_provenance(models, seconds),
        optional=pictures,
    )
