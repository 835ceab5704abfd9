"""Figure 2: mean inverse stable rank, errors and loss against λ; drawn from a history alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from weightscope.plots import style
from weightscope.spectra.measures import gaussian_stable_rank
from weightscope.training.bounds import lossless_bound, stationary_bound
from weightscope.training.claims import COLLAPSED, LIVING
from weightscope.training.settings import DecaySettings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MEAN, _LAYERS = "#000000", ("#08306b", "#6a3d9a", "#4da167", "#b15928", "#e3a11b")
_FITS = (("error", "classification error", "#c63a2f", "o"), ("margin_error", "margin error", "#e3a11b", "s"))
_LOSS = "#41a5d1"


def decay_figure(history: pd.DataFrame, settings: DecaySettings, *, title: str) -> Figure:
    """A column a frequency: ranks, their mean enlarged, errors and loss; mean and std over draws.

    Nets that collapsed are left out. Where most did the marker is hollow, and no line goes there.

    Args:
        history: See `history.COLUMNS`.
        settings: Of the run.
        title: Above all of them.
    """
    arms = list(dict.fromkeys(history["arm"]))
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.6 * len(arms), 9.2), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        panels = figure.subplots(
            3, len(arms), squeeze=False, sharex=True, sharey="row", height_ratios=(1.0, 0.6, 1.0)
        )
        for column, arm in enumerate(arms):
            last = history[(history["arm"] == arm) & (history["step"] == history["step"].max())]
            _ranks(panels[0, column], last, settings)
            _line(
                panels[1, column], _of(last, "mean_inverse_stable_rank"), last, "mean", _MEAN, "o", width=2.2
            )
            _fits(panels[2, column], last)
            panels[0, column].set_title(f"labels sign sin({str(arm).removeprefix('frequency ')} wᵀx)")
            _decay_axis(panels[2, column], settings)
        panels[0, 0].set_ylabel(r"$\|W\|_2\,/\,\|W\|_F$")
        panels[1, 0].set_ylabel("the mean, enlarged")
        panels[2, 0].set_ylabel("share of samples, and loss")
        for panel in (panels[0, -1], panels[2, -1]):
            panel.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _ranks(axes: Axes, rows: pd.DataFrame, settings: DecaySettings) -> None:
    widths = (settings.dimension, *settings.widths, 1)
    layers = len(widths) - 1
    for layer, colour in zip(range(1, layers + 1), _LAYERS * layers, strict=False):
        found = rows[(rows["quantity"] == "inverse_stable_rank") & (rows["layer"] == layer)]
        _line(axes, found, rows, f"$W_{{{layer}}}$", colour, "^", width=1.0)
    _line(axes, _of(rows, "mean_inverse_stable_rank"), rows, "mean", _MEAN, "o", width=2.2)
    inverse = [1 / gaussian_stable_rank(*shape) for shape in zip(widths[1:], widths, strict=False)]
    # √(mn)/(√m+√n) is a limit: a vector's stable rank is 1 whatever it says.
    baseline = float(np.mean([min(1.0, value) for value in inverse]))
    axes.axhline(baseline, color="0.35", linestyle=":", linewidth=1.3, zorder=1, label="Gaussian, mean")
    decays = sorted(set(rows["weight_decay"]) - {0.0})
    losses = _of(rows, "loss").groupby("weight_decay")["value"].mean()
    axes.plot(
        decays,
        [stationary_bound(decay, float(losses[decay]), layers) for decay in decays],
        color="0.55",
        linestyle="--",
        label="Lemma 4 (2), at\nstationary points",
    )
    axes.plot(
        decays,
        [lossless_bound(decay, layers) for decay in decays],
        color="0.55",
        linestyle="-.",
        label="Lemma 4 (3),\ncorrected",
    )
    axes.set_ylim(0.0, 1.04)


def _fits(axes: Axes, rows: pd.DataFrame) -> None:
    for quantity, label, colour, marker in _FITS:
        _line(axes, _of(rows, quantity), rows, label, colour, marker)
    _line(axes, _of(rows, "loss"), rows, "average loss", _LOSS, "D")
    axes.axhline(np.log(2), color="0.35", linestyle=":", linewidth=1.2, zorder=1, label="ln 2")
    axes.set_ylim(bottom=0.0)
    axes.plot(
        [], [], color="0.35", marker="o", linestyle="", markerfacecolor="none", markeredgewidth=1.0,
        label="most collapsed",
    )  # fmt: skip


def _of(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    found: pd.DataFrame = rows[rows["quantity"] == quantity]
    return found


def _line(
    axes: Axes,
    found: pd.DataFrame,
    rows: pd.DataFrame,
    label: str,
    colour: str,
    marker: str,
    *,
    width: float = 1.5,
) -> None:
    """Mean and standard deviation of the nets that live; hollow, of all nets, where most collapsed."""
    left = _of(rows, "relative_norm").set_index(["draw", "weight_decay"])["value"]
    table = found.set_index(["draw", "weight_decay"])["value"]
    alive = (left >= COLLAPSED) & table.notna()
    lives = (alive.groupby("weight_decay").mean() >= LIVING).to_numpy()
    every = table.groupby("weight_decay").mean()
    living = table.where(alive).groupby("weight_decay")
    mean, std = living.mean(), living.std().fillna(0.0)
    decays = every.index.to_numpy(dtype=float)
    values = np.where(lives, mean.to_numpy(), every.to_numpy())
    axes.plot(decays[lives], values[lives], color=colour, marker=marker, linewidth=width, label=label)
    axes.fill_between(
        decays[lives],
        (values - std.to_numpy())[lives],
        (values + std.to_numpy())[lives],
        color=colour,
        alpha=0.13,
        linewidth=0,
    )
    if not lives.all():  # nothing, unclipped, has no extent: the layout could not be found
        axes.plot(
            decays[~lives], values[~lives], color=colour, marker=marker, linestyle="", markerfacecolor="none",
            markeredgewidth=1.0, clip_on=False,
        )  # fmt: skip


def _decay_axis(axes: Axes, settings: DecaySettings) -> None:
    positive = [decay for decay in settings.weight_decays if decay > 0]
    axes.set_xscale("symlog", linthresh=min(positive, default=1.0), linscale=0.5)
    axes.set_xlim(-0.2 * min(positive, default=1.0), 1.3 * max(positive, default=1.0))
    axes.minorticks_off()
    axes.set_xlabel("weight decay λ")
