"""BERT and its relatives: encoders of text."""

from weightscope.families.entries.shorthand import POSITION_IDS, buffers, linears, matrix
from weightscope.families.spec import FamilySpec, Group

# Used by BERT, RoBERTa, ELECTRA and, but for Q, K and V, DeBERTa, module by module.
OUTPUTS = {
    "attention.output.dense": Group.O,
    "intermediate.dense": Group.M1,
    "output.dense": Group.M2,
}
_EMBEDDINGS = linears(
    "{prefix}embeddings.",
    {
        "word_embeddings": Group.EMBEDDING,
        "token_type_embeddings": Group.EMBEDDING,
        "position_embeddings": Group.POSITION,
    },
)
BERT_LAYER = (
    *linears(
        "{prefix}encoder.layer.{layer}.",
        {
            "attention.self.query": Group.Q,
            "attention.self.key": Group.K,
            "attention.self.value": Group.V,
            **OUTPUTS,
        },
    ),
    # As the decoder of an encoder.
    *linears(
        "{prefix}encoder.layer.{layer}.crossattention.",
        {"self.query": Group.Q, "self.key": Group.K, "self.value": Group.V, "output.dense": Group.O},
        kind="cross",
        optional=True,
    ),
    *_EMBEDDINGS,
)
BERT_BUFFERS = buffers("{prefix}embeddings.", "position_ids", reason=POSITION_IDS)

BERT = FamilySpec(
    name="bert",
    model_types=("bert", "big_bird", "megatron-bert"),
    prefixes=("bert.", ""),
    patterns=(*BERT_LAYER, matrix("cls.predictions.decoder.weight", Group.UNEMBEDDING)),
    ignored=BERT_BUFFERS,
    stack="encoder",
    verified="modules",
    reference="transformers/models/bert/modeling_bert.py, v5.23",
)

ROBERTA = FamilySpec(
    name="roberta",
    model_types=("roberta", "camembert", "data2vec-text", "roberta-prelayernorm"),
    prefixes=("roberta.", "data2vec_text.", "roberta_prelayernorm.", ""),
    patterns=(*BERT_LAYER, matrix("lm_head.decoder.weight", Group.UNEMBEDDING)),
    ignored=BERT_BUFFERS,
    stack="encoder",
    verified="modules",
    reference="transformers/models/roberta/modeling_roberta.py, v5.23",
)

# RoBERTa's names, prefix included.
XLM_ROBERTA = FamilySpec(
    name="xlm-roberta",
    model_types=("xlm-roberta", "xlm-roberta-xl"),
    prefixes=("roberta.", ""),
    patterns=(*BERT_LAYER, matrix("lm_head.decoder.weight", Group.UNEMBEDDING)),
    ignored=BERT_BUFFERS,
    stack="encoder",
    verified="modules",
    reference="transformers/models/xlm_roberta/modeling_xlm_roberta.py, v5.23",
)

DISTILBERT = FamilySpec(
    name="distilbert",
    model_types=("distilbert",),
    prefixes=("distilbert.", ""),
    patterns=(
        *linears(
            "{prefix}transformer.layer.{layer}.",
            {
                "attention.q_lin": Group.Q,
                "attention.k_lin": Group.K,
                "attention.v_lin": Group.V,
                "attention.out_lin": Group.O,
                "ffn.lin1": Group.M1,
                "ffn.lin2": Group.M2,
            },
        ),
        *linears(
            "{prefix}embeddings.",
            {"word_embeddings": Group.EMBEDDING, "position_embeddings": Group.POSITION},
        ),
        matrix("vocab_projector.weight", Group.UNEMBEDDING),
    ),
    ignored=BERT_BUFFERS,
    stack="encoder",
    verified="modules",
    formula=("no prefix, beside a head",),
    reference="transformers/models/distilbert/modeling_distilbert.py, v5.23",
)

# Layers share weights: what is stored is a group of layers, and its number stands for the layer's. In groups
# of more than one inner layer, which no public checkpoint has, those after the first are of group other.
ALBERT = FamilySpec(
    name="albert",
    model_types=("albert",),
    prefixes=("albert.", ""),
    patterns=(
        *linears(
            "{prefix}encoder.albert_layer_groups.{layer}.albert_layers.0.",
            {
                "attention.query": Group.Q,
                "attention.key": Group.K,
                "attention.value": Group.V,
                "attention.dense": Group.O,
                "ffn": Group.M1,
                "ffn_output": Group.M2,
            },
        ),
        *_EMBEDDINGS,
        matrix("predictions.decoder.weight", Group.UNEMBEDDING),
    ),
    ignored=BERT_BUFFERS,
    stack="encoder",
    config_keys={"layers": "num_hidden_groups"},
    verified="modules",
    reference="transformers/models/albert/modeling_albert.py, v5.23",
)

# Generator and discriminator; `embeddings_project` of the small ones is in no group.
ELECTRA = FamilySpec(
    name="electra",
    model_types=("electra",),
    prefixes=("electra.", ""),
    patterns=(*BERT_LAYER, matrix("generator_lm_head.weight", Group.UNEMBEDDING)),
    ignored=BERT_BUFFERS,
    stack="encoder",
    verified="modules",
    reference="transformers/models/electra/modeling_electra.py, v5.23",
)

# in_proj is [q; k; v] head by head. The projections of relative positions are in no group.
DEBERTA = FamilySpec(
    name="deberta",
    model_types=("deberta",),
    prefixes=("deberta.", ""),
    patterns=(
        matrix(
            "{prefix}encoder.layer.{layer}.attention.self.in_proj.weight",
            Group.QKV,
            layout="interleaved_by_head",
        ),
        *linears("{prefix}encoder.layer.{layer}.", OUTPUTS),
        *_EMBEDDINGS,
        matrix("{prefix}encoder.rel_embeddings.weight", Group.POSITION),
        matrix("cls.predictions.decoder.weight", Group.UNEMBEDDING),
    ),
    ignored=BERT_BUFFERS,
    stack="encoder",
    verified="forward pass",
    reference="transformers/models/deberta/modeling_deberta.py, v5.23",
)

DEBERTA_V2 = FamilySpec(
    name="deberta-v2",
    model_types=("deberta-v2",),
    prefixes=("deberta.", ""),
    patterns=(
        *linears(
            "{prefix}encoder.layer.{layer}.",
            {
                "attention.self.query_proj": Group.Q,
                "attention.self.key_proj": Group.K,
                "attention.self.value_proj": Group.V,
                **OUTPUTS,
            },
        ),
        *_EMBEDDINGS,
        matrix("{prefix}encoder.rel_embeddings.weight", Group.POSITION),
        matrix("cls.predictions.decoder.weight", Group.UNEMBEDDING),
    ),
    ignored=BERT_BUFFERS,
    stack="encoder",
    verified="modules",
    formula=("the prefix module., of DataParallel",),
    reference="transformers/models/deberta_v2/modeling_deberta_v2.py, v5.23",
)

# Two leaves are called Wo. Wi is [activated; linear]: the gate is the first half, although the source calls
# the second one so.
MODERNBERT = FamilySpec(
    name="modernbert",
    model_types=("modernbert",),
    prefixes=("model.", ""),
    patterns=(
        matrix("{prefix}layers.{layer}.attn.Wqkv.weight", Group.QKV, layout="contiguous_thirds"),
        matrix("{prefix}layers.{layer}.attn.Wo.weight", Group.O),
        matrix("{prefix}layers.{layer}.mlp.Wi.weight", Group.M1, layout="gate_then_up"),
        matrix("{prefix}layers.{layer}.mlp.Wo.weight", Group.M2),
        matrix("{prefix}embeddings.tok_embeddings.weight", Group.EMBEDDING),
        matrix("decoder.weight", Group.UNEMBEDDING),
    ),
    ignored=buffers("{prefix}layers.{layer}.attn.", "rotary_emb.inv_freq", reason="rotary frequencies"),
    stack="encoder",
    verified="forward pass",
    reference="transformers/models/modernbert/modeling_modernbert.py, v5.23",
)
