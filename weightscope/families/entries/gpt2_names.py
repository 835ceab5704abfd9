"""Decoders whose layers are called `h.N.attn` and `h.N.mlp` as GPT-2's are, whatever is stored there."""

from weightscope.families.entries.shorthand import MASK, buffers, linears, matrix
from weightscope.families.spec import FamilySpec, Group

_PREFIXES = ("transformer.", "")
_WTE = matrix("{prefix}wte.weight", Group.EMBEDDING)
_WPE = matrix("{prefix}wpe.weight", Group.POSITION)
_HEAD = matrix("lm_head.weight", Group.UNEMBEDDING)
_MASKS = buffers("{prefix}h.{layer}.attn.", "bias", "masked_bias", reason=MASK)

# Conv1D everywhere: the file holds (in_features, out_features). c_attn's columns are [Q | K | V].
GPT2 = FamilySpec(
    name="gpt2",
    model_types=("gpt2",),
    prefixes=_PREFIXES,
    patterns=(
        matrix(
            "{prefix}h.{layer}.attn.c_attn.weight", Group.QKV, transposed=True, layout="contiguous_thirds"
        ),
        matrix("{prefix}h.{layer}.attn.c_proj.weight", Group.O, transposed=True),
        matrix("{prefix}h.{layer}.mlp.c_fc.weight", Group.M1, transposed=True),
        matrix("{prefix}h.{layer}.mlp.c_proj.weight", Group.M2, transposed=True),
        _WTE,
        _WPE,
        _HEAD,
    ),
    ignored=_MASKS,
    verified="forward pass",
    reference="transformers/models/gpt2/modeling_gpt2.py, v5.23; the Hub's files have no prefix",
)

# GPT-2's names for nn.Linear. c_attn is [Q; k; v] with one key and value head if multi_query, else [q; k; v]
# head by head: by key and value head in either case.
GPT_BIGCODE = FamilySpec(
    name="gpt_bigcode",
    model_types=("gpt_bigcode",),
    prefixes=_PREFIXES,
    patterns=(
        matrix("{prefix}h.{layer}.attn.c_attn.weight", Group.QKV, layout="interleaved_by_kv_group"),
        *linears(
            "{prefix}h.{layer}.", {"attn.c_proj": Group.O, "mlp.c_fc": Group.M1, "mlp.c_proj": Group.M2}
        ),
        _WTE,
        _WPE,
        _HEAD,
    ),
    ignored=_MASKS,
    config_flags={"multi_query": "multi_query"},
    verified="forward pass",
    reference="transformers/models/gpt_bigcode/modeling_gpt_bigcode.py, v5.23",
)

# nn.Linear although the layers are called h.N.attn.
GPTJ = FamilySpec(
    name="gptj",
    model_types=("gptj",),
    prefixes=_PREFIXES,
    patterns=(
        *linears(
            "{prefix}h.{layer}.",
            {
                "attn.q_proj": Group.Q,
                "attn.k_proj": Group.K,
                "attn.v_proj": Group.V,
                "attn.out_proj": Group.O,
                "mlp.fc_in": Group.M1,
                "mlp.fc_out": Group.M2,
            },
        ),
        _WTE,
        _HEAD,
    ),
    ignored=(
        *_MASKS,
        *buffers("{prefix}h.{layer}.attn.", "embed_positions", reason="rotary position table"),
    ),
    verified="modules",
    reference="transformers/models/gptj/modeling_gptj.py, v5.23",
)

# nn.Linear, c_fc and c_proj too.
GPT_NEO = FamilySpec(
    name="gpt_neo",
    model_types=("gpt_neo",),
    prefixes=_PREFIXES,
    patterns=(
        *linears(
            "{prefix}h.{layer}.",
            {
                "attn.attention.q_proj": Group.Q,
                "attn.attention.k_proj": Group.K,
                "attn.attention.v_proj": Group.V,
                "attn.attention.out_proj": Group.O,
                "mlp.c_fc": Group.M1,
                "mlp.c_proj": Group.M2,
            },
        ),
        _WTE,
        _WPE,
        _HEAD,
    ),
    ignored=buffers("{prefix}h.{layer}.attn.attention.", "bias", "masked_bias", reason=MASK),
    verified="modules",
    reference="transformers/models/gpt_neo/modeling_gpt_neo.py, v5.23",
)

# qkv_proj is four blocks, for the four TPU cores it was trained on, each [Q; V; K].
CODEGEN = FamilySpec(
    name="codegen",
    model_types=("codegen",),
    prefixes=_PREFIXES,
    patterns=(
        matrix("{prefix}h.{layer}.attn.qkv_proj.weight", Group.QKV, layout="four_blocks_qvk"),
        *linears(
            "{prefix}h.{layer}.", {"attn.out_proj": Group.O, "mlp.fc_in": Group.M1, "mlp.fc_out": Group.M2}
        ),
        _WTE,
        _HEAD,
    ),
    ignored=buffers("{prefix}h.{layer}.attn.", "causal_mask", "bias", "masked_bias", reason=MASK),
    verified="forward pass",
    reference="transformers/models/codegen/modeling_codegen.py, v5.23",
)
