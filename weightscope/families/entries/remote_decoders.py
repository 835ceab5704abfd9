"""Decoders whose code lies beside their weights, or was never in transformers.

What attention multiplies was read in that code; transformers loads none of these names.
"""

from weightscope.families.entries.shorthand import FREQUENCIES, MASK, buffers, linears, matrix
from weightscope.families.spec import FamilySpec, Group

# GPT-2's names, for nn.Linear: c_attn's rows are [Q; K; V]. Of w1 and w2 the second goes through the
# activation. The config's intermediate_size is that of both together.
QWEN = FamilySpec(
    name="qwen",
    model_types=("qwen",),
    prefixes=("transformer.", ""),
    patterns=(
        matrix("{prefix}h.{layer}.attn.c_attn.weight", Group.QKV, layout="contiguous_thirds"),
        *linears(
            "{prefix}h.{layer}.",
            {"attn.c_proj": Group.O, "mlp.w1": Group.M1, "mlp.w2": Group.G, "mlp.c_proj": Group.M2},
        ),
        matrix("{prefix}wte.weight", Group.EMBEDDING),
        matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    ignored=(
        *buffers("{prefix}h.{layer}.attn.", "bias", "masked_bias", reason=MASK),
        *buffers("{prefix}h.{layer}.attn.", "rotary_emb.inv_freq", reason=FREQUENCIES),
        *buffers("{prefix}", "rotary_emb.inv_freq", reason=FREQUENCIES),
    ),
    config_keys={"head_dim": "kv_channels", "feed_forward_dimension": ""},  # the config's is double
    verified="formula",
    reference="Qwen/Qwen-7B, modeling_qwen.py (QWenAttention, QWenMLP), 2023-11; layout not run here",
)

# wqkv holds for each key and value head its queries, the key, the value.
INTERNLM2 = FamilySpec(
    name="internlm2",
    model_types=("internlm2",),
    prefixes=("model.", ""),
    patterns=(
        matrix("{prefix}layers.{layer}.attention.wqkv.weight", Group.QKV, layout="interleaved_by_kv_group"),
        *linears(
            "{prefix}layers.{layer}.",
            {
                "attention.wo": Group.O,
                "feed_forward.w1": Group.G,
                "feed_forward.w3": Group.M1,
                "feed_forward.w2": Group.M2,
            },
        ),
        matrix("{prefix}tok_embeddings.weight", Group.EMBEDDING),
        matrix("output.weight", Group.UNEMBEDDING),
    ),
    ignored=buffers("{prefix}layers.{layer}.attention.", "rotary_emb.inv_freq", reason=FREQUENCIES),
    verified="formula",
    reference="internlm/internlm2-7b, modeling_internlm2.py (InternLM2Attention), 2024-02; not run here",
)

# W_pack is [Q; K; V]; no size has grouped queries.
BAICHUAN = FamilySpec(
    name="baichuan",
    model_types=("baichuan",),
    prefixes=("model.", ""),
    patterns=(
        matrix("{prefix}layers.{layer}.self_attn.W_pack.weight", Group.QKV, layout="contiguous_thirds"),
        *linears(
            "{prefix}layers.{layer}.",
            {
                "self_attn.o_proj": Group.O,
                "mlp.gate_proj": Group.G,
                "mlp.up_proj": Group.M1,
                "mlp.down_proj": Group.M2,
            },
        ),
        matrix("{prefix}embed_tokens.weight", Group.EMBEDDING),
        matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    ignored=(
        *buffers(
            "{prefix}layers.{layer}.self_attn.rotary_emb.",
            "inv_freq",
            "cos_cached",
            "sin_cached",
            reason=FREQUENCIES,
        ),
        *buffers("{prefix}", "future_mask", reason=MASK),
    ),
    verified="formula",
    reference="baichuan-inc/Baichuan2-13B-Chat, modeling_baichuan.py, 2023-09; layout not run here",
)

# Two models of one model_type. The first: [q; k; v] for each head, no gate.
CHATGLM = FamilySpec(
    name="chatglm",
    model_types=("chatglm",),
    prefixes=("transformer.", ""),
    patterns=(
        matrix(
            "{prefix}layers.{layer}.attention.query_key_value.weight",
            Group.QKV,
            layout="interleaved_by_head",
        ),
        *linears(
            "{prefix}layers.{layer}.",
            {
                "attention.dense": Group.O,
                "mlp.dense_h_to_4h": Group.M1,
                "mlp.dense_4h_to_h": Group.M2,
            },
        ),
        matrix("{prefix}word_embeddings.weight", Group.EMBEDDING),
        matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    ignored=(
        *buffers("{prefix}layers.{layer}.attention.", "rotary_emb.inv_freq", reason=FREQUENCIES),
        *buffers("{prefix}", "rotary_emb.inv_freq", reason=FREQUENCIES),
    ),
    config_keys={"feed_forward_dimension": "inner_hidden_size"},
    verified="formula",
    reference="THUDM/chatglm-6b, modeling_chatglm.py (SelfAttention, GLU), 2023-04; layout not run here",
)

# The second and third, CodeGeeX2 and GLM-4-9B in its first form: [Q; K; V] with grouped queries, and
# dense_h_to_4h is [G; M1].
CHATGLM2 = FamilySpec(
    name="chatglm2",
    model_types=("chatglm",),
    prefixes=("transformer.", ""),
    patterns=(
        matrix(
            "{prefix}encoder.layers.{layer}.self_attention.query_key_value.weight",
            Group.QKV,
            layout="contiguous_grouped",
        ),
        matrix("{prefix}encoder.layers.{layer}.self_attention.dense.weight", Group.O),
        matrix("{prefix}encoder.layers.{layer}.mlp.dense_h_to_4h.weight", Group.M1, layout="gate_then_up"),
        matrix("{prefix}encoder.layers.{layer}.mlp.dense_4h_to_h.weight", Group.M2),
        matrix("{prefix}embedding.word_embeddings.weight", Group.EMBEDDING),
        matrix("{prefix}output_layer.weight", Group.UNEMBEDDING),
    ),
    ignored=buffers("{prefix}", "rotary_pos_emb.inv_freq", reason=FREQUENCIES),
    config_keys={
        "kv_heads": "multi_query_group_num",
        "head_dim": "kv_channels",
        "feed_forward_dimension": "ffn_hidden_size",
        "vocabulary": "padded_vocab_size",
    },
    config_flags={"grouped_queries": "multi_query_attention"},
    verified="formula",
    reference="THUDM/chatglm2-6b, modeling_chatglm.py (SelfAttention, MLP), 2023-07; layout not run here",
)

# What Meta gave out for LLaMA, and Mistral beside transformers' names. Beside those the rows of wq and wk are
# in another order within each head, because rotary embeddings turn neighbours here and halves there: the
# singular values are the same, the matrices are not. The sizes are in params.json.
CONSOLIDATED = FamilySpec(
    name="consolidated",
    model_types=("mistral", "llama", "mixtral"),
    patterns=(
        *linears(
            "layers.{layer}.",
            {
                "attention.wq": Group.Q,
                "attention.wk": Group.K,
                "attention.wv": Group.V,
                "attention.wo": Group.O,
                "feed_forward.w1": Group.G,
                "feed_forward.w3": Group.M1,
                "feed_forward.w2": Group.M2,
            },
        ),
        *linears(
            "layers.{layer}.feed_forward.experts.{expert}.",
            {"w1": Group.G, "w3": Group.M1, "w2": Group.M2},
            optional=True,
        ),
        matrix("layers.{layer}.feed_forward.gate.weight", Group.ROUTER, optional=True),
        matrix("tok_embeddings.weight", Group.EMBEDDING),
        matrix("output.weight", Group.UNEMBEDDING),
    ),
    ignored=(
        *buffers("", "rope.freqs", reason=FREQUENCIES),
        *buffers("layers.{layer}.attention.", "inner_attention.rope.freqs", reason=FREQUENCIES),
    ),
    config_keys={"kv_heads": "n_kv_heads", "experts": "moe.num_experts", "expert_dimension": "hidden_dim"},
    verified="formula",
    reference="mistralai/Mistral-7B-v0.3, consolidated.safetensors; meta-llama/llama, model.py; not run here",
)
