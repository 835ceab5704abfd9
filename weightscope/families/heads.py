"""What a layout may know of a model, and how it says which rows are whose."""

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


def repeated(rows: int, times: int, heights: Mapping[str, int]) -> dict[str, Rows]:
    """Rows of each part where parts of these heights follow one another, over and over."""
    period, start, parts = rows // times, 0, {}
    for part, height in heights.items():
        parts[part] = tuple(
            range(block + start, block + start + height) for block in range(0, times * period, period)
        )
        start += height
    return parts


def agree(rows: int, *sizes: tuple[int | None, int, str]) -> None:
    """Refuse what the config states otherwise: (stated, found, what it is)."""
    for stated, found, what in sizes:
        if stated not in (None, found):
            raise LayoutError(f"{rows} rows make {found} {what}, and the config says {stated}.")
