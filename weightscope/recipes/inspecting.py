"""Recipes of sizes: each model's headers, beside the paper's numbers (paper A's Table 1)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from weightscope.errors import WeightscopeError
from weightscope.inspection import Inspection, inspect
from weightscope.recipes.load import LoadedRecipe
from weightscope.recipes.outcome import Listener, ModelOutcome, Outcome, reference_of, stated
from weightscope.recipes.results import models_provenance, write_results
from weightscope.recipes.spec import InspectedModelSpec, InspectRecipe

SIZES = ("layers", "model_dimension", "feed_forward_dimension", "parameters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A model's sizes and the paper's."""

    outcome: ModelOutcome
    """Which model, and whether it could be read."""
    family: str
    """Its family; empty if it could not be read."""
    found: dict[str, int | None]
    """What headers and config tell."""
    expected: dict[str, int | None]
    """What the paper prints."""
    differing: tuple[str, ...]
    """Sizes that are not the paper's."""

    @property
    def agrees(self) -> bool | None:
        """Whether every size that the paper prints is found; None if there is nothing to compare."""
        if self.outcome.error is not None or not any(self.expected.values()):
            return None
        return not self.differing

    def as_row(self) -> dict[str, Any]:
        """A row of the CSV; an undefined cell is empty."""
        sizes = {
            name: cell
            for size in SIZES
            for name, cell in ((size, self.found[size]), (f"{size}_paper", self.expected[size]))
        }
        return {
            "model": self.outcome.label,
            "checkpoint": self.outcome.reference,
            "family": self.family,
            **sizes,
            "agrees": {True: "yes", False: "no", None: ""}[self.agrees],
            "differing": " ".join(self.differing),
            "status": self.outcome.status,
        }


def run_inspect(
    loaded: LoadedRecipe, recipe: InspectRecipe, folder: Path, listener: Listener
) -> tuple[Outcome, list[Comparison]]:
    """Inspect every model and write the table.

    Raises:
        OutputError: It could not be written.
    """
    started = perf_counter()
    rows = []
    for number, (name, model) in enumerate(recipe.models.items(), start=1):
        rows.append(_inspect(name, model, recipe, listener, (number, len(recipe.models))))
    models = tuple(row.outcome for row in rows)
    files: tuple[Path, ...] = ()
    if any(model.status == "done" for model in models):
        files = write_results(
            folder,
            loaded,
            writers={f"{loaded.file}.csv": lambda path: _write_table(path, rows)},
            provenance=models_provenance(models, perf_counter() - started),
        )
    reservations = tuple(
        f"{row.outcome.label} is not as in the paper: {', '.join(row.differing).replace('_', ' ')}."
        for row in rows
        if row.differing
    )
    return Outcome(models=models, files=files, reservations=reservations), rows


def _inspect(
    name: str, model: InspectedModelSpec, recipe: InspectRecipe, listener: Listener, place: tuple[int, int]
) -> Comparison:
    label, reference = model.label or name, stated(model)
    expected = {size: getattr(model.expected, size) for size in SIZES}
    listener.begins(label, reference, *place)
    try:
        reference = reference_of(model)
        found = inspect(reference, family=model.family, allow_pickle=model.allow_pickle, cache=model.cache)
    except WeightscopeError as error:
        listener.fails(label, error)
        return Comparison(
            outcome=ModelOutcome(name=name, label=label, reference=reference, status="failed", error=error),
            family="",
            found=dict.fromkeys(SIZES),
            expected=expected,
            differing=(),
        )
    listener.notes(found.notes, found.guesses)
    within = {"parameters": recipe.table.parameters_within}
    return Comparison(
        outcome=ModelOutcome(name=name, label=label, reference=reference, status="done"),
        family=found.family,
        found={size: getattr(found, size) for size in SIZES},
        expected=expected,
        differing=tuple(size for size in SIZES if _differs(found, expected, size, within.get(size, 0.0))),
    )


def _differs(found: Inspection, expected: dict[str, int | None], size: str, within: float) -> bool:
    wanted, value = expected[size], getattr(found, size)
    if wanted is None:
        return False
    return value is None or abs(value - wanted) > within * wanted


def _write_table(path: Path, rows: Sequence[Comparison]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0].as_row()), lineterminator="\n")
        table.writeheader()
        table.writerows(row.as_row() for row in rows)
