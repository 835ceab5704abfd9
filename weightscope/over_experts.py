"""Mixtures of experts in a table: which rows are experts, and one row a layer and group for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weightscope.table import Column, build_table

if TYPE_CHECKING:
    import pandas as pd

NUMBERED, SHARED = "numbered", "shared"
SUMMARISED = ("stable_rank", "spectral_norm", "frobenius_norm")
_PLACE = ("stack", "layer", "group")
_SPREAD = ("mean", "std", "min", "max")
COLUMNS = (
    Column("stack", "text", "decoder …"),
    Column("layer", "integer", "transformer block, 0-based"),
    Column("group", "text", "the role: M1 G M2"),
    Column("experts", "integer", "how many have numbers"),
    *(
        Column(f"{quantity}_{spread}", "number", f"{spread} of {quantity} over them")
        for quantity in SUMMARISED
        for spread in _SPREAD
    ),
)


def expert_kind(table: pd.DataFrame) -> pd.Series[str]:
    """For each row `numbered` for one expert among several, `shared`, or empty."""
    expert = table["expert"].astype(str)
    return expert.where(~expert.str.isdecimal(), NUMBERED)


def over_experts(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over the numbered experts of each layer, one row a layer and group.

    Args:
        table: As `analyze` gives it.

    Returns:
        The columns of `COLUMNS`; `std` is over their number (a population's). No row without experts.
    """
    numbered = table[(expert_kind(table) == NUMBERED) & (table["status"] == "ok")]
    rows = []
    for place, members in numbered.groupby(list(_PLACE), sort=False):
        row = {**dict(zip(_PLACE, place, strict=True)), "experts": len(members)}
        for quantity in SUMMARISED:
            values = members[quantity]
            spread = (values.mean(), values.std(ddof=0), values.min(), values.max())
            row |= {f"{quantity}_{name}": value for name, value in zip(_SPREAD, spread, strict=True)}
        rows.append(row)
    return build_table(rows, COLUMNS)
