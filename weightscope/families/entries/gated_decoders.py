"""Decoders of LLaMA's kind: separate Q, K and V with grouped queries, and a gated feed-forward part."""

from weightscope.families.entries.shorthand import FREQUENCIES, buffers, linears, matrix, nested_sizes
from weightscope.families.entries.vision import vision_tower
from weightscope.families.spec import FamilySpec, Group

# Models for question answering are called transformer, for compatibility with files of transformers 4.
PREFIXES = ("model.", "transformer.", "")
# The text model of a larger one: on the Hub, and as transformers 5 has it in memory.
INSIDE = (*PREFIXES, "language_model.model.", "model.language_model.", "language_model.")
ATTENTION = {
    "self_attn.q_proj": Group.Q,
    "self_attn.k_proj": Group.K,
    "self_attn.v_proj": Group.V,
    "self_attn.o_proj": Group.O,
}
ENDS = (
    matrix("{prefix}embed_tokens.weight", Group.EMBEDDING),
    matrix("lm_head.weight", Group.UNEMBEDDING),
)
_LLAMA = (
    *linears(
        "{prefix}layers.{layer}.",
        {
            **ATTENTION,
            "mlp.gate_proj": Group.G,
            "mlp.up_proj": Group.M1,
            "mlp.down_proj": Group.M2,
        },
    ),
    *ENDS,
)
# Files of transformers 4.30 and older.
LLAMA_BUFFERS = buffers(
    "{prefix}layers.{layer}.self_attn.rotary_emb.",
    "inv_freq",
    "cos_cached",
    "sin_cached",
    reason=FREQUENCIES,
)
_HEAD_NORM = "{prefix}layers.{layer}.self_attn.q_norm.weight"
_FUSED_GATE = matrix("{prefix}layers.{layer}.mlp.gate_up_proj.weight", Group.M1, layout="gate_then_up")

# Of Command R+ (cohere) the gains of the norms of queries and keys, one row a head, are in no group.
LLAMA = FamilySpec(
    name="llama",
    model_types=(
        *("llama", "olmo", "ministral", "ministral3", "seed_oss", "ernie4_5"),
        *("hunyuan_v1_dense", "helium", "hyperclovax", "cohere"),
    ),
    prefixes=PREFIXES,
    patterns=_LLAMA,
    ignored=LLAMA_BUFFERS,
    verified="modules",
    reference="transformers/models/llama/modeling_llama.py, v5.23",
)

MISTRAL = FamilySpec(
    name="mistral",
    model_types=("mistral",),
    prefixes=PREFIXES,
    patterns=_LLAMA,
    ignored=LLAMA_BUFFERS,
    verified="modules",
    formula=("no prefix, beside a head",),
    reference="transformers/models/mistral/modeling_mistral.py, v5.23",
)

QWEN2 = FamilySpec(
    name="qwen2",
    model_types=("qwen2",),
    prefixes=PREFIXES,
    patterns=_LLAMA,
    ignored=LLAMA_BUFFERS,
    verified="modules",
    reference="transformers/models/qwen2/modeling_qwen2.py, v5.23",
)

QWEN3 = FamilySpec(
    name="qwen3",
    model_types=("qwen3", "exaone4"),
    prefixes=PREFIXES,
    patterns=_LLAMA,
    ignored=LLAMA_BUFFERS,
    head_norm=_HEAD_NORM,
    verified="modules",
    reference="transformers/models/qwen3/modeling_qwen3.py, v5.23",
)

GEMMA = FamilySpec(
    name="gemma",
    model_types=("gemma",),
    prefixes=PREFIXES,
    patterns=_LLAMA,
    ignored=LLAMA_BUFFERS,
    verified="modules",
    reference="transformers/models/gemma/modeling_gemma.py, v5.23",
)

GEMMA2 = FamilySpec(
    name="gemma2",
    model_types=("gemma2", "vaultgemma"),
    prefixes=PREFIXES,
    patterns=_LLAMA,
    ignored=LLAMA_BUFFERS,
    verified="modules",
    reference="transformers/models/gemma2/modeling_gemma2.py, v5.23",
)

# Alone, or with SigLIP's vision tower: of the Hub's files, as transformers 5 writes it, and as it has it in
# memory. The tower's config is apart, the text's may leave out all heads.
GEMMA3 = FamilySpec(
    name="gemma3",
    model_types=("gemma3_text", "gemma3"),
    prefixes=INSIDE,
    patterns=(
        *_LLAMA,
        matrix("language_model.lm_head.weight", Group.UNEMBEDDING),
        *vision_tower("vision_tower.vision_model."),
        *vision_tower("vision_tower."),
        *vision_tower("model.vision_tower.vision_model."),
        *vision_tower("model.vision_tower."),
        # A parameter that the image's features are multiplied with from the left.
        *(
            matrix(f"{before}multi_modal_projector.mm_input_projection_weight", Group.OTHER, transposed=True)
            for before in ("", "model.")
        ),
    ),
    ignored=LLAMA_BUFFERS,
    stack_keys={"vision": nested_sizes("vision_config")},
    head_norm=_HEAD_NORM,
    verified="modules",
    formula=("the prefix language_model.model.",),
    reference="transformers/models/gemma3/modeling_gemma3.py, siglip/modeling_siglip.py, v5.23",
)

STABLELM = FamilySpec(
    name="stablelm",
    model_types=("stablelm",),
    prefixes=PREFIXES,
    patterns=_LLAMA,
    ignored=LLAMA_BUFFERS,
    verified="modules",
    reference="transformers/models/stablelm/modeling_stablelm.py, v5.23",
)

OLMO2 = FamilySpec(
    name="olmo2",
    model_types=("olmo2", "olmo3"),
    prefixes=PREFIXES,
    patterns=_LLAMA,
    ignored=LLAMA_BUFFERS,
    verified="modules",
    reference="transformers/models/olmo2/modeling_olmo2.py, v5.23",
)

COHERE2 = FamilySpec(
    name="cohere2",
    model_types=("cohere2",),
    prefixes=PREFIXES,
    patterns=_LLAMA,
    ignored=LLAMA_BUFFERS,
    verified="modules",
    reference="transformers/models/cohere2/modeling_cohere2.py, v5.23",
)

GRANITE = FamilySpec(
    name="granite",
    model_types=("granite",),
    prefixes=PREFIXES,
    patterns=_LLAMA,
    ignored=LLAMA_BUFFERS,
    verified="modules",
    reference="transformers/models/granite/modeling_granite.py, v5.23",
)

SMOLLM3 = FamilySpec(
    name="smollm3",
    model_types=("smollm3",),
    prefixes=PREFIXES,
    patterns=_LLAMA,
    ignored=LLAMA_BUFFERS,
    verified="modules",
    reference="transformers/models/smollm3/modeling_smollm3.py, v5.23",
)

# qkv_proj is [Q; K; V] with grouped queries, gate_up_proj is [G; M1].
PHI3 = FamilySpec(
    name="phi3",
    model_types=("phi3",),
    prefixes=PREFIXES,
    patterns=(
        matrix("{prefix}layers.{layer}.self_attn.qkv_proj.weight", Group.QKV, layout="contiguous_qkv"),
        matrix("{prefix}layers.{layer}.self_attn.o_proj.weight", Group.O),
        _FUSED_GATE,
        matrix("{prefix}layers.{layer}.mlp.down_proj.weight", Group.M2),
        *ENDS,
    ),
    ignored=LLAMA_BUFFERS,
    verified="forward pass",
    reference="transformers/models/phi3/modeling_phi3.py, v5.23",
)

# gate_up_proj is [G; M1].
GLM4 = FamilySpec(
    name="glm4",
    model_types=("glm4", "glm"),
    prefixes=PREFIXES,
    patterns=(
        *linears("{prefix}layers.{layer}.", {**ATTENTION, "mlp.down_proj": Group.M2}),
        _FUSED_GATE,
        *ENDS,
    ),
    ignored=LLAMA_BUFFERS,
    verified="forward pass",
    reference="transformers/models/glm4/modeling_glm4.py, v5.23",
)
