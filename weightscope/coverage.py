"""The completeness law, counted: every tensor of two or more dimensions is accounted for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from weightscope.checkpoint import Checkpoint
from weightscope.families.assign import Matrix

if TYPE_CHECKING:
    import pandas as pd

# A mask, position ids, or a second name of the same weights: nothing is missing without it.
BUFFER = "buffer"
NOT_SELECTED = "not_selected"
SKIPPED = "skipped"


def skipped_table(checkpoint: Checkpoint, selected: Iterable[Matrix]) -> pd.DataFrame:
    """Tensors of two or more dimensions that no selected matrix uses, and why.

    Columns: parameter, shape (as `768x3072`), dtype, status (`not_selected`, `skipped`, `buffer`),
    reason.
    """
    import pandas as pd

    used = {part.tensor.name for matrix in selected for part in matrix.slices}
    groups: dict[str, dict[str, None]] = {}
    for matrix in checkpoint.matrices:
        for part in matrix.slices:
            groups.setdefault(part.tensor.name, {})[str(matrix.group)] = None
    rows = [
        (checkpoint.tensors[name], NOT_SELECTED, f"group {', '.join(found)}")
        for name, found in groups.items()
        if name not in used
    ]
    rows += [(s.tensor, BUFFER if s.harmless else SKIPPED, s.reason) for s in checkpoint.skipped]
    cells = [
        (info.name, "x".join(map(str, info.shape)), info.dtype, status, reason)
        for info, status, reason in rows
    ]
    return pd.DataFrame(cells, columns=["parameter", "shape", "dtype", "status", "reason"], dtype=object)


def coverage(table: pd.DataFrame, skipped: pd.DataFrame) -> dict[str, int]:
    """Counts: `selected` and `analysed` matrices, `not_selected` and `skipped` tensors.

    A matrix counts as analysed if it has numbers: `non_finite` ones are selected and not analysed.
    `buffers` says how many of the skipped tensors are harmless.
    """
    statuses = skipped["status"].value_counts()
    return {
        "selected": len(table),
        "analysed": int((table["status"] != "non_finite").sum()),
        "not_selected": int(statuses.get(NOT_SELECTED, 0)),
        "skipped": int(statuses.get(SKIPPED, 0) + statuses.get(BUFFER, 0)),
        "buffers": int(statuses.get(BUFFER, 0)),
    }


def coverage_line(counts: dict[str, int]) -> str:
    """The line every run prints."""
    buffers = counts["buffers"]
    harmless = f" ({buffers} of them {'a buffer' if buffers == 1 else 'buffers'})" if buffers else ""
    return (
        f"{counts['analysed']} of {counts['selected']} selected matrices analysed; "
        f"{counts['not_selected']} tensors not selected; {counts['skipped']} skipped{harmless}"
    )
