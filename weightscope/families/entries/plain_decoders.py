"""Decoders whose feed-forward part has two matrices, with Q, K and V apart or one after another."""

from weightscope.families.entries.shorthand import FREQUENCIES, MASK, SINES, buffers, linears, matrix
from weightscope.families.spec import FamilySpec, Group

_ENDS = (
    matrix("{prefix}embed_tokens.weight", Group.EMBEDDING),
    matrix("lm_head.weight", Group.UNEMBEDDING),
)
_Q_K_V = {"self_attn.q_proj": Group.Q, "self_attn.k_proj": Group.K, "self_attn.v_proj": Group.V}
_OPT_LAYER = {**_Q_K_V, "self_attn.out_proj": Group.O, "fc1": Group.M1, "fc2": Group.M2}
_ROTARY = buffers("{prefix}layers.{layer}.self_attn.", "rotary_emb.inv_freq", reason=FREQUENCIES)

PHI = FamilySpec(
    name="phi",
    model_types=("phi",),
    prefixes=("model.", ""),
    patterns=(
        *linears(
            "{prefix}layers.{layer}.",
            {**_Q_K_V, "self_attn.dense": Group.O, "mlp.fc1": Group.M1, "mlp.fc2": Group.M2},
        ),
        *_ENDS,
    ),
    verified="modules",
    reference="transformers/models/phi/modeling_phi.py, v5.23",
)

# Phi's first releases, with code of their own: Wqkv is an nn.Linear of rows [Q; K; V].
PHI_MSFT = FamilySpec(
    name="phi-msft",
    model_types=("phi-msft", "phi"),
    prefixes=("transformer.", ""),
    patterns=(
        matrix("{prefix}h.{layer}.mixer.Wqkv.weight", Group.QKV, layout="contiguous_qkv"),
        *linears("{prefix}h.{layer}.", {"mixer.out_proj": Group.O, "mlp.fc1": Group.M1, "mlp.fc2": Group.M2}),
        matrix("{prefix}embd.wte.weight", Group.EMBEDDING),
        matrix("lm_head.linear.weight", Group.UNEMBEDDING),
    ),
    ignored=buffers("{prefix}h.{layer}.mixer.", "rotary_emb.inv_freq", reason=FREQUENCIES),
    verified="formula",
    reference="microsoft/phi-2, modeling_phi.py before 2024-01 (MHA with Wqkv); layout not run here",
)

# Phi-1 and Phi-1.5 before that: embedding, blocks and head are one list of layers.
MIXFORMER = FamilySpec(
    name="mixformer-sequential",
    model_types=("mixformer-sequential",),
    patterns=(
        matrix("layers.{layer}.mixer.Wqkv.weight", Group.QKV, layout="contiguous_qkv"),
        *linears("layers.{layer}.", {"mixer.out_proj": Group.O, "mlp.fc1": Group.M1, "mlp.fc2": Group.M2}),
        matrix("layers.0.wte.weight", Group.EMBEDDING),
        matrix("layers.{layer}.linear.weight", Group.UNEMBEDDING, outside=True),
    ),
    ignored=buffers("layers.{layer}.mixer.", "rotary_emb.inv_freq", reason=FREQUENCIES),
    first_layer=1,
    verified="formula",
    reference="microsoft/phi-1_5, modeling_mixformer_sequential.py, 2023-09; layout not run here",
)

# No gate: up_proj is the first matrix.
NEMOTRON = FamilySpec(
    name="nemotron",
    model_types=("nemotron", "arcee", "apertus"),
    prefixes=("model.", "transformer.", ""),
    patterns=(
        *linears(
            "{prefix}layers.{layer}.",
            {**_Q_K_V, "self_attn.o_proj": Group.O, "mlp.up_proj": Group.M1, "mlp.down_proj": Group.M2},
        ),
        *_ENDS,
    ),
    ignored=_ROTARY,
    verified="modules",
    reference="transformers/models/nemotron/modeling_nemotron.py, v5.23",
)

# GPT-2's names in the feed-forward part, for nn.Linear.
STARCODER2 = FamilySpec(
    name="starcoder2",
    model_types=("starcoder2",),
    prefixes=("model.", ""),
    patterns=(
        *linears(
            "{prefix}layers.{layer}.",
            {**_Q_K_V, "self_attn.o_proj": Group.O, "mlp.c_fc": Group.M1, "mlp.c_proj": Group.M2},
        ),
        *_ENDS,
    ),
    ignored=_ROTARY,
    verified="modules",
    reference="transformers/models/starcoder2/modeling_starcoder2.py, v5.23",
)

# OPT's layers, without its prefix.
XGLM = FamilySpec(
    name="xglm",
    model_types=("xglm",),
    prefixes=("model.", ""),
    patterns=(
        *linears("{prefix}layers.{layer}.", _OPT_LAYER),
        *_ENDS,
    ),
    ignored=buffers("{prefix}", "embed_positions.weights", reason=SINES),
    config_keys={"heads": "attention_heads"},
    verified="modules",
    reference="transformers/models/xglm/modeling_xglm.py, v5.23",
)

BIOGPT = FamilySpec(
    name="biogpt",
    model_types=("biogpt",),
    prefixes=("biogpt.", ""),
    patterns=(
        *linears("{prefix}layers.{layer}.", _OPT_LAYER),
        matrix("{prefix}embed_positions.weight", Group.POSITION),
        matrix("{prefix}embed_tokens.weight", Group.EMBEDDING),
        matrix("output_projection.weight", Group.UNEMBEDDING),
    ),
    verified="modules",
    reference="transformers/models/biogpt/modeling_biogpt.py, v5.23",
)

# The feed-forward part is an nn.Sequential, whose numbers are its modules'.
CTRL = FamilySpec(
    name="ctrl",
    model_types=("ctrl",),
    prefixes=("transformer.", ""),
    patterns=(
        *linears(
            "{prefix}h.{layer}.",
            {
                "multi_head_attention.Wq": Group.Q,
                "multi_head_attention.Wk": Group.K,
                "multi_head_attention.Wv": Group.V,
                "multi_head_attention.dense": Group.O,
                "ffn.0": Group.M1,
                "ffn.2": Group.M2,
            },
        ),
        matrix("{prefix}w.weight", Group.EMBEDDING),
        matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    config_keys={"feed_forward_dimension": "dff"},
    verified="modules",
    reference="transformers/models/ctrl/modeling_ctrl.py, v5.23",
)

# project_in and project_out, where the embedding is narrower than the model, are in no group.
OPT = FamilySpec(
    name="opt",
    model_types=("opt",),
    prefixes=("model.decoder.", "decoder."),
    patterns=(
        *linears(
            "{prefix}layers.{layer}.",
            _OPT_LAYER,
        ),
        matrix("{prefix}embed_positions.weight", Group.POSITION),
        *_ENDS,
    ),
    verified="modules",
    formula=("no prefix model., beside a head",),
    reference="transformers/models/opt/modeling_opt.py, v5.23; the Hub's oldest files start at decoder",
)

# Wqkv is [Q; K; V]; files of llm-foundry may have grouped queries, which transformers does not load.
MPT = FamilySpec(
    name="mpt",
    model_types=("mpt",),
    prefixes=("transformer.", ""),
    patterns=(
        matrix("{prefix}blocks.{layer}.attn.Wqkv.weight", Group.QKV, layout="contiguous_qkv"),
        *linears(
            "{prefix}blocks.{layer}.",
            {"attn.out_proj": Group.O, "ffn.up_proj": Group.M1, "ffn.down_proj": Group.M2},
        ),
        matrix("{prefix}wte.weight", Group.EMBEDDING),
        matrix("{prefix}wpe.weight", Group.POSITION),
        matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    ignored=buffers("{prefix}", "attn_bias", reason=MASK),
    config_keys={"kv_heads": "attn_config.kv_n_heads"},
    verified="forward pass",
    formula=("grouped queries, as llm-foundry writes them",),
    reference="transformers/models/mpt/modeling_mpt.py, v5.23; attn_config.kv_n_heads is llm-foundry's",
)
