"""What keeps the entries short: several templates at once, and the buffers that old files hold."""

from collections.abc import Mapping
from typing import Literal

from weightscope.families.spec import SIZES, Group, IgnoredPattern, MatrixPattern

MASK = "causal mask kept as a buffer"
POSITION_IDS = "position ids kept as a buffer"
FREQUENCIES = "rotary frequencies"
SINES = "positions as sines, kept as a buffer"

# Where transformers keeps the sizes of a tower: its names of today.
_USUAL = {
    "layers": "num_hidden_layers",
    "model_dimension": "hidden_size",
    "feed_forward_dimension": "intermediate_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "vocabulary": "vocab_size",
    "experts": "num_experts",
    "expert_dimension": "moe_intermediate_size",
    "shared_expert_dimension": "shared_expert_intermediate_size",
    "query_latent_dim": "q_lora_rank",
    "latent_dim": "kv_lora_rank",
    "key_dim": "qk_nope_head_dim",
    "value_dim": "v_head_dim",
    "rotary_dim": "qk_rope_head_dim",
}


def nested_sizes(config: str) -> dict[str, str]:
    """The keys of a tower's sizes in a config of its own: of every size, so that none is another tower's."""
    return {size: f"{config}.{_USUAL[size]}" for size in SIZES}


def matrix(
    template: str,
    group: Group,
    *,
    transposed: bool = False,
    layout: str | None = None,
    stack: str = "",
    kind: Literal["self", "cross"] = "self",
    expert: Literal["", "stacked", "shared"] = "",
    outside: bool = False,
    optional: bool = False,
) -> MatrixPattern:
    """One pattern."""
    return MatrixPattern(
        template=template,
        group=group,
        transposed=transposed,
        layout=layout,
        stack=stack,
        attention_kind=kind,
        expert=expert,
        outside=outside,
        optional=optional,
    )


def linears(
    container: str,
    roles: Mapping[str, Group],
    *,
    stack: str = "",
    kind: Literal["self", "cross"] = "self",
    expert: Literal["", "stacked", "shared"] = "",
    optional: bool = False,
) -> tuple[MatrixPattern, ...]:
    """The `.weight` of several plain `nn.Linear`s or embeddings of one container, such as a layer."""
    return tuple(
        matrix(f"{container}{name}.weight", group, stack=stack, kind=kind, expert=expert, optional=optional)
        for name, group in roles.items()
    )


def buffers(container: str, *names: str, reason: str) -> tuple[IgnoredPattern, ...]:
    """Tensors of one container that are no weights."""
    return tuple(IgnoredPattern(template=f"{container}{name}", reason=reason) for name in names)
