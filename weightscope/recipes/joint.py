"""Several models' reports as one: tables a reader of the paper looks for, and the figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weightscope.plots import ATTENTION, FEED_FORWARD, Panel, draw, plot_quantity
from weightscope.recipes.outcome import ModelOutcome
from weightscope.summary import PRESERVED_GROUPS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# O stands beside Lemma 3's matrices and never among them: its norm is the paper's second open observation.
_APART = "O"
_DRAWN = (*ATTENTION, *FEED_FORWARD)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """One model's numbers, fresh or from the folder of an earlier run."""

    outcome: ModelOutcome
    """Which model."""
    table: pd.DataFrame
    """One row a matrix."""
    summary: Mapping[str, Any]
    """As in `summary.json`."""


def joint_matrices(reports: list[Report]) -> pd.DataFrame:
    """Every row of every model, the model's label in front."""
    import pandas as pd

    parts = [report.table.assign(model=report.outcome.label) for report in reports]
    whole = pd.concat(parts, ignore_index=True)
    return whole[["model", *(name for name in whole.columns if name != "model")]]


def joint_summary(reports: list[Report]) -> pd.DataFrame:
    """One row for each model, stack, attention kind and group: mean, min and max of norms and stable rank."""
    import pandas as pd

    rows = []
    for report in reports:
        over = {
            (entry["stack"], entry["attention_kind"], entry["group"]): entry
            for entry in report.summary["norm_preservation"]["over_layers"]
        }
        for entry in report.summary["groups"]:
            place = {name: entry[name] for name in ("stack", "attention_kind", "group")}
            spread = {
                f"{name}_{which}": entry[name][which]
                for name in ("stable_rank", "spectral_norm", "frobenius_norm")
                for which in ("mean", "min", "max")
            }
            variation = over.get(tuple(place.values()), {})
            rows.append(
                {
                    **_named(report),
                    **place,
                    "matrices": entry["matrices"],
                    "layers": entry["layers"],
                    **spread,
                    "stable_rank_gaussian": entry["stable_rank_gaussian"],
                    "stable_rank_harmonic_mean": entry["harmonic_mean_stable_rank"],
                    "frobenius_norm_max_over_min": variation.get("max_over_min"),
                    "frobenius_norm_coefficient_of_variation": variation.get("coefficient_of_variation"),
                }
            )
    return pd.DataFrame(rows)


def norm_preservation(reports: list[Report]) -> pd.DataFrame:
    """Lemma 3 in one row a model and stack: Frobenius norms of QKV, M1 and M2, and O apart.

    `layers` counts those that have all three. `within_layer_max_over_min_mean` and `_max` are of a layer's
    three norms, `within_layer_worst` is the layer of the latter, `within_layer_coefficient_of_variation` a
    mean over layers. `over_layers_max_over_min_X` is of a group's norms. `o_over_mean`, `_min` and `_max` are
    ‖O‖_F over the mean of its layer's three norms. Undefined cells are empty.

    Source: Kuzborskij and Abbasi Yadkori 2025, Lemma 3 and section 6.1.
    """
    import pandas as pd

    rows = []
    for report in reports:
        norms = _norms_by_layer(report.table)
        found = report.summary["norm_preservation"]
        for stack, by_layer in norms.items():
            within = [
                e for e in found["within_layers"] if e["stack"] == stack and e["max_over_min"] is not None
            ]
            worst = max(within, key=lambda entry: float(entry["max_over_min"]), default=None)
            over = {
                e["group"]: e["max_over_min"]
                for e in found["over_layers"]
                if e["stack"] == stack and e["attention_kind"] != "cross"
            }
            whole = by_layer.reindex(columns=[*PRESERVED_GROUPS, _APART]).dropna()
            ratio = whole[_APART] / whole[list(PRESERVED_GROUPS)].mean(axis="columns")
            rows.append(
                {
                    **_named(report),
                    "stack": stack,
                    "layers": len(within),
                    "within_layer_max_over_min_mean": _mean(e["max_over_min"] for e in within),
                    "within_layer_max_over_min_max": worst and worst["max_over_min"],
                    "within_layer_worst": worst and worst["layer"],
                    "within_layer_coefficient_of_variation": _mean(
                        e["coefficient_of_variation"] for e in within
                    ),
                    **{f"over_layers_max_over_min_{g}": over.get(g) for g in (*PRESERVED_GROUPS, _APART)},
                    "o_over_mean": ratio.mean(),
                    "o_over_mean_min": ratio.min(),
                    "o_over_mean_max": ratio.max(),
                }
            )
    table = pd.DataFrame(rows)
    return table.astype({"within_layer_worst": "Int64"}) if len(table) else table


def can_be_drawn(report: Report) -> bool:
    """Whether a row of it belongs to a layer and to a group that figures show."""
    table = report.table
    return bool((table["layer"].notna() & table["group"].isin(_DRAWN)).any())


def joint_figure(reports: list[Report], quantities: list[str]) -> Figure:
    """One row of panels a model, a panel a quantity; one quantity alone as attention beside feed-forward.

    Raises:
        SelectionError: Nothing can be drawn.
    """
    tables = {report.outcome.label: report.table for report in reports}
    if len(quantities) == 1:
        return plot_quantity(tables, quantities[0])
    return draw(tables, [Panel(quantity, _DRAWN) for quantity in quantities])


def _named(report: Report) -> dict[str, Any]:
    return {
        "model": report.outcome.label,
        "checkpoint": report.outcome.reference,
        "revision": report.summary["revision"],
    }


def _norms_by_layer(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """For each stack, Frobenius norms with a row a layer and a column a group; experts as their mean."""
    usable = table[(table["status"] == "ok") & table["layer"].notna() & (table["attention_kind"] != "cross")]
    return {
        str(stack): rows.pivot_table(index="layer", columns="group", values="frobenius_norm")
        for stack, rows in usable.groupby("stack", sort=False)
    }


def _mean(values: Any) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
