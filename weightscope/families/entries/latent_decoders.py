"""Decoders with multi-head latent attention: keys and values are made of one short vector."""

from weightscope.families.entries.gated_decoders import ENDS, PREFIXES
from weightscope.families.entries.mixtures import GATED, experts
from weightscope.families.entries.shorthand import linears, matrix
from weightscope.families.spec import FamilySpec, Group

_LAYER = "{prefix}layers.{layer}."

# Latent attention: keys and values are made of one vector, queries of another (small models have q_proj). Of
# kv_a_proj_with_mqa the last rows are a rotary key that all heads share. A config's head_dim is that key's.
# The block after the last layer predicts a further token; transformers does not load it.
DEEPSEEK_V3 = FamilySpec(
    name="deepseek_v3",
    model_types=("deepseek_v3", "deepseek_v2", "kimi_k2"),
    prefixes=PREFIXES,
    patterns=(
        matrix(_LAYER + "self_attn.o_proj.weight", Group.O),
        *linears(
            _LAYER + "self_attn.",
            {"q_proj": Group.Q, "q_a_proj": Group.Q_A, "q_b_proj": Group.Q_B},
            optional=True,
        ),
        matrix(_LAYER + "self_attn.kv_a_proj_with_mqa.weight", Group.KV_A, layout="latent_then_rotary"),
        matrix(_LAYER + "self_attn.kv_b_proj.weight", Group.K_B, layout="key_then_value_by_head"),
        *linears(_LAYER + "mlp.", {**GATED, "gate": Group.ROUTER}),
        *linears(_LAYER + "mlp.shared_experts.", GATED, expert="shared"),
        *experts(_LAYER + "mlp.experts."),
        *linears(
            _LAYER,
            {
                "eh_proj": Group.OTHER,
                "embed_tokens": Group.EMBEDDING,
                "shared_head.head": Group.UNEMBEDDING,
            },
            optional=True,
        ),
        *ENDS,
    ),
    stack_beyond="mtp",
    beyond=_LAYER + "eh_proj.weight",
    config_keys={"head_dim": ""},
    verified="forward pass",
    reference="transformers/models/deepseek_v3/modeling_deepseek_v3.py, v5.23; the block of further tokens "
    "from the Hub's index",
)
