"""The model's sizes as config.json states them, under whichever key its authors chose."""

from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as brief  # a config is somebody else's text, of any length
from typing import Any

from weightscope.families.heads import HeadCounts
from weightscope.families.spec import FamilySpec

# transformers 5.23's names first, then those of GPT-2's, MPT's and GPT-Neo's time.
_KEYS: dict[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "model_dimension": ("hidden_size", "n_embd", "d_model", "dim"),
    "feed_forward_dimension": ("intermediate_size", "n_inner", "hidden_dim", "d_ff", "ffn_dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "kv_heads": ("num_key_value_heads", "n_head_kv", "num_kv_heads"),
    "head_dim": ("head_dim",),
    "vocabulary": ("vocab_size",),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    "expert_dimension": ("moe_intermediate_size",),
    "shared_expert_dimension": ("shared_expert_intermediate_size",),
    "query_latent_dim": ("q_lora_rank",),
    "latent_dim": ("kv_lora_rank",),
    "key_dim": ("qk_nope_head_dim",),
    "value_dim": ("v_head_dim",),
    "rotary_dim": ("qk_rope_head_dim",),
}
# The largest vocabularies are below a million; layers and experts are table cells of 64 bits.
MOST = 10**9


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
    head_dim: int | None = None
    """Rows of a head."""
    vocabulary: int | None = None
    """Tokens."""
    experts: int | None = None
    """Experts a layer among which a router chooses."""
    expert_dimension: int | None = None
    """Width of such an expert."""
    shared_expert_dimension: int | None = None
    """Width of the expert that every token goes through."""
    query_latent_dim: int | None = None
    """Of latent attention, what queries are made of."""
    latent_dim: int | None = None
    """Of latent attention, what keys and values are made of."""
    key_dim: int | None = None
    """Of latent attention, rows of a key's head without the rotary part."""
    value_dim: int | None = None
    """Of latent attention, rows of a value's head."""
    rotary_dim: int | None = None
    """Of latent attention, rows of the rotary key that all heads share."""

    @property
    def head_counts(self) -> HeadCounts:
        """What the layouts take."""
        return HeadCounts(
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            latent_dim=self.latent_dim,
            key_dim=self.key_dim,
            value_dim=self.value_dim,
            rotary_dim=self.rotary_dim,
        )


def stack_sizes(config: Mapping[str, Any], spec: FamilySpec) -> dict[str, ConfigSizes]:
    """The sizes of the family's own stack and of every other that its config tells apart."""
    return {stack: read_sizes(config, spec, stack) for stack in (spec.stack, *spec.stack_keys)}


def config_levels(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Where a config may state something of its text: its `text_config`, if it has one, and itself."""
    text = config.get("text_config")
    return (text, config) if isinstance(text, Mapping) else (config,)


def read_sizes(config: Mapping[str, Any], spec: FamilySpec, stack: str = "") -> ConfigSizes:
    """The sizes in a config, or in its `text_config` where that states them.

    Args:
        config: The content of config.json.
        spec: The family; its own names of keys are tried before the usual ones, or instead of them where it
            has one for this stack: the usual ones would be another stack's.
        stack: Which stack's; the family's own if empty.
    """
    of_stack = spec.stack_keys.get(stack or spec.stack, {})
    levels = config_levels(config)
    found: dict[str, int | None] = {}
    for size, keys in _KEYS.items():
        own = (*_several(of_stack.get(size, ())), *_several(spec.config_keys.get(size, ())))
        candidates = own if size in of_stack or "" in own else (*own, *keys)
        values = (whole_number(value_at(level, key)) for level in levels for key in candidates)
        found[size] = next((v for v in values if v is not None), None)
    if config.get("pruned_heads"):  # {layer: heads taken out}: no number of heads holds for every layer
        found |= {"heads": None, "kv_heads": None}
    grouped, single = (
        next((v for level in levels if type(v := level.get(spec.config_flags.get(flag, ""))) is bool), None)
        for flag in ("grouped_queries", "multi_query")
    )
    if not grouped and single is not None:
        found["kv_heads"] = 1 if single else found["heads"]
    elif grouped is False:
        found["kv_heads"] = None
    return ConfigSizes(**found)


def no_sizes(config: Mapping[str, Any], spec: FamilySpec) -> tuple[str, ...]:
    """Of layers, width or heads that a config states by what can be none: it is passed over.

    Of other sizes 0 is common, for models without what they count.
    """
    levels = config_levels(config)
    said: dict[str, None] = {}
    for size in ("layers", "model_dimension", "heads"):
        own, keys = _several(spec.config_keys.get(size, ())), _KEYS[size]
        for key in own if "" in own else (*own, *keys):
            for value in (value_at(level, key) for level in levels):
                scalar = isinstance(value, (str, float)) or type(value) is int
                if scalar and whole_number(value) is None:
                    said[f"config.json has {key}: {brief(value)}, which is no size: passed over."] = None
    return tuple(said)


def _several(keys: str | tuple[str, ...]) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else keys


def whole_number(value: Any) -> int | None:
    """A size, which some tools write as `24.0` or `"24"`; below 1 or beyond any model it is none."""
    digits = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 12
    if digits or (type(value) is float and value.is_integer()):
        value = int(value)
    # bool is an int to Python
    return value if type(value) is int and 0 < value <= MOST else None


def value_at(config: Mapping[str, Any], key: str) -> Any:
    """What stands at a key such as `n_head`, or inside others such as `attn_config.kv_n_heads`."""
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
