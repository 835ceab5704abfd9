"""How fused queries, keys and values split: pure functions from sizes to rows of the fused matrix.

A layout takes the number of rows (out_features, the file's transposition already undone) and the
model's head counts, and says for each part which rows are its own, as ranges in order. No tensors.
"""

from weightscope.families.heads import HeadCounts, LayoutError, Rows, agree, repeated


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
        if rest or not head_dim:
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
    agree(
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
    if rows % 3 or not rows:
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
    return repeated(rows, kv_heads, {"Q": query, "K": head_dim, "V": head_dim})


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
    return repeated(rows, counts.heads, dict.fromkeys("QKV", head_dim))


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
    return repeated(rows, blocks, {"Q": height, "V": height, "K": height})
