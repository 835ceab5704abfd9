"""The families, as data. To add one, add a literal here and a test parameter.

Names were checked against what transformers 5.23 writes and against the Hub's older files.
"""

from weightscope.errors import UnknownFamily
from weightscope.families.spec import FamilySpec, Group, IgnoredPattern, MatrixPattern

_MASK = "causal mask kept as a buffer"
_POSITION_IDS = "position ids kept as a buffer"


def _matrix(
    template: str, group: Group, *, transposed: bool = False, layout: str | None = None
) -> MatrixPattern:
    return MatrixPattern(template=template, group=group, transposed=transposed, layout=layout)


# The encoder that BERT and RoBERTa share, module by module.
_BERT_LAYER = (
    _matrix("{prefix}encoder.layer.{layer}.attention.self.query.weight", Group.Q),
    _matrix("{prefix}encoder.layer.{layer}.attention.self.key.weight", Group.K),
    _matrix("{prefix}encoder.layer.{layer}.attention.self.value.weight", Group.V),
    _matrix("{prefix}encoder.layer.{layer}.attention.output.dense.weight", Group.O),
    _matrix("{prefix}encoder.layer.{layer}.intermediate.dense.weight", Group.M1),
    _matrix("{prefix}encoder.layer.{layer}.output.dense.weight", Group.M2),
    _matrix("{prefix}embeddings.word_embeddings.weight", Group.EMBEDDING),
    _matrix("{prefix}embeddings.token_type_embeddings.weight", Group.EMBEDDING),
    _matrix("{prefix}embeddings.position_embeddings.weight", Group.POSITION),
)
_BERT_BUFFERS = (IgnoredPattern(template="{prefix}embeddings.position_ids", reason=_POSITION_IDS),)

BERT = FamilySpec(
    name="bert",
    model_types=("bert",),
    prefixes=("bert.", ""),
    patterns=(*_BERT_LAYER, _matrix("cls.predictions.decoder.weight", Group.UNEMBEDDING)),
    ignored=_BERT_BUFFERS,
    stack="encoder",
    reference="transformers/models/bert/modeling_bert.py, v5.23",
)

ROBERTA = FamilySpec(
    name="roberta",
    model_types=("roberta",),
    prefixes=("roberta.", ""),
    patterns=(*_BERT_LAYER, _matrix("lm_head.decoder.weight", Group.UNEMBEDDING)),
    ignored=_BERT_BUFFERS,
    stack="encoder",
    reference="transformers/models/roberta/modeling_roberta.py, v5.23",
)

# Conv1D everywhere: the file holds (in_features, out_features). c_attn's columns are [Q | K | V].
GPT2 = FamilySpec(
    name="gpt2",
    model_types=("gpt2",),
    prefixes=("transformer.", ""),
    patterns=(
        _matrix(
            "{prefix}h.{layer}.attn.c_attn.weight", Group.QKV, transposed=True, layout="contiguous_thirds"
        ),
        _matrix("{prefix}h.{layer}.attn.c_proj.weight", Group.O, transposed=True),
        _matrix("{prefix}h.{layer}.mlp.c_fc.weight", Group.M1, transposed=True),
        _matrix("{prefix}h.{layer}.mlp.c_proj.weight", Group.M2, transposed=True),
        _matrix("{prefix}wte.weight", Group.EMBEDDING),
        _matrix("{prefix}wpe.weight", Group.POSITION),
        _matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    ignored=(
        IgnoredPattern(template="{prefix}h.{layer}.attn.bias", reason=_MASK),
        IgnoredPattern(template="{prefix}h.{layer}.attn.masked_bias", reason=_MASK),
    ),
    reference="transformers/models/gpt2/modeling_gpt2.py, v5.23; the Hub's files have no prefix",
)

PHI = FamilySpec(
    name="phi",
    model_types=("phi",),
    prefixes=("model.", ""),
    patterns=(
        _matrix("{prefix}layers.{layer}.self_attn.q_proj.weight", Group.Q),
        _matrix("{prefix}layers.{layer}.self_attn.k_proj.weight", Group.K),
        _matrix("{prefix}layers.{layer}.self_attn.v_proj.weight", Group.V),
        _matrix("{prefix}layers.{layer}.self_attn.dense.weight", Group.O),
        _matrix("{prefix}layers.{layer}.mlp.fc1.weight", Group.M1),
        _matrix("{prefix}layers.{layer}.mlp.fc2.weight", Group.M2),
        _matrix("{prefix}embed_tokens.weight", Group.EMBEDDING),
        _matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    reference="transformers/models/phi/modeling_phi.py, v5.23",
)

# Phi's first releases, with code of their own: Wqkv is an nn.Linear of rows [Q; K; V].
PHI_MSFT = FamilySpec(
    name="phi-msft",
    model_types=("phi-msft",),
    prefixes=("transformer.", ""),
    patterns=(
        _matrix("{prefix}h.{layer}.mixer.Wqkv.weight", Group.QKV, layout="contiguous_qkv"),
        _matrix("{prefix}h.{layer}.mixer.out_proj.weight", Group.O),
        _matrix("{prefix}h.{layer}.mlp.fc1.weight", Group.M1),
        _matrix("{prefix}h.{layer}.mlp.fc2.weight", Group.M2),
        _matrix("{prefix}embd.wte.weight", Group.EMBEDDING),
        _matrix("lm_head.linear.weight", Group.UNEMBEDDING),
    ),
    ignored=(
        IgnoredPattern(template="{prefix}h.{layer}.mixer.rotary_emb.inv_freq", reason="rotary frequencies"),
    ),
    reference="microsoft/phi-2, modeling_phi.py before 2024-01 (MHA with Wqkv); layout not run here",
)

# nn.Linear although the layers are called h.N.attn.
GPTJ = FamilySpec(
    name="gptj",
    model_types=("gptj",),
    prefixes=("transformer.", ""),
    patterns=(
        _matrix("{prefix}h.{layer}.attn.q_proj.weight", Group.Q),
        _matrix("{prefix}h.{layer}.attn.k_proj.weight", Group.K),
        _matrix("{prefix}h.{layer}.attn.v_proj.weight", Group.V),
        _matrix("{prefix}h.{layer}.attn.out_proj.weight", Group.O),
        _matrix("{prefix}h.{layer}.mlp.fc_in.weight", Group.M1),
        _matrix("{prefix}h.{layer}.mlp.fc_out.weight", Group.M2),
        _matrix("{prefix}wte.weight", Group.EMBEDDING),
        _matrix("lm_head.weight", Group.UNEMBEDDING),
    ),
    ignored=(
        IgnoredPattern(template="{prefix}h.{layer}.attn.bias", reason=_MASK),
        IgnoredPattern(template="{prefix}h.{layer}.attn.masked_bias", reason=_MASK),
        IgnoredPattern(template="{prefix}h.{layer}.attn.embed_positions", reason="rotary position table"),
    ),
    reference="transformers/models/gptj/modeling_gptj.py, v5.23",
)

FAMILIES: dict[str, FamilySpec] = {spec.name: spec for spec in (BERT, ROBERTA, GPT2, PHI, PHI_MSFT, GPTJ)}
"""Every family by name, in the order in which names are tried."""


def list_families() -> list[str]:
    """Names of the families weightscope knows."""
    return list(FAMILIES)


def get_family(name: str) -> FamilySpec:
    """The family of that name.

    Raises:
        UnknownFamily: There is none.
    """
    if name not in FAMILIES:
        raise UnknownFamily(
            f"The family {name!r} was asked for.",
            f"The families are: {', '.join(FAMILIES)}.",
            "Use one of these, or describe yours in a YAML file and pass its path.",
        )
    return FAMILIES[name]
