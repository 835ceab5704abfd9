"""Figures from tables: value against layer, one line and marker a group.

Functions return a `Figure` and neither show nor save. Nothing here needs torch or a display.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weightscope.baselines import BASELINE, draw_baselines, name_baselines, which_rows
from weightscope.errors import SelectionError
from weightscope.over_experts import NUMBERED, SHARED, expert_kind
from weightscope.wording import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

# Fixed for every figure: colour, marker. Neighbours differ in lightness, so that they part in grey.
GROUP_STYLE: dict[str, tuple[str, str]] = {
    "Q_A": ("#21539c", "<"),
    "Q_B": ("#b1c8ed", ">"),
    "KV_A": ("#a36533", "p"),
    "K_R": ("#f09e8e", "d"),
    "K_B": ("#83183b", "H"),
    "V_B": ("#c5e5cb", "8"),
    "Q": ("#08306b", "o"),
    "K": ("#c63a2f", "s"),
    "V": ("#4da167", "^"),
    "O": ("#e3a11b", "D"),
    "QKV": ("#000000", "P"),
    "M1": ("#6a3d9a", "v"),
    "G": ("#7d7d7d", "*"),
    "M2": ("#41a5d1", "X"),
}
_OTHER_STYLE = ("#b15928", "h")
ATTENTION = ("Q_A", "Q_B", "KV_A", "K_R", "K_B", "V_B", "Q", "K", "V", "O", "QKV")
FEED_FORWARD = ("M1", "G", "M2")

AXIS_LABEL = {
    "stable_rank": r"stable rank  $\|W\|_F\,/\,\|W\|_2$",
    "frobenius_norm": r"Frobenius norm  $\|W\|_F$",
    "spectral_norm": r"spectral norm  $\|W\|_2$",
    "stable_rank_squared": r"$\|W\|_F^2\,/\,\|W\|_2^2$",
    "nuclear_norm": r"nuclear norm  $\Sigma\,\sigma$",
    "effective_rank": r"effective rank  $\exp(-\Sigma\,p\,\ln p)$",
}

EXPERTS_BETWEEN = (0.05, 0.95)
"""The quantiles of a layer's experts at which thin lines are drawn: the ends would be those of one expert."""
EXPERTS_NAME = "5–95 % of experts"
# Outlines and no fill: bands of three groups that lie on one another would be of one colour.
_THIN: dict[str, Any] = {"linewidth": 0.7, "linestyle": "-", "marker": ""}


@dataclass(frozen=True, slots=True)
class Panel:
    """One axes of a figure: a quantity and the groups drawn in it."""

    quantity: str
    """Column of the table."""
    groups: tuple[str, ...]
    """Groups to draw, where the table has them."""
    title: str = ""
    """Above the panel of the first row."""


def plot_quantity(tables: Mapping[str, pd.DataFrame], quantity: str) -> Figure:
    """One row of two panels a model, attention and feed-forward, for one quantity.

    Args:
        tables: Label of the model to its table.
        quantity: A numeric column, such as `stable_rank`.

    Raises:
        SelectionError: No such column, or nothing to draw.
    """
    return draw(
        tables, [Panel(quantity, ATTENTION, "attention"), Panel(quantity, FEED_FORWARD, "feed-forward")]
    )


def plot_overview(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """One row of two panels a model, stable rank and Frobenius norm of all groups.

    Source: Figures 1 and 4 of Kuzborskij and Abbasi Yadkori 2025.

    Raises:
        SelectionError: Nothing to draw.
    """
    groups = ATTENTION + FEED_FORWARD
    return draw(tables, [Panel("stable_rank", groups), Panel("frobenius_norm", groups)])


def draw(tables: Mapping[str, pd.DataFrame], panels: Sequence[Panel]) -> Figure:
    """Any panels, one row a model and stack.

    Raises:
        SelectionError: A panel's quantity is no numeric column, or there is no row to draw.
    """
    rows = list(_rows(tables, panels))
    with style():
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        # Inches between rows: a row's name is nearer to its own panels than to those above.
        layout = ConstrainedLayoutEngine(h_pad=0.12 if len(rows) > 1 else None)
        figure = Figure(figsize=(5.0 * len(panels) + 1.0, 3.1 * len(rows) + 0.3), layout=layout)
        grid = figure.subplots(
            len(rows), len(panels), squeeze=False, sharey="row" if _one_unit(panels) else False
        )
        handles: dict[str, Any] = {}
        for (label, table), line in zip(rows, grid, strict=True):
            for panel, axes in zip(panels, line, strict=True):
                _draw_panel(axes, table, panel, handles)
                axes.set_xlabel("layer")
                axes.xaxis.set_major_locator(_at_layers(table["layer"]))
                if axes is line[0] or not _one_unit(panels):
                    axes.set_ylabel(AXIS_LABEL.get(panel.quantity, panel.quantity.replace("_", " ")))
                axes.set_title(
                    ": ".join(part for part in (label if axes is line[0] else "", panel.title) if part),
                    parse_math=False,  # a model's name may hold a dollar
                )
            # Shared axes take their limits from all panels, so the zero is set once they are drawn.
            for panel, axes in zip(panels, line, strict=True):
                if not (table[panel.quantity] < 0).any():
                    axes.set_ylim(bottom=0.0)
                if panel.quantity in BASELINE:
                    drawn = table[table["group"].isin(panel.groups)]
                    name_baselines(axes, drawn, BASELINE[panel.quantity])
        groups = [*GROUP_STYLE]
        names = sorted(handles, key=lambda name: _place_in_legend(name, groups))
        figure.legend(
            [handles[name] for name in names],
            names,
            loc="outside right upper",
            frameon=False,
            handlelength=3.2,
        )
    return figure


def drawable(table: pd.DataFrame) -> bool:
    """Whether a table has a row that `plot_quantity` draws: of attention or feed-forward, and in a layer."""
    return bool((table["layer"].notna() & table["group"].isin(ATTENTION + FEED_FORWARD)).any())


def _rows(tables: Mapping[str, pd.DataFrame], panels: Sequence[Panel]) -> Iterator[tuple[str, pd.DataFrame]]:
    wanted = {group for panel in panels for group in panel.groups}
    found = False
    for label, table in tables.items():
        for panel in panels:
            if panel.quantity not in table.columns or table[panel.quantity].dtype.kind not in "fi":
                key = ("layer", "head", "out_features", "in_features")
                numeric = [n for n in table.columns if table[n].dtype.kind in "fi" and n not in key]
                raise SelectionError(
                    f"The quantity {panel.quantity!r} was asked for.",
                    f"The table of {label!r} has no such column of numbers"
                    f"{nearest(panel.quantity, numeric)}; it has {', '.join(numeric)}.",
                    "Choose one of these, or analyse with --spectrum to have more.",
                )
        layers = table[table["layer"].notna() & table["group"].isin(wanted)]
        stacks = list(dict.fromkeys(layers["stack"]))
        if not stacks and len(tables) > 1:
            raise SelectionError(
                f"A plot of {', '.join(tables)} was asked for.",
                f"In the table of {label!r} no row belongs to a layer and to the groups drawn.",
                "Leave it out, or analyse it with other groups.",
            )
        for stack in stacks:
            found = True
            yield f"{label}, {stack}" if len(stacks) > 1 else label, layers[layers["stack"] == stack]
    if not found:
        raise SelectionError(
            f"A plot of {', '.join(tables) or 'nothing'} was asked for.",
            f"No row belongs to a layer and to the groups {', '.join(sorted(wanted))}.",
            "Plot a table that holds them, or choose other groups.",
        )


def _draw_panel(axes: Axes, table: pd.DataFrame, panel: Panel, handles: dict[str, Any]) -> None:
    from matplotlib.lines import Line2D

    drawn = table[table["group"].isin(panel.groups)]
    for (group, kind, expert), members in drawn.groupby(
        ["group", "attention_kind", expert_kind(drawn)], sort=False
    ):
        colour, marker = GROUP_STYLE.get(str(group), _OTHER_STYLE)
        by_layer = members.groupby("layer")[panel.quantity]
        layers, means = _with_gaps(by_layer.mean())
        line_style = "--" if kind == "cross" else "-." if expert == SHARED else "-"
        (line,) = axes.plot(
            layers,
            means,
            color=colour,
            marker=marker,
            markerfacecolor=colour if line_style == "-" else "white",
            markeredgecolor=colour,
            markeredgewidth=0.0 if line_style == "-" else 1.1,
            linestyle=line_style,
            label=str(group),
        )
        if expert == NUMBERED:  # however many: their mean, and where most of them lie
            for end in EXPERTS_BETWEEN:
                (thin,) = axes.plot(layers, _with_gaps(by_layer.quantile(end))[1], color=colour, **_THIN)
                thin.set_label("_end")
            handles.setdefault(EXPERTS_NAME, Line2D([], [], color="0.35", **_THIN))
        which = which_rows(kind, expert)
        handles.setdefault(f"{group} ({which})" if which else str(group), line)
    if not table["group"].isin(panel.groups).any():
        axes.text(0.5, 0.5, "no such matrices", transform=axes.transAxes, ha="center", color="0.35")
        axes.set_xticks([])
    if panel.quantity in BASELINE:
        dotted = draw_baselines(axes, drawn, BASELINE[panel.quantity])
        handles.update({} if dotted is None else {"Gaussian": dotted})


def _with_gaps(by_layer: pd.Series[float]) -> tuple[np.ndarray, np.ndarray]:
    """Layers and values, with NaN between layers that are no neighbours: no line leads over what is missing.

    Neighbours are as far apart as the two nearest, so that a role in every other layer has a line.
    """
    import numpy as np

    layers, values = by_layer.index.to_numpy(dtype=float), by_layer.to_numpy(dtype=float)
    steps = np.diff(layers)
    gaps = np.flatnonzero(steps > steps.min(initial=np.inf)) + 1
    return np.insert(layers, gaps, layers[gaps] - 0.5), np.insert(values, gaps, np.nan)


def _at_layers(layers: pd.Series[float]) -> MaxNLocator:
    """Ticks at whole numbers, none of them before the first layer or past the last."""
    from matplotlib.ticker import MaxNLocator

    first, last = float(layers.min()), float(layers.max())

    class AtLayers(MaxNLocator):
        def tick_values(self, vmin: float, vmax: float) -> list[float]:
            return [tick for tick in super().tick_values(vmin, vmax) if first <= tick <= last]

    return AtLayers(integer=True, min_n_ticks=1)


def _place_in_legend(name: str, groups: Sequence[str]) -> int:
    """`M1 (experts)` stands behind `M1`; then what has no style of its own, and the baseline last."""
    group = name.partition(" ")[0]
    return groups.index(group) if group in groups else len(groups) + (name == "Gaussian")


def _one_unit(panels: Sequence[Panel]) -> bool:
    return len({panel.quantity for panel in panels}) == 1


@contextmanager
def style() -> Iterator[None]:
    """How every figure of ours looks; what was set before is put back at the end."""
    import matplotlib as mpl
    import seaborn as sns

    settings = {
        **sns.axes_style("ticks"),
        **sns.plotting_context("paper", font_scale=1.15),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": "0.92",
        "lines.linewidth": 1.5,
        "lines.markersize": 5.5,
        "lines.markeredgewidth": 0.0,
        "legend.fontsize": 9,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
    }
    with mpl.rc_context(settings):
        yield


def save_figure(figure: Figure, path: Path) -> None:
    """Save as the path's ending says; text in SVG stays text, PNG has 200 dots an inch.

    The picture is written beside and renamed, so that a failure leaves what was there.

    Raises:
        OSError: It cannot be written.
        ValueError: The ending is none that matplotlib writes.
    """
    import matplotlib as mpl

    # Drawn in memory first: matplotlib's writers leave open files behind when a disk is full.
    drawn = BytesIO()
    beside = path.with_name(f".{path.stem}.partial{path.suffix}")
    # The salt makes the ids inside an SVG, and so the file, the same every time.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "weightscope", "pdf.fonttype": 42}):
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(drawn, format=path.suffix.removeprefix("."), dpi=200, metadata=metadata)
    try:
        beside.write_bytes(drawn.getvalue())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
