"""Decoders with attention and something that takes its place in other layers, or stands beside it."""

from weightscope.families.entries.gated_decoders import ATTENTION, ENDS, INSIDE, PREFIXES
from weightscope.families.entries.image_text import QWEN3_TOWER, QWEN3_TOWER_KEYS
from weightscope.families.entries.mixtures import GATED, qwen_experts, stacked
from weightscope.families.entries.shorthand import linears, matrix
from weightscope.families.entries.sparse_decoders import MAMBA
from weightscope.families.spec import FamilySpec, Group

_LAYER = "{prefix}layers.{layer}."

# Bamba has Mamba in most layers and attention in the others, Falcon-H1 both in each.
FALCON_H1 = FamilySpec(
    name="falcon_h1",
    model_types=("falcon_h1", "bamba"),
    prefixes=PREFIXES,
    patterns=(
        *linears(_LAYER, ATTENTION),
        *linears(_LAYER + "feed_forward.", GATED),
        *linears(_LAYER + "mamba.", MAMBA),
        *ENDS,
    ),
    verified="modules",
    reference="transformers/models/falcon_h1/modeling_falcon_h1.py and bamba, v5.23",
)

# A layer is Mamba, attention, a feed-forward part or a mixture of experts: one of the four. Nothing is gated.
NEMOTRON_H = FamilySpec(
    name="nemotron_h",
    model_types=("nemotron_h",),
    prefixes=("backbone.", "model.", ""),
    patterns=(
        *linears(
            _LAYER + "mixer.",
            {
                **{f"{name}_proj": Group(name.upper()) for name in "qkvo"},
                "up_proj": Group.M1,
                "down_proj": Group.M2,
                **MAMBA,
            },
        ),
        *linears(_LAYER + "mixer.", {"gate": Group.ROUTER}, optional=True),
        *linears(
            _LAYER + "mixer.shared_experts.",
            {"up_proj": Group.M1, "down_proj": Group.M2},
            expert="shared",
            optional=True,
        ),
        *linears(
            _LAYER + "mixer.experts.{expert}.", {"up_proj": Group.M1, "down_proj": Group.M2}, optional=True
        ),
        matrix(_LAYER + "mixer.experts.up_proj", Group.M1, expert="stacked", optional=True),
        matrix(_LAYER + "mixer.experts.down_proj", Group.M2, expert="stacked", optional=True),
        matrix("{prefix}embeddings.weight", Group.EMBEDDING),
        matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    verified="forward pass",
    reference="transformers/models/nemotron_h/modeling_nemotron_h.py and conversion_mapping.py, v5.23",
)

_GATED_QUERY = "self_attn.q_proj.weight"
_KEY_VALUE_OUTPUT = {name: group for name, group in ATTENTION.items() if group != Group.Q}

_FURTHER = "mtp.layers.{layer}."
_QWEN3_5 = (
    matrix(_LAYER + _GATED_QUERY, Group.Q, layout="query_then_gate_by_head"),
    *linears(_LAYER, _KEY_VALUE_OUTPUT),
    *linears(
        _LAYER + "linear_attn.",
        {
            **dict.fromkeys(("in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj"), Group.OTHER),
            "conv1d": Group.CONV,
        },
    ),
    matrix(_FURTHER + _GATED_QUERY, Group.Q, layout="query_then_gate_by_head", stack="mtp"),
    *linears(_FURTHER, _KEY_VALUE_OUTPUT, stack="mtp"),
    *ENDS,
    *QWEN3_TOWER,
)

# Qwen3-Next's layers without experts: in three of four linear attention, and in the fourth q_proj holds, head
# by head, a query and a gate. The tower is Qwen3-VL's. The block that predicts further tokens is in the Hub's
# files only: transformers does not load it.
QWEN3_5 = FamilySpec(
    name="qwen3_5",
    model_types=("qwen3_5_text", "qwen3_5"),
    prefixes=INSIDE,
    patterns=(
        *_QWEN3_5,
        *linears(_LAYER + "mlp.", GATED),
        *linears(_FURTHER + "mlp.", GATED, stack="mtp"),
    ),
    stack_keys=QWEN3_TOWER_KEYS,
    head_norm=_LAYER + "self_attn.q_norm.weight",
    verified="forward pass",
    reference="transformers/models/qwen3_5/modeling_qwen3_5.py, v5.23; mtp.* as in qwen3_next",
)

QWEN3_5_MOE = FamilySpec(
    name="qwen3_5_moe",
    model_types=("qwen3_5_moe_text", "qwen3_5_moe"),
    prefixes=INSIDE,
    patterns=(
        *_QWEN3_5,
        *qwen_experts(_LAYER),
        *stacked(_LAYER + "mlp.experts."),
        *qwen_experts(_FURTHER, stack="mtp"),
    ),
    stack_keys=QWEN3_TOWER_KEYS,
    head_norm=_LAYER + "self_attn.q_norm.weight",
    verified="forward pass",
    reference="transformers/models/qwen3_5_moe/modeling_qwen3_5_moe.py, v5.23; mtp.* as in qwen3_next",
)
