"""The model's sizes as config.json states them, under whichever key its authors chose."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weightscope.families.layouts import HeadCounts

# transformers 5.23's names first, then those of GPT-2's, MPT's and GPT-Neo's time.
_KEYS: dict[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "model_dimension": ("hidden_size", "n_embd", "d_model", "dim"),
    "feed_forward_dimension": ("intermediate_size", "n_inner", "hidden_dim", "d_ff", "ffn_dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "kv_heads": ("num_key_value_heads", "n_head_kv", "num_kv_heads"),
    "vocabulary": ("vocab_size",),
}
# The largest vocabularies are below a million.
_MOST = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSizes:
    """Sizes stated by the config; None where it does not state one."""

    layers: int | None = None
    """Transformer blocks."""
    model_dimension: int | None = None
    """Width of the residual stream."""
    feed_forward_dimension: int | None = None
    """Width of the MLP."""
    heads: int | None = None
    """Query heads."""
    kv_heads: int | None = None
    """Key and value heads."""
    vocabulary: int | None = None
    """Tokens."""

    @property
    def head_counts(self) -> HeadCounts:
        """What the layouts take."""
        return HeadCounts(heads=self.heads, kv_heads=self.kv_heads)


def read_sizes(config: Mapping[str, Any], own_keys: Mapping[str, str] | None = None) -> ConfigSizes:
    """The sizes in a config.

    Args:
        config: The content of config.json.
        own_keys: The family's own names of keys, tried before the usual ones.
    """
    own_keys = own_keys or {}
    found: dict[str, int | None] = {}
    for size, keys in _KEYS.items():
        candidates = (own_keys[size], *keys) if size in own_keys else keys
        # bool is an int to Python; a size below 1 is none, nor is one beyond any model.
        values = (config.get(key) for key in candidates)
        found[size] = next((v for v in values if type(v) is int and 0 < v <= _MOST), None)
    return ConfigSizes(**found)
