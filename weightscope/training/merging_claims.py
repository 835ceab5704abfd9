"""The claims of Figures 3 and 5, judged on a history."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from weightscope.spectra.measures import gaussian_stable_rank
from weightscope.training.claims import (
    Claim,
    bootstrap,
    joined,
    share_interval,
    shuffled_rows,
    too_few,
    verdict_of,
)
from weightscope.training.data import Arm
from weightscope.training.history import final
from weightscope.training.merging_losses import Losses, final_losses
from weightscope.training.settings import MergingSettings
from weightscope.training.thresholds import MergingThresholds

if TYPE_CHECKING:
    import pandas as pd


def judge_merging(
    history: pd.DataFrame,
    settings: MergingSettings,
    thresholds: MergingThresholds,
    *,
    prefix: str,
    dimension: int,
) -> list[Claim]:
    """Every claim with its negative control.

    Args:
        history: Of a run that reached its end.
        settings: Of the run.
        thresholds: Where claims hold.
        prefix: `F3` or `F5`.
        dimension: Of the inputs of `different`.
    """
    return _Judge(history, settings, thresholds, prefix, dimension).claims()


class _Judge:
    def __init__(
        self,
        history: pd.DataFrame,
        settings: MergingSettings,
        thresholds: MergingThresholds,
        prefix: str,
        dimension: int,
    ) -> None:
        self.history, self.settings, self.limits, self.prefix = history, settings, thresholds, prefix
        self.widths = (dimension, *settings.widths)
        self.base = settings.weight_decay
        self.no_decay = 0.0 if 0.0 in settings.weight_decays and self.base > 0 else None

    def claims(self) -> list[Claim]:
        different = [self._different(self.base)]
        ranks = self._ranks(self.base, "")
        if self.no_decay is not None:
            different.append(self._different(self.no_decay, "no-decay"))
            ranks += self._ranks(self.no_decay, "/no-decay")
        return [
            *different,
            self._conflicting("conflicting"),
            self._conflicting("identical"),
            self._conflicting("different"),
            *self._decay(),
            *ranks,
        ]

    def _doubts(self, draws: int) -> list[str]:
        time, needed = self.settings.time, self.limits.time
        short = f"ηλt = {time:.3g} at the end, and {needed:g} are needed for the initial weights to decay"
        return [
            too_few(draws, self.limits.fewest_draws),
            short if time < needed else "",
        ]

    def _of_draws(self, good: Float[np.ndarray, " draws"], losses: Losses, **words: Any) -> Claim:
        """A claim that most draws must bear out."""
        count, draws = int(good.sum()), len(good)
        share = count / draws if draws else math.nan
        doubts = [*self._doubts(draws), words.pop("doubt", "")]
        verdict, reason = verdict_of(share >= self.limits.share_of_draws, *doubts)
        details = [part for part in (words.pop("more"), losses.collapse) if part]
        return Claim(
            verdict=verdict,
            value=share,
            interval=share_interval(count, draws),
            draws=draws,
            reason=reason,
            detail="; ".join(details),
            **words,
        )

    def _different(self, decay: float, control: str = "") -> Claim:
        limits, losses = self.limits, final_losses(self.history, "different", decay)
        excess = losses.excesses.max(axis=1) if len(losses.single) else np.empty(0)
        good = (losses.ratio <= limits.ratio) & (excess <= limits.excess) if len(excess) else excess
        return self._of_draws(
            good,
            losses,
            id=self._id("different", control),
            claim="Nets of different tasks, without weight decay, merge as well as they are apart"
            if control
            else "Nets of different tasks (orthogonal inputs) merge: their sum does nearly as well on each",
            statistic=f"share of draws with r ≤ {limits.ratio:g} and e ≤ {limits.excess:g} on both tasks: "
            "r merged over single loss, e = (merged − single)/(ln 2 − single)",
            threshold=f"≥ {limits.share_of_draws:g}",
            more=f"r {_spread(losses.ratio)}, e {_spread(excess)}" if len(excess) else "",
            control=bool(control),
        )

    def _conflicting(self, arm: Arm) -> Claim:
        """Of the arm that the claim is about, of that which the paper names, and of one where it fails."""
        limits, losses = self.limits, final_losses(self.history, arm, self.base)
        reference = final_losses(self.history, "different", self.base).excesses
        beside = float(reference.mean()) if len(reference) else math.nan
        excess = losses.excesses.mean(axis=1) if len(losses.single) else np.empty(0)
        good = (excess >= limits.conflicting_excess) & (excess >= limits.conflicting_times * beside)
        return self._of_draws(
            good,
            losses,
            id=self._id("conflicting", "" if arm == "conflicting" else arm),
            claim={
                "conflicting": "Nets of conflicting tasks (one input law, two labellings) do not merge",
                "identical": "By the letter: nets of the same task (one law, one labelling) do not merge",
                "different": "The same statistic of nets of different tasks",
            }[arm],
            statistic=f"share of draws with e ≥ {limits.conflicting_excess:g} and "
            f"≥ {limits.conflicting_times:g} times the mean e of `different`; e as mean of both tasks",
            threshold=f"≥ {limits.share_of_draws:g}",
            doubt="" if len(reference) else "there are no nets of different tasks to compare with",
            more=f"e {_spread(excess)}, of `different` {beside:.3g} in the mean" if len(excess) else "",
            control=arm == "different",
        )

    def _decay(self) -> list[Claim]:
        smaller = [decay for decay in self.settings.weight_decays if 0 < decay < self.base]
        least = min(smaller, default=self.base)
        ratios = [self._ratio_by_draw(decay) for decay in (least, self.base)]
        both = np.array([(ratios[0][d], ratios[1][d]) for d in ratios[0] if d in ratios[1]]).reshape(-1, 2)
        found = []
        for control in ("", "shuffled"):
            pairs = shuffled_rows(both, seed=self.settings.seed) if control else both
            value = _median_ratio(pairs) if len(pairs) else math.nan
            interval = bootstrap(pairs, _median_ratio) if len(pairs) else None
            holds = value >= self.limits.decay_ratio
            verdict, reason = verdict_of(
                holds,
                *self._doubts(len(pairs)),
                "" if smaller else "there is no smaller weight decay to compare with",
                "the interval over draws includes 1" if holds and interval and interval[0] <= 1 else "",
            )
            found.append(
                Claim(
                    id=self._id("decay", control),
                    claim="The same with λ shuffled within each draw"
                    if control
                    else f"Decay narrows the gap: merged over single loss is larger at λ = {least:g} than at "
                    f"{self.base:g}",
                    verdict=verdict,
                    statistic="median over draws of r at the smallest λ > 0 over r at the protocol's λ, "
                    "after as many steps; r of a draw is the larger of both tasks'",
                    value=value,
                    threshold=f"≥ {self.limits.decay_ratio:g}",
                    interval=interval,
                    draws=len(pairs),
                    reason=reason,
                    detail="" if control else self._typical(least),
                    control=bool(control),
                )
            )
        return found

    def _typical(self, least: float) -> str:
        """What a ratio does not tell: which of the two losses moves."""
        found = []
        for decay in (least, self.base):
            losses = final_losses(self.history, "different", decay)
            if not len(losses.draws):
                return ""
            single, merged = np.median(losses.single), np.median(losses.merged)
            found.append(f"at λ = {decay:g} single {single:.2g}, merged {merged:.2g}")
        return f"median losses {'; '.join(found)}"

    def _ratio_by_draw(self, decay: float) -> dict[int, float]:
        losses = final_losses(self.history, "different", decay)
        return (
            dict(zip(losses.draws.tolist(), losses.ratio.tolist(), strict=True)) if len(losses.draws) else {}
        )

    def _ranks(self, decay: float, control: str) -> list[Claim]:
        rows = final(self.history, "stable_rank")
        rows = rows[(rows["arm"] == "different") & (rows["weight_decay"] == decay)]
        # The last matrix is a vector: its stable rank is always 1.
        layers = sorted(int(layer) for layer in rows["layer"].unique())[:-1]
        single = _by_draw(rows[rows["net"] == "single"], layers)
        both = _by_draw(rows[rows["net"] == "merged"], layers)
        shapes = [(self.widths[k], self.widths[k - 1]) for k in layers]
        baselines = np.array([gaussian_stable_rank(*shape) for shape in shapes])
        alive = np.isfinite(single).all(axis=1) & np.isfinite(both).all(axis=1)
        low, like = single[alive] / baselines, both[alive] / single[alive]
        least, most = self.limits.merged_rank
        parts = [
            self._mean_claim(
                f"rank-low{control}",
                low,
                lambda means: float(means.max()),
                lambda value: value <= self.limits.rank,
                claim="Stable ranks of the weight matrices are small",
                statistic="final stable rank over that of a Gaussian matrix of the shape: mean over draws "
                "and tasks, the largest of the layers",
                threshold=f"≤ {self.limits.rank:g}",
            ),
            self._mean_claim(
                f"rank-merged{control}",
                like,
                lambda means: float(means[np.abs(np.log(means)).argmax()]),
                lambda value: least <= value <= most,
                claim="A merged net's stable ranks match those of the nets it was merged from",
                statistic="merged over single final stable rank: mean over draws, of the layers the one "
                "furthest from 1",
                threshold=f"in [{least:g}, {most:g}]",
            ),
        ]
        words = (
            "Without weight decay stable ranks are as small"
            if control
            else "Stable ranks converge to small values, and the merged net's match"
        )
        whole = joined(self._id(f"rank{control}", ""), words, parts)
        return [whole] if control else [whole, *parts]

    def _mean_claim(
        self,
        name: str,
        values: Float[np.ndarray, "draws layers"],
        of_means: Callable[[Float[np.ndarray, " layers"]], float],
        holds: Callable[[float], bool],
        **words: Any,
    ) -> Claim:
        def of(rows: Float[np.ndarray, "draws layers"]) -> float:
            return of_means(rows.mean(axis=0))

        value = of(values) if len(values) else math.nan
        verdict, reason = verdict_of(holds(value), *self._doubts(len(values)))
        interval = bootstrap(values, of) if len(values) else None
        return Claim(
            id=self._id(name, ""),
            verdict=verdict,
            value=value,
            interval=interval,
            draws=len(values),
            reason=reason,
            control="/" in name,
            **words,
        )

    def _id(self, name: str, control: str) -> str:
        return f"{self.prefix}-{name}" + (f"/{control}" if control else "")


def _by_draw(rows: pd.DataFrame, layers: Sequence[int]) -> Float[np.ndarray, "draws layers"]:
    """Mean over the tasks."""
    table = rows.pivot_table(index="draw", columns="layer", values="value", aggfunc="mean", dropna=False)
    return table.reindex(columns=list(layers)).to_numpy(dtype=float)


def _median_ratio(pairs: Float[np.ndarray, "draws 2"]) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):  # a loss may be 0
        return float(np.median(pairs[:, 0] / pairs[:, 1]))


def _spread(values: Float[np.ndarray, " draws"]) -> str:
    return f"{np.median(values):.3g} [{values.min():.3g}, {values.max():.3g}]"
