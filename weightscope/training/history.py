"""`History`: what was seen of an ensemble while it trained, as one long table."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("draw", "arm", "weight_decay", "net", "task")
"""What a row is of, beside its step, its layer and its quantity."""
COLUMNS = (*KEYS, "step", "layer", "quantity", "value")
"""draw: 0-based; arm: which experiment; weight_decay: λ as the optimiser gets it; net: `single` or `merged`;
task: whose inputs and labels, 1-based, empty where it does not matter; step: steps or epochs taken; layer:
1-based, empty for the whole net; quantity: what `value` is."""


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Values of one quantity at one step."""

    keys: pd.DataFrame
    step: int
    layer: int | None
    quantity: str
    values: np.ndarray


class History:
    """Grows by blocks of one quantity at one step, thousands in a run, and is a table when asked."""

    def __init__(self, table: pd.DataFrame | None = None) -> None:
        self._before = table
        self._blocks: list[_Block] = []

    def add(
        self, keys: pd.DataFrame, *, step: int, quantity: str, values: Tensor, layer: int | None = None
    ) -> None:
        """Append a value for each row of the keys.

        Args:
            keys: With the columns `KEYS`. Kept: give the same object again where the keys are the same.
            step: At which it was seen.
            quantity: Its name.
            values: Of shape (rows,).
            layer: 1-based; None for the whole net.
        """
        numbers = values.detach().to("cpu", torch.float64).numpy()
        self._blocks.append(_Block(keys, step, layer, quantity, numbers))

    def table(self) -> pd.DataFrame:
        """All of it, with the columns `COLUMNS`; rows in the order in which they came."""
        import pandas as pd

        parts = [] if self._before is None else [self._before]
        for keys in {id(block.keys): block.keys for block in self._blocks}.values():
            blocks = [(i, block) for i, block in enumerate(self._blocks) if block.keys is keys]
            rows = len(keys)
            part = keys.loc[:, list(KEYS)].iloc[np.tile(np.arange(rows), len(blocks))]
            part = part.assign(
                step=np.repeat([block.step for _, block in blocks], rows),
                layer=pd.array([block.layer for _, block in blocks], dtype="Int64").repeat(rows),
                quantity=np.repeat([block.quantity for _, block in blocks], rows),
                value=np.concatenate([block.values for _, block in blocks]),
                task=part["task"].astype("Int64"),
            )
            parts.append(part.set_axis(np.repeat([i for i, _ in blocks], rows)).sort_index(kind="stable"))
        if not parts:
            return pd.DataFrame(columns=list(COLUMNS))
        known = 0 if self._before is None else 1
        whole = parts[:known]
        if parts[known:]:
            whole.append(pd.concat(parts[known:]).sort_index(kind="stable"))
        self._before = pd.concat(whole, ignore_index=True)[list(COLUMNS)]
        self._blocks = []
        return self._before

    def to_bytes(self) -> bytes:
        """As Parquet."""
        buffer = io.BytesIO()
        self.table().to_parquet(buffer, index=False)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> History:
        """From what `to_bytes` gave."""
        import pandas as pd

        return cls(pd.read_parquet(io.BytesIO(content)))


def recorded_steps(steps: int, records: int) -> list[int]:
    """At which steps to look: 0, the last, about half of them evenly and half in equal ratios.

    Decay shows in even steps (e^{−ηλt} falls at the end), learning in ratios (it begins within ten steps).

    Args:
        steps: The last one, 1 or more.
        records: About how many; 2 or more.
    """
    half = max(1, records // 2)
    even = {round(steps * k / half) for k in range(half + 1)}
    ratios = {round(math.exp(math.log(steps) * k / half)) for k in range(half + 1)}
    return sorted(even | ratios | {0, steps})


def final(history: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """The rows of a quantity at the last step."""
    rows = history[history["quantity"] == quantity]
    last: pd.DataFrame = rows[rows["step"] == rows["step"].max()]
    return last


def values_by(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Values with a row a draw and a column for each combination of the others; draws in order."""
    return rows.pivot_table(index="draw", columns=list(columns), values="value", sort=True)
