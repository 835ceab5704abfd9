"""The claims of Figure 2, judged on a history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from weightscope.training.claims import (
    COLLAPSED,
    LIVING,
    Claim,
    bootstrap,
    joined,
    mean_interval,
    shuffled_rows,
    spearman,
    too_few,
    verdict_of,
)
from weightscope.training.history import final
from weightscope.training.settings import DecaySettings
from weightscope.training.thresholds import DecayThresholds

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sweep:
    """What one frequency's nets are at the end, at the λ where at least half of the draws' nets live."""

    decays: Float[np.ndarray, " decays"]
    """λ, ascending."""
    ranks: Float[np.ndarray, "draws decays"]
    """Mean inverse stable rank; NaN of a net that collapsed."""
    errors: Float[np.ndarray, "draws decays"]
    """Classification error; likewise."""
    collapsed: dict[float, int]
    """How many nets collapsed, or are no numbers, at every λ."""

    @property
    def collapse(self) -> str:
        """A sentence on what was left out, or nothing."""
        each = ", ".join(f"{count} at λ = {decay:g}" for decay, count in self.collapsed.items() if count)
        return f"collapsed and left out: {each} of {len(self.ranks)}" if each else ""


def sweep_of(history: pd.DataFrame, arm: str) -> Sweep:
    """The sweep of one arm."""

    def table(quantity: str) -> pd.DataFrame:
        rows = final(history, quantity)
        return rows[rows["arm"] == arm].pivot_table(
            index="draw", columns="weight_decay", values="value", dropna=False
        )

    ranks, errors, left = table("mean_inverse_stable_rank"), table("error"), table("relative_norm")
    alive = (left >= COLLAPSED) & ranks.notna()
    counted = alive.mean(axis="index") >= LIVING
    dead = (~alive).sum(axis="index")
    return Sweep(
        decays=ranks.columns[counted].to_numpy(dtype=float),
        ranks=ranks.where(alive).loc[:, counted].to_numpy(dtype=float),
        errors=errors.where(alive).loc[:, counted].to_numpy(dtype=float),
        collapsed=dict(zip(dead.index.to_numpy(dtype=float).tolist(), dead.tolist(), strict=True)),
    )


def _means(rows: Float[np.ndarray, "draws decays"]) -> Float[np.ndarray, " decays"]:
    """Over the nets that live; NaN where none does, as in a resample may be."""
    living = np.isfinite(rows)
    counts = living.sum(axis=0)
    sums: np.ndarray = np.where(living, rows, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def judge_decay(
    history: pd.DataFrame, settings: DecaySettings, thresholds: DecayThresholds, *, prefix: str
) -> list[Claim]:
    """Both claims for each frequency, each with its λ shuffled as a negative control.

    Args:
        history: Of a run that reached its end.
        settings: Of the run.
        thresholds: Where claims hold.
        prefix: `F2`.
    """
    sweeps = {str(arm): sweep_of(history, str(arm)) for arm in history["arm"].drop_duplicates()}
    claims = []
    for name, judge, words in (
        ("trend", _trend, "The mean inverse stable rank grows with the weight decay"),
        ("errors", _errors, "So it does though the net makes many mistakes"),
    ):
        for control in (False, True):
            parts = [
                judge(found, arm, thresholds, prefix, settings.seed, control=control)
                for arm, found in sweeps.items()
            ]
            claims += parts if control else [joined(f"{prefix}-{name}", words, parts), *parts]
    return claims


def _id(prefix: str, name: str, arm: str, *, control: bool) -> str:
    return f"{prefix}-{name}/{arm.replace(' ', '-')}" + ("/shuffled" if control else "")


def _doubts(sweep: Sweep, limits: DecayThresholds) -> list[str]:
    few = len(sweep.decays) < limits.fewest_decays
    return [
        too_few(len(sweep.ranks), limits.fewest_draws),
        f"{len(sweep.decays)} weight decays at which most nets live, of {limits.fewest_decays} needed" * few,
    ]


def _trend(
    sweep: Sweep, arm: str, limits: DecayThresholds, prefix: str, seed: int, *, control: bool
) -> Claim:
    ranks = shuffled_rows(sweep.ranks, seed=seed) if control else sweep.ranks

    def correlation(rows: Float[np.ndarray, "draws decays"]) -> float:
        means = _means(rows)
        known = np.isfinite(means)
        return spearman(sweep.decays[known], means[known])

    value = correlation(ranks) if ranks.size else 0.0
    interval = bootstrap(ranks, correlation) if ranks.size else None
    holds = value >= limits.correlation
    verdict, reason = verdict_of(
        holds,
        *_doubts(sweep, limits),
        "the interval over draws includes 0" if holds and interval and interval[0] <= 0 else "",
    )
    return Claim(
        id=_id(prefix, "trend", arm, control=control),
        claim="The same with λ shuffled within each draw"
        if control
        else f"The mean inverse stable rank grows with the weight decay ({arm})",
        verdict=verdict,
        statistic="Spearman's ρ of λ and the mean over draws of (1/K) Σ ‖W_k‖₂/‖W_k‖_F, where at "
        "least half of the nets live",
        value=value,
        threshold=f"≥ {limits.correlation:g}, interval above 0",
        interval=interval,
        draws=len(ranks),
        reason=reason,
        detail="" if control else _moves(sweep),
        control=control,
    )


def _moves(sweep: Sweep) -> str:
    """How far, which ρ does not tell, and what was left out."""
    means = _means(sweep.ranks)
    if not len(means):
        return sweep.collapse
    ends = [f"{mean:.3f} at λ = {decay:g}" for mean, decay in zip(means, sweep.decays, strict=True)]
    return "; ".join(part for part in (f"rank from {ends[0]} to {ends[-1]}", sweep.collapse) if part)


def _errors(
    sweep: Sweep, arm: str, limits: DecayThresholds, prefix: str, seed: int, *, control: bool
) -> Claim:
    """Of the λ whose nets make many mistakes the one whose rank is most surely lower than at λ = 0."""
    ranks = shuffled_rows(sweep.ranks, seed=seed) if control else sweep.ranks
    has_zero = len(sweep.decays) > 0 and sweep.decays[0] == 0
    mistaken = [
        i
        for i, error in enumerate(sweep.errors.mean(axis=0))
        if error >= limits.error and sweep.decays[i] > 0
    ]
    best: tuple[float, float, float, float] | None = None
    for i in mistaken if has_zero else []:
        rise = ranks[:, i] - ranks[:, 0]
        rise = rise[np.isfinite(rise)]
        # Of so many λ one is picked: the level is shared among them (Bonferroni).
        interval = mean_interval(rise, level=1 - 0.05 / len(mistaken))
        if interval and (best is None or interval[0] > best[1]):
            best = (float(rise.mean()), *interval, float(sweep.decays[i]))
    verdict, reason = verdict_of(
        best is not None and best[0] > 0 and best[1] > 0,
        *_doubts(sweep, limits),
        "" if has_zero else "there are no nets without weight decay that did not collapse",
        ""
        if mistaken
        else f"at no λ > 0 do at least half of the nets live and err on {limits.error:.0%} or more",
    )
    at = f"at λ = {best[3]:g}" if best else ""
    return Claim(
        id=_id(prefix, "errors", arm, control=control),
        claim="The same with λ shuffled within each draw"
        if control
        else f"So it does though the net makes many mistakes ({arm})",
        verdict=verdict,
        statistic=f"rise of the mean inverse stable rank over that of λ = 0, at the λ > 0 with error ≥ "
        f"{limits.error:g} where it is most certain",
        value=best[0] if best else None,
        threshold="> 0, interval above 0",
        interval=best[1:3] if best else None,
        draws=len(ranks),
        reason=reason,
        detail="" if control else at,
        control=control,
    )
