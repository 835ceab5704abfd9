"""Encoders of text with BERT's names and something beside them, or with other names for the same layers."""

from weightscope.families.entries.encoders import BERT_BUFFERS, BERT_LAYER
from weightscope.families.entries.shorthand import FREQUENCIES, POSITION_IDS, buffers, linears, matrix
from weightscope.families.spec import FamilySpec, Group

_CLS_DECODER = matrix("cls.predictions.decoder.weight", Group.UNEMBEDDING)
_LM_DECODER = matrix("lm_head.decoder.weight", Group.UNEMBEDDING)
_BOX_POSITIONS = linears(
    "{prefix}embeddings.", {f"{axis}_position_embeddings": Group.POSITION for axis in "xyhw"}
)

ERNIE = FamilySpec(
    name="ernie",
    model_types=("ernie",),
    prefixes=("ernie.", ""),
    patterns=(
        *BERT_LAYER,
        matrix("{prefix}embeddings.task_type_embeddings.weight", Group.EMBEDDING),
        _CLS_DECODER,
    ),
    ignored=BERT_BUFFERS,
    stack="encoder",
    verified="modules",
    reference="transformers/models/ernie/modeling_ernie.py, v5.23",
)

# What answers questions by recurring spans is in no group.
SPLINTER = FamilySpec(
    name="splinter",
    model_types=("splinter",),
    prefixes=("splinter.", ""),
    patterns=BERT_LAYER,
    ignored=BERT_BUFFERS,
    stack="encoder",
    verified="modules",
    reference="transformers/models/splinter/modeling_splinter.py, v5.23",
)

# Positions of words on a page beside those in the text; in version 3 pieces of its picture too.
LAYOUTLM = FamilySpec(
    name="layoutlm",
    model_types=("layoutlm", "layoutlmv3"),
    prefixes=("layoutlm.", "layoutlmv3.", ""),
    patterns=(
        *BERT_LAYER,
        *_BOX_POSITIONS,
        *linears(
            "{prefix}encoder.",
            dict.fromkeys(("rel_pos_bias", "rel_pos_x_bias", "rel_pos_y_bias"), Group.POSITION),
        ),
        matrix("{prefix}pos_embed", Group.POSITION),
        matrix("{prefix}patch_embed.proj.weight", Group.CONV),
        _CLS_DECODER,
    ),
    ignored=BERT_BUFFERS,
    stack="encoder",
    verified="modules",
    reference="transformers/models/layoutlm/modeling_layoutlm.py and layoutlmv3, v5.23",
)

# Proteins. A contact head reads the attentions of all layers.
ESM = FamilySpec(
    name="esm",
    model_types=("esm",),
    prefixes=("esm.", ""),
    patterns=(*BERT_LAYER, _LM_DECODER),
    ignored=(
        *BERT_BUFFERS,
        *buffers(
            "{prefix}encoder.layer.{layer}.attention.self.rotary_embeddings.", "inv_freq", reason=FREQUENCIES
        ),
    ),
    stack="encoder",
    verified="modules",
    reference="transformers/models/esm/modeling_esm.py, v5.23",
)

# A second query, key and value serve the few tokens that attend to all others: of group other, since a layer
# has one attention.
LONGFORMER = FamilySpec(
    name="longformer",
    model_types=("longformer",),
    prefixes=("longformer.", ""),
    patterns=(
        *BERT_LAYER,
        *linears(
            "{prefix}encoder.layer.{layer}.attention.self.",
            dict.fromkeys(("query_global", "key_global", "value_global"), Group.OTHER),
        ),
        _LM_DECODER,
    ),
    ignored=BERT_BUFFERS,
    stack="encoder",
    verified="modules",
    reference="transformers/models/longformer/modeling_longformer.py, v5.23",
)

# Input and output embedding differ in width from the model and from each other.
REMBERT = FamilySpec(
    name="rembert",
    model_types=("rembert",),
    prefixes=("rembert.", ""),
    patterns=(*BERT_LAYER, _CLS_DECODER),
    ignored=BERT_BUFFERS,
    stack="encoder",
    verified="modules",
    reference="transformers/models/rembert/modeling_rembert.py, v5.23",
)

# The table of positions is one of sines, for rotary embeddings.
ROFORMER = FamilySpec(
    name="roformer",
    model_types=("roformer",),
    prefixes=("roformer.", ""),
    patterns=(*BERT_LAYER, matrix("{prefix}encoder.embed_positions.weight", Group.POSITION), _CLS_DECODER),
    stack="encoder",
    verified="modules",
    reference="transformers/models/roformer/modeling_roformer.py, v5.23",
)

# The table of relative positions of the first layer serves all.
MPNET = FamilySpec(
    name="mpnet",
    model_types=("mpnet",),
    prefixes=("mpnet.", ""),
    patterns=(
        *linears(
            "{prefix}encoder.layer.{layer}.",
            {
                "attention.attn.q": Group.Q,
                "attention.attn.k": Group.K,
                "attention.attn.v": Group.V,
                "attention.attn.o": Group.O,
                "intermediate.dense": Group.M1,
                "output.dense": Group.M2,
            },
        ),
        *linears(
            "{prefix}",
            {
                "embeddings.word_embeddings": Group.EMBEDDING,
                "embeddings.position_embeddings": Group.POSITION,
                "encoder.relative_attention_bias": Group.POSITION,
            },
        ),
        _LM_DECODER,
    ),
    ignored=BERT_BUFFERS,
    stack="encoder",
    verified="modules",
    reference="transformers/models/mpnet/modeling_mpnet.py, v5.23",
)

_LLAMA_LAYER = {
    **{f"self_attn.{name}_proj": Group(name.upper()) for name in "qkvo"},
    "mlp.gate_proj": Group.G,
    "mlp.up_proj": Group.M1,
    "mlp.down_proj": Group.M2,
}

# Attention and feed-forward parts are two lists.
XLM = FamilySpec(
    name="xlm",
    model_types=("xlm", "flaubert"),
    prefixes=("transformer.", ""),
    patterns=(
        *linears(
            "{prefix}attentions.{layer}.",
            {"q_lin": Group.Q, "k_lin": Group.K, "v_lin": Group.V, "out_lin": Group.O},
        ),
        *linears("{prefix}ffns.{layer}.", {"lin1": Group.M1, "lin2": Group.M2}),
        *linears(
            "{prefix}",
            {
                "embeddings": Group.EMBEDDING,
                "lang_embeddings": Group.EMBEDDING,
                "position_embeddings": Group.POSITION,
            },
        ),
        matrix("pred_layer.proj.weight", Group.UNEMBEDDING),
    ),
    ignored=buffers("{prefix}", "position_ids", reason=POSITION_IDS),
    stack="encoder",
    config_keys={"model_dimension": "emb_dim", "vocabulary": "n_words"},
    verified="modules",
    reference="transformers/models/xlm/modeling_xlm.py and flaubert, v5.23",
)

# On disk Q, K and V are fused, [Q; K; V], and fc12 is the gate; in memory the names are LLaMA's.
NOMIC_BERT = FamilySpec(
    name="nomic_bert",
    model_types=("nomic_bert",),
    prefixes=("nomic_bert.", ""),
    patterns=(
        matrix("{prefix}encoder.layers.{layer}.attn.Wqkv.weight", Group.QKV, layout="contiguous_thirds"),
        *linears(
            "{prefix}encoder.layers.{layer}.",
            {"attn.out_proj": Group.O, "mlp.fc11": Group.M1, "mlp.fc12": Group.G, "mlp.fc2": Group.M2},
        ),
        *linears("{prefix}layers.{layer}.", _LLAMA_LAYER, optional=True),
        *linears(
            "{prefix}embeddings.",
            dict.fromkeys(("word_embeddings", "token_type_embeddings"), Group.EMBEDDING),
        ),
        _CLS_DECODER,
    ),
    stack="encoder",
    verified="forward pass",
    reference="transformers/models/nomic_bert/modeling_nomic_bert.py and conversion_mapping.py, v5.23",
)

# LLaMA's names, without a mask.
EUROBERT = FamilySpec(
    name="eurobert",
    model_types=("eurobert",),
    prefixes=("model.", ""),
    patterns=(
        *linears("{prefix}layers.{layer}.", _LLAMA_LAYER),
        matrix("{prefix}embed_tokens.weight", Group.EMBEDDING),
        matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    stack="encoder",
    verified="modules",
    reference="transformers/models/eurobert/modeling_eurobert.py, v5.23",
)
