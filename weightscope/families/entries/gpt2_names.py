"""Decoders whose layers are called `h.N.attn` and `h.N.mlp` as GPT-2's are, whatever is stored there."""

from weightscope.families.entries.shorthand import MASK, buffers, linears, matrix
from weightscope.families.spec import FamilySpec, Group

_PREFIXES = ("transformer.", "")
_WTE = matrix("{prefix}wte.weight", Group.EMBEDDING)
_WPE = matrix("{prefix}wpe.weight", Group.POSITION)
_HEAD = matrix("lm_head.weight", Group.UNEMBEDDING)
_MASKS = buffers("{prefix}h.{layer}.attn.", "bias", "masked_bias", reason=MASK)

# Conv1D everywhere: the file holds (in_features, out_features). c_attn's columns are [Q | K | V].
_CONV1D_LAYER = (
    matrix("{prefix}h.{layer}.attn.c_attn.weight", Group.QKV, transposed=True, layout="contiguous_thirds"),
    matrix("{prefix}h.{layer}.attn.c_proj.weight", Group.O, transposed=True),
    matrix("{prefix}h.{layer}.mlp.c_fc.weight", Group.M1, transposed=True),
    matrix("{prefix}h.{layer}.mlp.c_proj.weight", Group.M2, transposed=True),
)
# Where it is the decoder of an encoder: a second c_attn, with columns [K | V].
_CONV1D_CROSS = (
    matrix(
        "{prefix}h.{layer}.crossattention.q_attn.weight",
        Group.Q,
        transposed=True,
        kind="cross",
        optional=True,
    ),
    matrix(
        "{prefix}h.{layer}.crossattention.c_attn.weight",
        Group.K,
        transposed=True,
        layout="key_then_value",
        kind="cross",
        optional=True,
    ),
    matrix(
        "{prefix}h.{layer}.crossattention.c_proj.weight",
        Group.O,
        transposed=True,
        kind="cross",
        optional=True,
    ),
)

GPT2 = FamilySpec(
    name="gpt2",
    model_types=("gpt2",),
    prefixes=_PREFIXES,
    patterns=(*_CONV1D_LAYER, *_CONV1D_CROSS, _WTE, _WPE, _HEAD),
    ignored=(
        *_MASKS,
        *buffers("{prefix}h.{layer}.crossattention.", "bias", "masked_bias", reason=MASK),
    ),
    verified="forward pass",
    reference="transformers/models/gpt2/modeling_gpt2.py, v5.23; the Hub's files have no prefix",
)

# GPT-2's layers, with embeddings of other names.
OPENAI_GPT = FamilySpec(
    name="openai-gpt",
    model_types=("openai-gpt",),
    prefixes=_PREFIXES,
    patterns=(
        *_CONV1D_LAYER,
        matrix("{prefix}tokens_embed.weight", Group.EMBEDDING),
        matrix("{prefix}positions_embed.weight", Group.POSITION),
        _HEAD,
    ),
    ignored=_MASKS,
    verified="forward pass",
    formula=("no prefix, beside a head",),
    reference="transformers/models/openai/modeling_openai.py, v5.23; the Hub's files have no prefix",
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

# qkv_proj is four blocks, for the four TPU cores it was trained on, each [Q; V; K]; in CodeGen2-1B and 3.7B,
# which have code of their own under the same model_type, eight.
CODEGEN = FamilySpec(
    name="codegen",
    model_types=("codegen",),
    prefixes=_PREFIXES,
    patterns=(
        matrix("{prefix}h.{layer}.attn.qkv_proj.weight", Group.QKV, layout="codegen_blocks"),
        *linears(
            "{prefix}h.{layer}.", {"attn.out_proj": Group.O, "mlp.fc_in": Group.M1, "mlp.fc_out": Group.M2}
        ),
        _WTE,
        _HEAD,
    ),
    ignored=buffers("{prefix}h.{layer}.attn.", "causal_mask", "bias", "masked_bias", reason=MASK),
    verified="forward pass",
    formula=("CodeGen2's eight blocks",),
    reference="transformers/models/codegen/modeling_codegen.py, v5.23; Salesforce/codegen2-1B's own "
    "modeling_codegen.py and config.json, 2023-05",
)
