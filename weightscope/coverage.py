"""The completeness law, counted: every tensor of two or more dimensions is accounted for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from weightscope.checkpoint import Checkpoint
from weightscope.counting import counted, listed
from weightscope.families.matrix import Matrix

if TYPE_CHECKING:
    import pandas as pd

NOT_SELECTED = "not_selected"
# Without these no matrix is missing: masks and position ids, biases, second names of the same weights.
HARMLESS = ("buffer", "bias", "tied")
_HARMLESS_AS_SAID = ("buffers", "biases", "tied")


def skipped_table(checkpoint: Checkpoint, selected: Iterable[Matrix]) -> pd.DataFrame:
    """Tensors of two or more dimensions that no selected matrix uses, and why.

    Columns: parameter, shape (as `768x3072`), dtype, status (`not_selected`, `buffer`, `bias`, `tied`, or
    `skipped` for what is missed), reason.
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
    rows += [(entry.tensor, entry.kind, entry.reason) for entry in checkpoint.skipped]
    cells = [
        (info.name, "x".join(map(str, info.shape)), info.dtype, status, reason)
        for info, status, reason in rows
    ]
    return pd.DataFrame(cells, columns=["parameter", "shape", "dtype", "status", "reason"], dtype=object)


def coverage(table: pd.DataFrame, skipped: pd.DataFrame, strangers: int = 0) -> dict[str, int]:
    """Counts: `selected` and `analysed` matrices, `not_selected` and `skipped` tensors.

    A matrix counts as analysed if it has numbers: `non_finite` ones are selected and not analysed.
    `harmless` says how many of the skipped tensors are buffers or second names, `strangers` how many are in
    layers under names that the family does not know, while it misses some there.
    """
    skipped_statuses = skipped["status"][skipped["status"] != NOT_SELECTED]
    return {
        "selected": len(table),
        "analysed": int((table["status"] != "non_finite").sum()),
        "not_selected": len(skipped) - len(skipped_statuses),
        "skipped": len(skipped_statuses),
        "strangers": strangers,
        "harmless": int(skipped_statuses.isin(HARMLESS).sum()),
    }


def coverage_line(counts: dict[str, int], skipped: pd.DataFrame) -> str:
    """The line every run prints, from `coverage` and `skipped_table`."""
    there = set(skipped["status"])
    kinds = [said for kind, said in zip(HARMLESS, _HARMLESS_AS_SAID, strict=True) if kind in there]
    harmless = f" ({counts['harmless']} of them {listed(kinds, 'or')})" if counts["harmless"] else ""
    strangers = f"; {counts['strangers']} not recognised" if counts["strangers"] else ""
    return (
        f"{counts['analysed']} of {counted(counts['selected'], 'selected matrix', 'selected matrices')} "
        f"analysed; {counted(counts['not_selected'], 'tensor')} not selected; "
        f"{counts['skipped']} skipped{harmless}{strangers}"
    )
