"""`Losses`: what single and merged nets lose at the end, and the two measures of what merging costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from weightscope.training.claims import COLLAPSED
from weightscope.training.history import final

if TYPE_CHECKING:
    import pandas as pd

_LN2 = math.log(2)
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Losses:
    """Final losses of one arm at one λ; shape (draws, 2), both tasks, of the draws that can be compared."""

    draws: Int[np.ndarray, " draws"]
    """Their numbers."""
    single: Float[np.ndarray, "draws 2"]
    merged: Float[np.ndarray, "draws 2"]
    collapsed: int
    """How many were left out as a net collapsed."""
    ignorant: int
    """How many were left out as a single net loses no less than a coin: there merging has nothing to cost."""

    @property
    def ratio(self) -> Float[np.ndarray, " draws"]:
        """Merged over single loss of the worse task; 1 where both are 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found: np.ndarray = np.where(self.merged == self.single, 1.0, self.merged / self.single).max(
                axis=1
            )
        return found

    @property
    def excesses(self) -> Float[np.ndarray, "draws 2"]:
        """How far merging goes towards knowing nothing: 0 as good as apart, 1 as a coin."""
        found: np.ndarray = (self.merged - self.single) / (_LN2 - self.single)
        return found

    @property
    def collapse(self) -> str:
        """A sentence on what was left out, or nothing."""
        parts = [
            f"draws left out as a net collapsed: {self.collapsed}" if self.collapsed else "",
            f"draws left out as a single net loses no less than a coin: {self.ignorant}"
            if self.ignorant
            else "",
        ]
        return "; ".join(filter(None, parts))


def final_losses(history: pd.DataFrame, arm: str, decay: float) -> Losses:
    """Of both tasks, single and merged.

    Args:
        history: See `history.COLUMNS`.
        arm: One of `ARMS`.
        decay: λ.
    """

    def pick(quantity: str, net: str) -> pd.DataFrame:
        rows = final(history, quantity)
        rows = rows[(rows["arm"] == arm) & (rows["weight_decay"] == decay) & (rows["net"] == net)]
        return rows.pivot_table(index="draw", columns="task", values="value", dropna=False)

    tables = [pick("loss", "single"), pick("loss", "merged"), pick("relative_norm", "single")]
    single, both, left = (table.to_numpy(dtype=float).reshape(-1, 2) for table in tables)
    alive = (left >= COLLAPSED).all(axis=1) & np.isfinite(both).all(axis=1)
    # Of a dead net, all of whose units are off, the loss is ln 2 and rounding.
    counted = alive & (single < _LN2 * (1 - _ROUNDING)).all(axis=1)
    return Losses(
        draws=tables[0].index.to_numpy()[counted],
        single=single[counted],
        merged=both[counted],
        collapsed=int((~alive).sum()),
        ignorant=int((alive & ~counted).sum()),
    )
