"""How other fused weights split: gate and up, keys and values, a query and its gate, latent attention."""

from weightscope.families.heads import HeadCounts, LayoutError, Rows, agree, repeated


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
    agree(rows, (counts.head_dim, head_dim, "rows a head"))
    return repeated(rows, counts.heads, {"Q": head_dim, "other": head_dim})


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
    agree(
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
    agree(rows, (counts.value_dim, value, "rows a value"), (counts.key_dim, both - value, "rows a key"))
    return repeated(rows, counts.heads, {"K_B": both - value, "V_B": value})
