"""Further mixtures of experts, most with LLaMA's attention."""

from weightscope.families.entries.gated_decoders import ATTENTION, ENDS, LLAMA_BUFFERS, PREFIXES
from weightscope.families.entries.mixtures import GATED, experts, stacked
from weightscope.families.entries.shorthand import linears, matrix
from weightscope.families.spec import FamilySpec, Group, IgnoredPattern

_LAYER = "{prefix}layers.{layer}."
# Mamba's part of a hybrid layer, which has neither Q, K nor V.
MAMBA = {"in_proj": Group.OTHER, "out_proj": Group.OTHER, "conv1d": Group.CONV}

# The norms of queries and keys are as wide as all heads.
OLMOE = FamilySpec(
    name="olmoe",
    model_types=("olmoe", "flex_olmo"),
    prefixes=PREFIXES,
    patterns=(
        *linears(_LAYER, {**ATTENTION, "mlp.gate": Group.ROUTER}),
        *experts(_LAYER + "mlp.experts."),
        *ENDS,
    ),
    verified="forward pass",
    reference="transformers/models/olmoe/modeling_olmoe.py and flex_olmo, v5.23",
)

_SHARED_EXPERTS = (
    *linears(_LAYER, {**ATTENTION, "mlp.gate": Group.ROUTER}),
    *linears(_LAYER + "mlp.", GATED),
    *linears(_LAYER + "mlp.shared_experts.", GATED, expert="shared"),
    *experts(_LAYER + "mlp.experts."),
    *ENDS,
)

# The block after the last layer predicts a further token; transformers does not load it.
GLM4_MOE = FamilySpec(
    name="glm4_moe",
    model_types=("glm4_moe", "dots1"),
    prefixes=PREFIXES,
    patterns=(
        *_SHARED_EXPERTS,
        *linears(
            _LAYER,
            {
                "eh_proj": Group.OTHER,
                "embed_tokens": Group.EMBEDDING,
                "shared_head.head": Group.UNEMBEDDING,
            },
            optional=True,
        ),
    ),
    stack_beyond="mtp",
    beyond="{prefix}layers.{layer}.eh_proj.weight",
    verified="forward pass",
    reference="transformers/models/glm4_moe/modeling_glm4_moe.py and dots1, v5.23; the block of further "
    "tokens as in deepseek_v3",
)

ERNIE4_5_MOE = FamilySpec(
    name="ernie4_5_moe",
    model_types=("ernie4_5_moe",),
    prefixes=PREFIXES,
    patterns=_SHARED_EXPERTS,
    ignored=tuple(
        IgnoredPattern(
            template=f"{_LAYER}mlp.{container}moe_statics.e_score_correction_bias",
            reason="what corrects the router's choice, one number an expert",
            trained=True,
        )
        for container in ("", "gate.")
    ),
    verified="forward pass",
    reference="transformers/models/ernie4_5_moe/modeling_ernie4_5_moe.py and conversion_mapping.py, v5.23",
)

# input_linear is [G; M1], of all experts (experts, out_features, in_features). Beside them, or instead, a
# shared_mlp sees every token; some layers have Mamba instead of attention. In memory transformers 5 has
# other names.
GRANITE_MOE = FamilySpec(
    name="granitemoe",
    model_types=("granitemoe", "granitemoeshared", "granitemoehybrid"),
    prefixes=PREFIXES,
    patterns=(
        *linears(
            _LAYER,
            {
                **ATTENTION,
                "block_sparse_moe.router.layer": Group.ROUTER,
                "block_sparse_moe.router": Group.ROUTER,
            },
        ),
        matrix(
            _LAYER + "block_sparse_moe.input_linear.weight",
            Group.M1,
            layout="gate_then_up",
            expert="stacked",
        ),
        matrix(_LAYER + "block_sparse_moe.output_linear.weight", Group.M2, expert="stacked"),
        *stacked(_LAYER + "block_sparse_moe.experts."),
        matrix(_LAYER + "shared_mlp.input_linear.weight", Group.M1, layout="gate_then_up", expert="shared"),
        matrix(_LAYER + "shared_mlp.output_linear.weight", Group.M2, expert="shared"),
        *linears(_LAYER + "mamba.", MAMBA),
        *ENDS,
    ),
    ignored=LLAMA_BUFFERS,
    verified="forward pass",
    reference="transformers/models/granitemoe/modeling_granitemoe.py, granitemoeshared, granitemoehybrid and "
    "conversion_mapping.py, v5.23",
)

_W = {"w1": Group.G, "w3": Group.M1, "w2": Group.M2}

# Most layers have a short convolution between two projections, which is no attention. w1 is the gate. The
# config's intermediate_size is made smaller before it is used.
LFM2 = FamilySpec(
    name="lfm2",
    model_types=("lfm2", "lfm2_moe"),
    prefixes=PREFIXES,
    patterns=(
        *linears(
            _LAYER + "self_attn.",
            {"q_proj": Group.Q, "k_proj": Group.K, "v_proj": Group.V, "out_proj": Group.O},
        ),
        *linears(_LAYER + "conv.", {"in_proj": Group.OTHER, "out_proj": Group.OTHER, "conv": Group.CONV}),
        *linears(_LAYER + "feed_forward.", _W),
        matrix(_LAYER + "feed_forward.gate.weight", Group.ROUTER, optional=True),
        *linears(_LAYER + "feed_forward.experts.{expert}.", _W, optional=True),
        matrix(
            _LAYER + "feed_forward.experts.gate_up_proj",
            Group.M1,
            layout="gate_then_up",
            expert="stacked",
            optional=True,
        ),
        matrix(_LAYER + "feed_forward.experts.down_proj", Group.M2, expert="stacked", optional=True),
        *ENDS,
    ),
    config_keys={"feed_forward_dimension": ""},
    verified="forward pass",
    reference="transformers/models/lfm2/modeling_lfm2.py and lfm2_moe, v5.23",
)
