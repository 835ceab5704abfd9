"""Dotted lines in a figure: what a Gaussian matrix of the same shape would have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from weightscope.over_experts import NUMBERED, SHARED, expert_kind

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

BASELINE = {"stable_rank": "stable_rank_gaussian"}
"""The quantities that have such lines, and the column that holds their values."""
_GREY = "0.35"
# In points: a name's letters, from one name to the next, and what a panel of a figure is high at least.
_LETTERS, _APART, _PANEL = 7.5, 9.0, 170.0


def draw_baselines(axes: Axes, table: pd.DataFrame, column: str) -> Line2D | None:
    """A dotted line for each value of a column; one of them for the legend."""
    line = None
    for value in _names(table, column):
        line = axes.axhline(value, color=_GREY, linestyle=":", linewidth=1.3, zorder=1)
    return line


def name_baselines(axes: Axes, table: pd.DataFrame, column: str) -> None:
    """Write outside, beside each line, which groups have it; close lines have their names spread.

    Call it when the limits of the axes are set: how close two lines are depends on them.
    """
    names = _names(table, column)
    low, high = axes.get_ylim()
    values = sorted(value for value in names if low <= value <= high)
    heights = [(value - low) / (high - low) * _PANEL for value in values]
    for value, height, spread in zip(values, heights, spread_out(heights, _APART), strict=True):
        axes.annotate(
            _name_of(names[value]),
            xy=(1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(4, spread - height),
            textcoords="offset points",
            ha="left",
            va="center",
            fontsize=_LETTERS,
            color=_GREY,
            annotation_clip=False,
        )


def spread_out(heights: Sequence[float], apart: float) -> list[float]:
    """Ascending heights, moved no more than they must be to lie apart.

    Examples:
        >>> spread_out([0.0, 50.0, 51.0], 9.0)
        [0.0, 46.0, 55.0]
    """
    clusters: list[tuple[float, int]] = []  # the middle of names that touch, and their number
    for height in heights:
        clusters.append((height, 1))
        while len(clusters) > 1:
            (lower, below), (upper, above) = clusters[-2:]
            if upper - lower >= apart * (below + above) / 2:
                break
            clusters[-2:] = [((lower * below + upper * above) / (below + above), below + above)]
    return [
        middle + apart * (place - (number - 1) / 2) for middle, number in clusters for place in range(number)
    ]


def which_rows(kind: object, expert: object) -> str:
    """`cross`, `experts`, `shared` or empty: which of a group's rows have a line of their own."""
    return "cross" if kind == "cross" else {NUMBERED: "experts", SHARED: "shared"}.get(str(expert), "")


def _names(table: pd.DataFrame, column: str) -> dict[float, list[tuple[str, str]]]:
    """The values of a column, and the groups that have each."""
    names: dict[float, list[tuple[str, str]]] = {}
    kinds = ["group", "attention_kind", expert_kind(table)]
    for (group, kind, expert), rows in table.groupby(kinds, sort=False):
        for value in rows[column].dropna().unique():
            names.setdefault(round(float(value), 6), []).append((str(group), which_rows(kind, expert)))
    return names


def _name_of(members: Sequence[tuple[str, str]]) -> str:
    """`Q O`, or `M1 G M2 (experts, shared)`: what is said of several alike is said once."""
    kinds: dict[str, list[str]] = {}
    for group, which in members:
        kinds.setdefault(which, []).append(group)
    plain = kinds.pop("", [])
    # A group that has the line anyway needs no second mention for its cross attention or experts.
    apart: dict[str, list[str]] = {}
    for which, groups in kinds.items():
        if others := " ".join(group for group in groups if group not in plain):
            apart.setdefault(others, []).append(which)
    parts = [" ".join(plain), *(f"{groups} ({', '.join(whose)})" for groups, whose in apart.items())]
    return ", ".join(part for part in parts if part)
