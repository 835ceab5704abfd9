"""Figures 3 and 5: losses by step, final loss by λ, stable rank by step; drawn from a history alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from weightscope.plots import style
from weightscope.spectra.measures import gaussian_stable_rank
from weightscope.training.history import final
from weightscope.training.settings import MergingSettings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_SINGLE, _MERGED = ("#08306b", "#41a5d1"), ("#c63a2f", "#e3a11b")
_LAYERS = ("#08306b", "#6a3d9a", "#4da167", "#b15928", "#e3a11b")
_LN2 = math.log(2)
# Below whatever a panel shows.
_BELOW = 1e-30


def merging_figure(history: pd.DataFrame, settings: MergingSettings, *, dimension: int, title: str) -> Figure:
    """The paper's four panels, mean and standard deviation over draws.

    Args:
        history: See `history.COLUMNS`.
        settings: Of the run.
        dimension: Of the inputs of `different`.
        title: Above all of them.
    """
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11.0, 7.4), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        (different, conflicting), (decays, ranks) = figure.subplots(2, 2)
        for axes, arm, words in (
            (different, "different", "different tasks: orthogonal inputs"),
            (conflicting, "conflicting", _conflict(settings)),
        ):
            _losses(axes, history[history["arm"] == arm], settings)
            axes.set_title(words)
        _identical(conflicting, history, settings)
        conflicting.legend(frameon=False, ncols=2, loc="lower left")
        lines = [line for axes in (different, conflicting) for line in axes.get_lines()]
        for axes in (different, conflicting):
            _limit(axes, lines)
        _by_decay(decays, history, settings)
        _ranks(ranks, history, settings, dimension)
    return figure


def _conflict(settings: MergingSettings) -> str:
    if settings.data == "synthetic":
        return "conflicting tasks: one input law, two labellings"
    pictures = "other" if settings.shared_inputs is False else "the same"
    return f"conflicting tasks: {pictures} images, labels inverted"


def _identical(axes: Axes, history: pd.DataFrame, settings: MergingSettings) -> None:
    """What the paper's words name, in one line: both tasks alike."""
    rows = history[
        (history["arm"] == "identical")
        & (history["net"] == "merged")
        & (history["weight_decay"] == settings.weight_decay)
        & (history["quantity"] == "loss")
    ]
    means = rows.groupby("step")["value"].mean()
    axes.plot(means.index, means, color="#4da167", linestyle=":", label="merged, one labelling")


def _limit(axes: Axes, lines: Sequence[Line2D]) -> None:
    """From below the lowest mean: a band that reaches zero leaves a logarithmic axis at its bottom."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in lines])
    values = values[np.isfinite(values) & (values > 0)]
    if len(values):
        axes.set_ylim(0.4 * values.min(), 2.0 * values.max())


def _losses(axes: Axes, rows: pd.DataFrame, settings: MergingSettings) -> None:
    rows = rows[(rows["weight_decay"] == settings.weight_decay) & (rows["quantity"] == "loss")]
    for net, colours, line in (("single", _SINGLE, "-"), ("merged", _MERGED, "--")):
        for task, colour in zip((1, 2), colours, strict=True):
            _band(
                axes, rows[(rows["net"] == net) & (rows["task"] == task)], "step", f"{net}, task {task}",
                colour, line,
            )  # fmt: skip
    _coin(axes)
    _steps(axes)
    axes.set_yscale("log")
    axes.set_ylabel("training loss")
    axes.legend(frameon=False, ncols=2, loc="lower left")


def _by_decay(axes: Axes, history: pd.DataFrame, settings: MergingSettings) -> None:
    rows = final(history, "loss")
    rows = rows[rows["arm"] == "different"]
    # Both tasks of a draw are one number: they are alike.
    means = rows.groupby(["draw", "net", "weight_decay"])["value"].mean().reset_index()
    positive = [decay for decay in settings.weight_decays if decay > 0]
    threshold = min(positive, default=1.0)
    for net, colour, line in (("single", _SINGLE[0], "-"), ("merged", _MERGED[0], "--")):
        _band(axes, means[means["net"] == net], "weight_decay", net, colour, line, marker="o")
        for _, draw in means[means["net"] == net].groupby("draw"):
            axes.plot(draw["weight_decay"], draw["value"], color=colour, linewidth=0.5, alpha=0.5)
    _coin(axes)
    axes.axvline(settings.weight_decay, color="0.35", linestyle=":", linewidth=1.0, zorder=1)
    axes.set_xscale("symlog", linthresh=threshold, linscale=0.5)
    axes.set_xticks(sorted({0.0, *positive}), [f"{decay:g}" for decay in sorted({0.0, *positive})])
    axes.minorticks_off()
    axes.set_xlim(-0.15 * threshold, None)
    axes.set_yscale("log")
    axes.set_xlabel("weight decay λ   (dotted: that of the other panels)")
    axes.set_ylabel("final training loss")
    axes.set_title(f"different tasks, after {settings.steps:,} steps each; thin: each draw")
    axes.legend(frameon=False)
    _limit(axes, axes.get_lines())


def _ranks(axes: Axes, history: pd.DataFrame, settings: MergingSettings, dimension: int) -> None:
    rows = history[
        (history["arm"] == "different")
        & (history["weight_decay"] == settings.weight_decay)
        & (history["quantity"] == "stable_rank")
    ]
    widths = (dimension, *settings.widths, 1)
    for layer, colour in zip(range(1, len(widths)), _LAYERS * len(widths), strict=False):
        for net, line in (("single", "-"), ("merged", "--")):
            # A draw's two single nets are alike: one number.
            found = rows[(rows["layer"] == layer) & (rows["net"] == net)]
            means = found.groupby(["draw", "step"])["value"].mean().reset_index()
            _band(axes, means, "step", f"$W_{{{layer}}}$ {net}", colour, line)
        if layer < len(widths) - 1:
            baseline = gaussian_stable_rank(widths[layer], widths[layer - 1])
            axes.axhline(baseline, color=colour, linestyle=":", linewidth=1.2, zorder=1)
    _steps(axes)
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel(r"stable rank  $\|W\|_F\,/\,\|W\|_2$")
    axes.set_title("different tasks; dotted: Gaussian matrices of the shapes")
    # Where no line is: ranks begin at the baselines and fall once learning has begun.
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.21))


def _steps(axes: Axes) -> None:
    """Logarithmic, with the beginning in view."""
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=-0.1)
    axes.set_xlabel("step")


def _coin(axes: Axes) -> None:
    axes.axhline(_LN2, color="0.35", linestyle=":", linewidth=1.2, zorder=1)
    axes.annotate(
        "ln 2", xy=(1.0, _LN2), xycoords=("axes fraction", "data"), xytext=(4, 0),
        textcoords="offset points", va="center", fontsize=7.5, color="0.35", annotation_clip=False,
    )  # fmt: skip


def _band(
    axes: Axes, rows: pd.DataFrame, by: str, label: str, colour: str, line: str, marker: str | None = None
) -> None:
    """Mean and standard deviation over draws."""
    grouped = rows.groupby(by)["value"]
    mean, std = grouped.mean(), grouped.std().fillna(0.0)
    positions = mean.index.to_numpy(dtype=float)
    axes.plot(positions, mean.to_numpy(), color=colour, linestyle=line, label=label, marker=marker)
    low = (mean - std).clip(lower=_BELOW) if (mean > 0).all() else mean - std
    axes.fill_between(
        positions, low.to_numpy(), (mean + std).to_numpy(), color=colour, alpha=0.15, linewidth=0
    )
