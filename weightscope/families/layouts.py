"""How fused weights split: pure functions from sizes to rows of the fused matrix.

A layout takes the number of rows (out_features, the file's transposition already undone) and the
model's head counts, and says for each part which rows are its own, as ranges in order. No tensors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Rows = tuple[range, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadCounts:
    """What a layout may need to know of the attention."""

    heads: int | None = None
    """Query heads."""
    kv_heads: int | None = None
    """Key and value heads; None where the config does not say, which means `heads`."""


class LayoutError(ValueError):
    """The sizes do not fit the layout; the message is one sentence of what was found."""


Layout = Callable[[int, HeadCounts], Mapping[str, Rows]]


def contiguous_thirds(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """`[Q; K; V]` of equal heights, whatever the heads: models without grouped queries.

    >>> contiguous_thirds(12, HeadCounts())["K"]
    (range(4, 8),)
    """
    if rows % 3:
        raise LayoutError(f"{rows} rows do not divide into three equal parts.")
    third = rows // 3
    return {"Q": (range(third),), "K": (range(third, 2 * third),), "V": (range(2 * third, rows),)}


def contiguous_qkv(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """`[Q; K; V]`, with `kv_heads` key and value heads of the queries' size.

    >>> contiguous_qkv(12, HeadCounts(heads=4, kv_heads=1))["K"]
    (range(8, 10),)
    """
    if counts.heads is None:
        raise LayoutError("How many heads there are is not known, since the config does not say.")
    kv_heads = counts.kv_heads or counts.heads
    total = counts.heads + 2 * kv_heads
    if rows % total:
        raise LayoutError(
            f"{rows} rows do not divide into {counts.heads} query and 2 x {kv_heads} key and value heads."
        )
    head_dim = rows // total
    query, key = counts.heads * head_dim, kv_heads * head_dim
    return {
        "Q": (range(query),),
        "K": (range(query, query + key),),
        "V": (range(query + key, query + 2 * key),),
    }


LAYOUTS: dict[str, Layout] = {"contiguous_thirds": contiguous_thirds, "contiguous_qkv": contiguous_qkv}
"""The layouts by the names that families use."""
