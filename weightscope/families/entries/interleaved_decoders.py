"""Decoders whose `query_key_value` holds the heads one after another, each with its query, key and value."""

from weightscope.families.entries.shorthand import FREQUENCIES, MASK, buffers, linears, matrix
from weightscope.families.spec import FamilySpec, Group

_FEED_FORWARD = {"mlp.dense_h_to_4h": Group.M1, "mlp.dense_4h_to_h": Group.M2}

# transformers 5 calls the head lm_head in memory and embed_out on disk.
GPT_NEOX = FamilySpec(
    name="gpt_neox",
    model_types=("gpt_neox",),
    prefixes=("gpt_neox.", ""),
    patterns=(
        matrix(
            "{prefix}layers.{layer}.attention.query_key_value.weight",
            Group.QKV,
            layout="interleaved_by_head",
        ),
        *linears("{prefix}layers.{layer}.", {"attention.dense": Group.O, **_FEED_FORWARD}),
        matrix("{prefix}embed_in.weight", Group.EMBEDDING),
        matrix("embed_out.weight", Group.UNEMBEDDING),
        matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    ignored=(
        *buffers("{prefix}layers.{layer}.attention.", "bias", "masked_bias", reason=MASK),
        *buffers("{prefix}layers.{layer}.attention.", "rotary_emb.inv_freq", reason=FREQUENCIES),
    ),
    verified="forward pass",
    formula=("the head named lm_head",),
    reference="transformers/models/gpt_neox/modeling_gpt_neox.py, v5.23",
)

# GPT-NeoX under another prefix.
GPT_NEOX_JAPANESE = FamilySpec(
    name="gpt_neox_japanese",
    model_types=("gpt_neox_japanese",),
    prefixes=("gpt_neox_japanese.", ""),
    patterns=(
        matrix(
            "{prefix}layers.{layer}.attention.query_key_value.weight",
            Group.QKV,
            layout="interleaved_by_head",
        ),
        *linears("{prefix}layers.{layer}.", {"attention.dense": Group.O, **_FEED_FORWARD}),
        matrix("{prefix}embed_in.weight", Group.EMBEDDING),
        matrix("embed_out.weight", Group.UNEMBEDDING),
    ),
    ignored=buffers("{prefix}layers.{layer}.attention.", "rotary_emb.inv_freq", reason=FREQUENCIES),
    # A multiple of the model's dimension is stated instead, intermediate_multiple_size.
    verified="forward pass",
    reference="transformers/models/gpt_neox_japanese/modeling_gpt_neox_japanese.py, v5.23",
)

BLOOM = FamilySpec(
    name="bloom",
    model_types=("bloom",),
    prefixes=("transformer.", ""),
    patterns=(
        matrix(
            "{prefix}h.{layer}.self_attention.query_key_value.weight",
            Group.QKV,
            layout="interleaved_by_head",
        ),
        *linears("{prefix}h.{layer}.", {"self_attention.dense": Group.O, **_FEED_FORWARD}),
        matrix("{prefix}word_embeddings.weight", Group.EMBEDDING),
        matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    config_keys={"model_dimension": "n_embed"},
    verified="forward pass",
    formula=("no prefix, beside a head",),
    reference="transformers/models/bloom/modeling_bloom.py, v5.23; the Hub's files have no prefix",
)

# Three layouts under one name, and one once the key and value heads are known: multi_query has one of them,
# falcon-rw as many as query heads, new_decoder_architecture num_kv_heads, which is written otherwise too and
# then means nothing. The first releases were called RefinedWeb.
FALCON = FamilySpec(
    name="falcon",
    model_types=("falcon", "RefinedWebModel", "RefinedWeb"),
    prefixes=("transformer.", ""),
    patterns=(
        matrix(
            "{prefix}h.{layer}.self_attention.query_key_value.weight",
            Group.QKV,
            layout="interleaved_by_kv_group",
        ),
        *linears("{prefix}h.{layer}.", {"self_attention.dense": Group.O, **_FEED_FORWARD}),
        matrix("{prefix}word_embeddings.weight", Group.EMBEDDING),
        matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    ignored=(
        *buffers("{prefix}h.{layer}.self_attention.", "rotary_emb.inv_freq", reason=FREQUENCIES),
        *buffers("{prefix}h.{layer}.self_attention.", "maybe_rotary.inv_freq", reason=FREQUENCIES),
    ),
    config_keys={"feed_forward_dimension": "ffn_hidden_size"},
    config_flags={"multi_query": "multi_query", "grouped_queries": "new_decoder_architecture"},
    verified="forward pass",
    formula=("RefinedWeb's config keys",),
    reference="transformers/models/falcon/modeling_falcon.py, v5.23; RefinedWeb's config keys not run here",
)

PERSIMMON = FamilySpec(
    name="persimmon",
    model_types=("persimmon",),
    prefixes=("model.", ""),
    patterns=(
        matrix(
            "{prefix}layers.{layer}.self_attn.query_key_value.weight",
            Group.QKV,
            layout="interleaved_by_head",
        ),
        *linears("{prefix}layers.{layer}.", {"self_attn.dense": Group.O, **_FEED_FORWARD}),
        matrix("{prefix}embed_tokens.weight", Group.EMBEDDING),
        matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    ignored=buffers("{prefix}layers.{layer}.self_attn.", "rotary_emb.inv_freq", reason=FREQUENCIES),
    verified="forward pass",
    reference="transformers/models/persimmon/modeling_persimmon.py, v5.23",
)
