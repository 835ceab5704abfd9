"""What a table says in a few numbers: by group, over everything, and how far norms are preserved."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from weightscope.over_experts import NUMBERED, SUMMARISED, expert_kind

if TYPE_CHECKING:
    import pandas as pd

# Lemma 3 of Kuzborskij and Abbasi Yadkori 2025 is about matrices whose product is the network; O is
# the paper's own exception (section 6.1) and stays apart.
PRESERVED_GROUPS = ("QKV", "M1", "M2")
_PLACE = ["stack", "attention_kind", "group", "expert"]


def summarise(table: pd.DataFrame) -> dict[str, Any]:
    """The summary of a table, ready for JSON: undefined numbers are None.

    Returns:
        `groups`: one entry a stack, attention kind and group, where numbered experts and shared ones have an
        entry each (`expert` is `numbered`, `shared` or empty); `all`: over QKV (or Q, K and V where
        there is none), O, M1, G and M2, nothing twice; `norm_preservation`: largest over smallest and
        coefficient of variation of ‖·‖_F, `within_layers` over {QKV, M1, M2} and `over_layers` for
        each group.
    """
    table = table.assign(expert=expert_kind(table))
    usable = table[table["status"] == "ok"]
    groups = [
        {**dict(zip(_PLACE, place, strict=True)), **_of_rows(rows)}
        for place, rows in table.groupby(_PLACE, sort=False)
    ]
    counted = _nothing_twice(usable)
    return {
        "groups": groups,
        "all": {"groups": _in_order(counted["group"]), **_inverse_means(counted)},
        "norm_preservation": _norm_preservation(usable),
    }


def _in_order(groups: pd.Series[str]) -> list[str]:
    """The groups that are there, what stands for the attention first."""
    there = set(groups)
    return [name for name in ("QKV", "Q", "K", "V", "O", "M1", "G", "M2") if name in there]


def _of_rows(rows: pd.DataFrame) -> dict[str, Any]:
    ok = rows[rows["status"] == "ok"]
    numbered = (rows["expert"] == NUMBERED).any()
    shapes = rows[["out_features", "in_features"]].drop_duplicates()
    return {
        "matrices": len(rows),
        "layers": int(rows["layer"].nunique()),
        "experts": int(rows[rows["expert"] == NUMBERED].groupby("layer").size().max()) if numbered else 0,
        "status": {str(k): int(v) for k, v in rows["status"].value_counts().items()},
        "shapes": [[int(m), int(n)] for m, n in shapes.itertuples(index=False)],
        **{name: _spread(ok[name]) for name in SUMMARISED},
        "stable_rank_gaussian": _number(ok["stable_rank_gaussian"].mean()),
        **_inverse_means(ok),
    }


def _spread(values: pd.Series[float]) -> dict[str, float | None]:
    return {"mean": _number(values.mean()), "min": _number(values.min()), "max": _number(values.max())}


def _inverse_means(rows: pd.DataFrame) -> dict[str, Any]:
    mean_inverse = float((1 / rows["stable_rank"]).mean())
    return {
        "mean_inverse_stable_rank": _number(mean_inverse),
        "harmonic_mean_stable_rank": _number(1 / mean_inverse),
    }


def _nothing_twice(rows: pd.DataFrame) -> pd.DataFrame:
    """QKV, O, M1, G, M2; Q, K and V only in attentions that have no QKV."""
    import pandas as pd

    attentions = list(zip(rows["stack"], rows["layer"].fillna(-1), rows["attention_kind"], strict=True))
    with_qkv = {place for place, group in zip(attentions, rows["group"], strict=True) if group == "QKV"}
    counted = [
        group in ("QKV", "O", "M1", "G", "M2") or (group in ("Q", "K", "V") and place not in with_qkv)
        for place, group in zip(attentions, rows["group"], strict=True)
    ]
    return rows.loc[pd.Series(counted, index=rows.index, dtype=bool)]


def _norm_preservation(rows: pd.DataFrame) -> dict[str, Any]:
    norms = rows[rows["group"].isin(PRESERVED_GROUPS)]
    within = []
    for (stack, _), members in norms.groupby(["stack", "layer"], sort=False):
        if set(members["group"]) == set(PRESERVED_GROUPS):
            within.append(
                {
                    "stack": stack,
                    "layer": int(members["layer"].iloc[0]),
                    **_variation(members["frobenius_norm"]),
                }
            )
    over = [
        {**dict(zip(_PLACE, place, strict=True)), **_variation(members["frobenius_norm"])}
        for place, members in rows[rows["layer"].notna()].groupby(_PLACE, sort=False)
    ]
    return {"groups": list(PRESERVED_GROUPS), "within_layers": within, "over_layers": over}


def _variation(norms: pd.Series[float]) -> dict[str, float | None]:
    relative = norms / norms.max()  # squares of norms near the end of float64 would overflow
    smallest = float(relative.min())
    return {
        "max_over_min": _number(1 / smallest if smallest else math.inf),
        "coefficient_of_variation": _number(relative.std(ddof=0) / relative.mean()),
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
