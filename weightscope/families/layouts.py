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
    """Key and value heads; None where the config does not say."""
    head_dim: int | None = None
    """Rows of a head; None where the config does not say."""
    query_rows: int | None = None
    """Rows of Q, which are the features that the attention output O reads; None where there is no O."""
    latent_rows: int | None = None
    """Features that K_B and V_B read, which are rows of KV_A; None where there is no K_B."""
    latent_dim: int | None = None
    """Rows of KV_A as the config states them."""
    key_dim: int | None = None
    """Rows of a head of K_B as the config states them."""
    value_dim: int | None = None
    """Rows of a head of V_B as the config states them."""
    rotary_dim: int | None = None
    """Rows of K_R as the config states them."""


class LayoutError(ValueError):
    """The sizes do not fit the layout; the message is one sentence of what was found."""


Layout = Callable[[int, HeadCounts], Mapping[str, Rows]]


def _checked_counts(rows: int, counts: HeadCounts) -> tuple[int, int, int]:
    """Query heads, key and value heads and rows of a head, if config and shapes agree on them.

    O tells how many rows Q has, so shapes give the key and value heads where the config leaves them out. With
    neither, there are as many as query heads.
    """
    if counts.heads is None:
        raise LayoutError("How many heads there are is not known, since the config does not say.")
    heads, kv_heads = counts.heads, counts.kv_heads or counts.heads
    if counts.query_rows is None:
        head_dim, rest = divmod(rows, heads + 2 * kv_heads)
        if rest:
            raise LayoutError(
                f"{rows} rows do not divide into {heads} query and 2 x {kv_heads} key and value heads."
            )
    else:
        head_dim, rest = divmod(counts.query_rows, heads)
        if rest or not head_dim:
            raise LayoutError(
                f"The attention output reads {counts.query_rows} features, which do not divide into the "
                f"config's {heads} heads."
            )
        kv_heads, rest = divmod(rows - counts.query_rows, 2 * head_dim)
        if rest or kv_heads < 1 or heads % kv_heads:
            raise LayoutError(
                f"{rows} rows do not divide into {heads} query heads of {head_dim} and as many key as value "
                "heads."
            )
    _agree(
        rows, (counts.kv_heads, kv_heads, "key and value heads"), (counts.head_dim, head_dim, "rows a head")
    )
    return heads, kv_heads, head_dim


def contiguous_thirds(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """`[Q; K; V]` of equal heights, whatever the heads: models without grouped queries.

    >>> contiguous_thirds(12, HeadCounts())["K"]
    (range(4, 8),)
    """
    third = _third(rows, counts)
    return {"Q": (range(third),), "K": (range(third, 2 * third),), "V": (range(2 * third, rows),)}


def _third(rows: int, counts: HeadCounts) -> int:
    if rows % 3:
        raise LayoutError(f"{rows} rows do not divide into three equal parts.")
    if counts.query_rows not in (None, rows // 3):
        raise LayoutError(
            f"A third of the rows is {rows // 3}, and the attention output reads {counts.query_rows}."
        )
    return rows // 3


def contiguous_qkv(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """`[Q; K; V]`, with `kv_heads` key and value heads of the queries' size.

    Where O tells the rows of Q, no head count is needed.

    >>> contiguous_qkv(12, HeadCounts(heads=4, kv_heads=1))["K"]
    (range(8, 10),)
    >>> contiguous_qkv(12, HeadCounts(query_rows=8))["K"]
    (range(8, 10),)
    """
    if counts.heads is None and counts.query_rows is not None:
        query, rest = counts.query_rows, rows - counts.query_rows
        if rest % 2 or rest < 2:
            raise LayoutError(f"{rows} rows less {query} of queries do not divide into keys and values.")
        key = rest // 2
    else:
        heads, kv_heads, head_dim = _checked_counts(rows, counts)
        query, key = heads * head_dim, kv_heads * head_dim
    return {
        "Q": (range(query),),
        "K": (range(query, query + key),),
        "V": (range(query + key, query + 2 * key),),
    }


def interleaved_by_kv_group(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """For each key and value head its query heads, then the key, then the value.

    With one such head this is `[Q; k; v]`; with as many as query heads, `[q; k; v]` for each head.

    >>> interleaved_by_kv_group(8, HeadCounts(heads=4, kv_heads=2))
    {'Q': (range(0, 2), range(4, 6)), 'K': (range(2, 3), range(6, 7)), 'V': (range(3, 4), range(7, 8))}
    """
    if counts.query_rows is None and counts.kv_heads is None:
        raise LayoutError("How many key and value heads there are is told neither by the config nor by O.")
    heads, kv_heads, head_dim = _checked_counts(rows, counts)
    if heads % kv_heads:
        raise LayoutError(f"{heads} query heads do not divide into {kv_heads} groups.")
    query = heads // kv_heads * head_dim
    return _repeated(rows, kv_heads, {"Q": query, "K": head_dim, "V": head_dim})


def interleaved_by_head(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """`[q; k; v]` for each head; every query head has a key and value head of its own.

    >>> interleaved_by_head(6, HeadCounts(heads=2))["V"]
    (range(2, 3), range(5, 6))
    """
    if counts.heads is None:
        raise LayoutError("How many heads there are is not known, since the config does not say.")
    third = _third(rows, counts)
    if third % counts.heads:
        raise LayoutError(f"{rows} rows do not divide into {counts.heads} times a query, a key and a value.")
    if counts.kv_heads not in (None, counts.heads):
        raise LayoutError(
            f"The layout has as many key and value heads as query heads, and the config says {counts.heads} "
            f"query heads and {counts.kv_heads} key and value heads."
        )
    head_dim = third // counts.heads
    return _repeated(rows, counts.heads, dict.fromkeys("QKV", head_dim))


def contiguous_grouped(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """`[Q; K; V]` for models that store as many key and value heads as query heads in another way.

    ChatGLM2's code reads `[Q; K; V]` if `multi_query_attention`, else `[q; k; v]` for each head: where there
    are fewer key and value heads, or the config states their number, it is the former.

    >>> contiguous_grouped(12, HeadCounts(heads=4, query_rows=8))["V"]
    (range(10, 12),)
    """
    parts = contiguous_qkv(rows, counts)
    if counts.kv_heads is None and len(parts["K"][0]) == len(parts["Q"][0]):
        raise LayoutError(
            "It has as many key and value rows as query rows, and the config does not say that queries are "
            "grouped: [Q; K; V] and [q; k; v] for each head fit alike."
        )
    return parts


def four_blocks_qvk(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """Four blocks, each `[Q; V; K]` of a quarter of the heads: value before key.

    >>> four_blocks_qvk(12, HeadCounts())["K"]
    (range(2, 3), range(5, 6), range(8, 9), range(11, 12))
    """
    return _blocks_qvk(rows, counts, 4)


def eight_blocks_qvk(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """Eight blocks, each `[Q; V; K]` of an eighth of the heads.

    >>> eight_blocks_qvk(24, HeadCounts())["V"][:2]
    (range(1, 2), range(4, 5))
    """
    return _blocks_qvk(rows, counts, 8)


def codegen_blocks(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """CodeGen's four blocks `[Q; V; K]`, or the eight of CodeGen2-1B and 3.7B.

    The number of blocks is a constant in each model's code and in no config. Only those two state a
    `head_dim`, of 128 and 256, by which other converters tell them too.

    >>> codegen_blocks(12, HeadCounts()) == four_blocks_qvk(12, HeadCounts())
    True
    >>> codegen_blocks(24 * 128, HeadCounts(heads=8, head_dim=128))["Q"][1]
    range(384, 512)
    """
    if counts.head_dim not in (None, 128, 256):
        raise LayoutError(
            f"The config states heads of {counts.head_dim} rows: CodeGen states none and has four blocks, "
            "CodeGen2 states 128 or 256 and has eight."
        )
    return _blocks_qvk(rows, counts, 4 if counts.head_dim is None else 8)


def _blocks_qvk(rows: int, counts: HeadCounts, blocks: int) -> dict[str, Rows]:
    height, rest = divmod(_third(rows, counts), blocks)
    if rest or (counts.heads or blocks) % blocks:
        number = {4: "four", 8: "eight"}[blocks]
        raise LayoutError(f"{rows} rows of {counts.heads} heads do not divide into {number} equal blocks.")
    return _repeated(rows, blocks, {"Q": height, "V": height, "K": height})


def _repeated(rows: int, times: int, heights: Mapping[str, int]) -> dict[str, Rows]:
    """Rows of each part where parts of these heights follow one another, over and over."""
    period, start, parts = rows // times, 0, {}
    for part, height in heights.items():
        parts[part] = tuple(
            range(block + start, block + start + height) for block in range(0, times * period, period)
        )
        start += height
    return parts


def gate_then_up(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """`[G; M1]`: the half that goes through the activation first.

    >>> gate_then_up(6, HeadCounts())
    {'M1': (range(3, 6),), 'G': (range(0, 3),)}
    """
    if rows % 2:
        raise LayoutError(f"{rows} rows do not divide into two halves.")
    return {"M1": (range(rows // 2, rows),), "G": (range(rows // 2),)}


def key_then_value(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """`[K; V]`: cross attention, whose queries are stored apart because they read something else.

    >>> key_then_value(6, HeadCounts())
    {'K': (range(0, 3),), 'V': (range(3, 6),)}
    """
    if rows % 2:
        raise LayoutError(f"{rows} rows do not divide into two halves.")
    return {"K": (range(rows // 2),), "V": (range(rows // 2, rows),)}


def alternating_gate_and_up(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """Rows of G and M1 in turn, G first: GPT-OSS.

    >>> alternating_gate_and_up(6, HeadCounts())
    {'M1': (range(1, 6, 2),), 'G': (range(0, 6, 2),)}
    """
    gate_then_up(rows, counts)  # the same sizes fit
    return {"M1": (range(1, rows, 2),), "G": (range(0, rows, 2),)}


def query_then_gate_by_head(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """`[q; g]` for each head, where g scales what attention puts out: Qwen3-Next.

    >>> query_then_gate_by_head(8, HeadCounts(heads=2))
    {'Q': (range(0, 2), range(4, 6)), 'other': (range(2, 4), range(6, 8))}
    """
    if counts.heads is None:
        raise LayoutError("How many heads there are is not known, since the config does not say.")
    head_dim, rest = divmod(rows, 2 * counts.heads)
    if rest:
        raise LayoutError(f"{rows} rows do not divide into {counts.heads} times a query and its gate.")
    if counts.query_rows not in (None, rows // 2):
        raise LayoutError(
            f"Half of the rows is {rows // 2}, and the attention output reads {counts.query_rows} features."
        )
    _agree(rows, (counts.head_dim, head_dim, "rows a head"))
    return _repeated(rows, counts.heads, {"Q": head_dim, "other": head_dim})


def latent_then_rotary(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """`[KV_A; K_R]`: what keys and values are made of, then the one rotary key (DeepSeek's latent attention).

    >>> latent_then_rotary(10, HeadCounts(latent_rows=8))
    {'KV_A': (range(0, 8),), 'K_R': (range(8, 10),)}
    """
    latent = counts.latent_rows or counts.latent_dim
    if latent is None:
        raise LayoutError("How many rows are the latent's is told neither by the config nor by K_B.")
    if not 0 < latent < rows:
        raise LayoutError(f"The latent has {latent} rows, and there are {rows} with the rotary key's.")
    _agree(
        rows, (counts.latent_dim, latent, "rows of latent"), (counts.rotary_dim, rows - latent, "rotary rows")
    )
    return {"KV_A": (range(latent),), "K_R": (range(latent, rows),)}


def key_then_value_by_head(rows: int, counts: HeadCounts) -> dict[str, Rows]:
    """`[k; v]` for each head, of different heights: K_B and V_B of DeepSeek's latent attention.

    >>> key_then_value_by_head(10, HeadCounts(heads=2, query_rows=4))
    {'K_B': (range(0, 3), range(5, 8)), 'V_B': (range(3, 5), range(8, 10))}
    """
    if counts.heads is None:
        raise LayoutError("How many heads there are is not known, since the config does not say.")
    both, rest = divmod(rows, counts.heads)
    if rest:
        raise LayoutError(f"{rows} rows do not divide into {counts.heads} times a key and a value.")
    if counts.query_rows is not None:  # what O reads are the values
        value, rest = divmod(counts.query_rows, counts.heads)
        if rest:
            raise LayoutError(
                f"The attention output reads {counts.query_rows} features, which do not divide into the "
                f"config's {counts.heads} heads."
            )
    elif counts.value_dim is not None:
        value = counts.value_dim
    else:
        raise LayoutError("How high a head of values is, is told neither by the config nor by O.")
    if not 0 < value < both:
        raise LayoutError(f"A head has {both} rows, and {value} of them would be its value.")
    _agree(rows, (counts.value_dim, value, "rows a value"), (counts.key_dim, both - value, "rows a key"))
    return _repeated(rows, counts.heads, {"K_B": both - value, "V_B": value})


def _agree(rows: int, *sizes: tuple[int | None, int, str]) -> None:
    """Refuse what the config states otherwise: (stated, found, what it is)."""
    for stated, found, what in sizes:
        if stated not in (None, found):
            raise LayoutError(f"{rows} rows make {found} {what}, and the config says {stated}.")


QKV_LAYOUTS: dict[str, Layout] = {
    "contiguous_thirds": contiguous_thirds,
    "contiguous_qkv": contiguous_qkv,
    "contiguous_grouped": contiguous_grouped,
    "interleaved_by_head": interleaved_by_head,
    "interleaved_by_kv_group": interleaved_by_kv_group,
    "four_blocks_qvk": four_blocks_qvk,
    "eight_blocks_qvk": eight_blocks_qvk,
    "codegen_blocks": codegen_blocks,
}
"""Those that split a weight of the group QKV into Q, K and V, and keep the whole."""
PARTS: dict[str, tuple[str, ...]] = {
    "gate_then_up": ("M1", "G"),
    "alternating_gate_and_up": ("M1", "G"),
    "query_then_gate_by_head": ("Q", "other"),
    "latent_then_rotary": ("KV_A", "K_R"),
    "key_then_value_by_head": ("K_B", "V_B"),
    "key_then_value": ("K", "V"),
}
"""Of the others, the groups that a weight splits into; it goes by the first of them."""
LAYOUTS: dict[str, Layout] = {
    **QKV_LAYOUTS,
    "gate_then_up": gate_then_up,
    "alternating_gate_and_up": alternating_gate_and_up,
    "query_then_gate_by_head": query_then_gate_by_head,
    "latent_then_rotary": latent_then_rotary,
    "key_then_value_by_head": key_then_value_by_head,
    "key_then_value": key_then_value,
}
"""The layouts by the names that families use."""
