"""Decoders of LLaMA's kind whose feed-forward part is a mixture of experts, in some of the layers or all."""

from weightscope.families.entries.gated_decoders import ATTENTION, ENDS, INSIDE, LLAMA_BUFFERS, PREFIXES
from weightscope.families.entries.shorthand import linears, matrix
from weightscope.families.spec import FamilySpec, Group, IgnoredPattern, MatrixPattern

GATED = {"gate_proj": Group.G, "up_proj": Group.M1, "down_proj": Group.M2}
_LAYER = "{prefix}layers.{layer}."


def stacked(container: str) -> tuple[MatrixPattern, ...]:
    """All experts of a layer as transformers 5 has them in memory: (experts, out_features, in_features)."""
    return (
        matrix(f"{container}gate_up_proj", Group.M1, layout="gate_then_up", expert="stacked"),
        matrix(f"{container}down_proj", Group.M2, expert="stacked"),
    )


def experts(container: str) -> tuple[MatrixPattern, ...]:
    """Those of one layer: on disk, one Linear after the other, and in memory."""
    return (*linears(f"{container}{{expert}}.", GATED), *stacked(container))


def qwen_experts(layer: str, *, stack: str = "") -> tuple[MatrixPattern, ...]:
    """A router and its experts, one for every token beside them, and in other layers none of it."""
    return (
        matrix(f"{layer}mlp.gate.weight", Group.ROUTER, stack=stack),
        matrix(f"{layer}mlp.shared_expert_gate.weight", Group.OTHER, stack=stack),
        *linears(f"{layer}mlp.", GATED, stack=stack),
        *linears(f"{layer}mlp.shared_expert.", GATED, stack=stack, expert="shared"),
        *linears(f"{layer}mlp.experts.{{expert}}.", GATED, stack=stack),
    )


# There the config has one width, that of the experts, and of dense layers if there are any.
_ONE_WIDTH = {"expert_dimension": "intermediate_size"}

# On disk w1 is the gate, w3 the up and w2 the down projection.
MIXTRAL = FamilySpec(
    name="mixtral",
    model_types=("mixtral", "phimoe", "minimax_m2"),
    prefixes=PREFIXES,
    patterns=(
        *linears(_LAYER, ATTENTION),
        *linears(_LAYER, dict.fromkeys(("block_sparse_moe.gate", "mlp.gate", "mlp.router"), Group.ROUTER)),
        *linears(
            _LAYER + "block_sparse_moe.experts.{expert}.",
            {"w1": Group.G, "w3": Group.M1, "w2": Group.M2},
        ),
        *stacked(_LAYER + "mlp.experts."),
        *ENDS,
    ),
    ignored=LLAMA_BUFFERS,
    config_keys=_ONE_WIDTH,
    verified="forward pass",
    reference="transformers/models/mixtral/modeling_mixtral.py, phimoe, minimax_m2, v5.23",
)

QWEN2_MOE = FamilySpec(
    name="qwen2_moe",
    model_types=("qwen2_moe",),
    prefixes=PREFIXES,
    patterns=(
        *linears(_LAYER, ATTENTION),
        *qwen_experts(_LAYER),
        *stacked(_LAYER + "mlp.experts."),
        *ENDS,
    ),
    ignored=LLAMA_BUFFERS,
    verified="forward pass",
    reference="transformers/models/qwen2_moe/modeling_qwen2_moe.py, v5.23",
)

QWEN3_MOE = FamilySpec(
    name="qwen3_moe",
    model_types=("qwen3_moe",),
    prefixes=PREFIXES,
    patterns=(
        *linears(_LAYER, {**ATTENTION, "mlp.gate": Group.ROUTER}),
        *linears(_LAYER + "mlp.", GATED),
        *experts(_LAYER + "mlp.experts."),
        *ENDS,
    ),
    head_norm=_LAYER + "self_attn.q_norm.weight",
    verified="forward pass",
    reference="transformers/models/qwen3_moe/modeling_qwen3_moe.py, v5.23",
)

_LINEAR_ATTENTION = {
    "linear_attn.in_proj_qkvz": Group.OTHER,
    "linear_attn.in_proj_ba": Group.OTHER,
    "linear_attn.conv1d": Group.CONV,
    "linear_attn.out_proj": Group.OTHER,
}
_GATED_QUERY = "self_attn.q_proj.weight"
_KEY_VALUE_OUTPUT = {name: group for name, group in ATTENTION.items() if group != Group.Q}

# Three layers of four have linear attention (a gated delta rule), which has neither Q, K nor V in our sense.
# In the fourth q_proj holds, head by head, a query and the gate of what attention puts out. The block that
# predicts further tokens is in the Hub's files only: transformers does not load it.
QWEN3_NEXT = FamilySpec(
    name="qwen3_next",
    model_types=("qwen3_next",),
    prefixes=PREFIXES,
    patterns=(
        matrix(_LAYER + _GATED_QUERY, Group.Q, layout="query_then_gate_by_head"),
        *linears(_LAYER, {**_KEY_VALUE_OUTPUT, **_LINEAR_ATTENTION}),
        *qwen_experts(_LAYER),
        *stacked(_LAYER + "mlp.experts."),
        matrix("mtp.layers.{layer}." + _GATED_QUERY, Group.Q, layout="query_then_gate_by_head", stack="mtp"),
        *linears("mtp.layers.{layer}.", _KEY_VALUE_OUTPUT, stack="mtp"),
        *qwen_experts("mtp.layers.{layer}.", stack="mtp"),
        *ENDS,
    ),
    head_norm=_LAYER + "self_attn.q_norm.weight",
    verified="forward pass",
    reference="transformers/models/qwen3_next/modeling_qwen3_next.py, v5.23; mtp.* from the Hub's index",
)

# Wqkv is [Q; K; V] with grouped queries. The experts of a layer lie below one another in matrices of two
# dimensions; w1 is the gate, v1 the up projection, and w2 is stored (in_features, out_features).
DBRX = FamilySpec(
    name="dbrx",
    model_types=("dbrx",),
    prefixes=("transformer.", ""),
    patterns=(
        matrix("{prefix}blocks.{layer}.norm_attn_norm.attn.Wqkv.weight", Group.QKV, layout="contiguous_qkv"),
        *linears(
            "{prefix}blocks.{layer}.",
            {"norm_attn_norm.attn.out_proj": Group.O, "ffn.router.layer": Group.ROUTER},
        ),
        matrix("{prefix}blocks.{layer}.ffn.experts.mlp.w1", Group.G, expert="stacked"),
        matrix("{prefix}blocks.{layer}.ffn.experts.mlp.v1", Group.M1, expert="stacked"),
        matrix("{prefix}blocks.{layer}.ffn.experts.mlp.w2", Group.M2, expert="stacked", transposed=True),
        matrix("{prefix}wte.weight", Group.EMBEDDING),
        matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    config_keys={
        "kv_heads": "attn_config.kv_n_heads",
        "expert_dimension": "ffn_config.ffn_hidden_size",
        "experts": "ffn_config.moe_num_experts",
    },
    verified="forward pass",
    reference="transformers/models/dbrx/modeling_dbrx.py, v5.23",
)

# Stored (experts, in_features, out_features); the columns of gate and up take turns.
GPT_OSS = FamilySpec(
    name="gpt_oss",
    model_types=("gpt_oss",),
    prefixes=PREFIXES,
    patterns=(
        *linears(_LAYER, {**ATTENTION, "mlp.router": Group.ROUTER}),
        matrix(
            _LAYER + "mlp.experts.gate_up_proj",
            Group.M1,
            transposed=True,
            layout="alternating_gate_and_up",
            expert="stacked",
        ),
        matrix(_LAYER + "mlp.experts.down_proj", Group.M2, transposed=True, expert="stacked"),
        *ENDS,
    ),
    ignored=tuple(
        IgnoredPattern(
            template=f"{_LAYER}mlp.experts.{name}_bias", reason="biases, one row an expert", trained=True
        )
        for name in ("gate_up_proj", "down_proj")
    ),
    config_keys=_ONE_WIDTH,
    verified="forward pass",
    reference="transformers/models/gpt_oss/modeling_gpt_oss.py, v5.23",
)

# Some layers have attention, the others Mamba, which has neither Q, K nor V; every second one has experts.
JAMBA = FamilySpec(
    name="jamba",
    model_types=("jamba",),
    prefixes=PREFIXES,
    patterns=(
        *linears(_LAYER, {**ATTENTION, "feed_forward.router": Group.ROUTER}),
        *linears(_LAYER + "feed_forward.", GATED),
        *experts(_LAYER + "feed_forward.experts."),
        *linears(
            _LAYER + "mamba.",
            {
                "in_proj": Group.OTHER,
                "x_proj": Group.OTHER,
                "dt_proj": Group.OTHER,
                "out_proj": Group.OTHER,
                "conv1d": Group.CONV,
            },
        ),
        matrix(_LAYER + "mamba.A_log", Group.OTHER),
        *ENDS,
    ),
    config_keys=_ONE_WIDTH,
    verified="forward pass",
    reference="transformers/models/jamba/modeling_jamba.py, v5.23",
)

# Experts stored (experts, in_features, out_features), gate before up; one for every token beside them. Layers
# without experts are as LLaMA's. The Hub's files hold a tower of vision too, which is in no group.
LLAMA4 = FamilySpec(
    name="llama4",
    model_types=("llama4_text", "llama4"),
    prefixes=INSIDE,
    patterns=(
        *linears(_LAYER, {**ATTENTION, "feed_forward.router": Group.ROUTER}),
        *linears(_LAYER + "feed_forward.", GATED),
        *linears(_LAYER + "feed_forward.shared_expert.", GATED, expert="shared"),
        matrix(
            _LAYER + "feed_forward.experts.gate_up_proj",
            Group.M1,
            transposed=True,
            layout="gate_then_up",
            expert="stacked",
        ),
        matrix(_LAYER + "feed_forward.experts.down_proj", Group.M2, transposed=True, expert="stacked"),
        *ENDS,
        matrix("language_model.lm_head.weight", Group.UNEMBEDDING),
    ),
    config_keys=_ONE_WIDTH,
    stack_keys={"decoder": {"feed_forward_dimension": "intermediate_size_mlp"}},
    verified="forward pass",
    reference="transformers/models/llama4/modeling_llama4.py, v5.23",
)
