"""Encoder and decoder, each a stack of its own; the decoder's cross attention reads the encoder's output."""

from typing import Literal

from weightscope.families.entries.shorthand import SINES, buffers, linears, matrix
from weightscope.families.spec import CopyPattern, FamilySpec, Group, IgnoredPattern, MatrixPattern

_TIED = "tie_word_embeddings"
# One embedding under three names, and the output head where the config does not say that it is another.
_SHARED = (
    "{prefix}shared.weight",
    "{prefix}encoder.embed_tokens.weight",
    "{prefix}decoder.embed_tokens.weight",
)
COPIES = (
    CopyPattern(template=_SHARED[1], of=_SHARED[:1]),
    CopyPattern(template=_SHARED[2], of=_SHARED[:2]),
    CopyPattern(template="lm_head.weight", of=_SHARED, unless=_TIED),
)
SHARED_EMBEDDING = (
    *(matrix(name, Group.EMBEDDING) for name in _SHARED),
    matrix("lm_head.weight", Group.UNEMBEDDING),
)


def t5_attention(
    layer: str, stack: str, *, kind: Literal["self", "cross"] = "self"
) -> tuple[MatrixPattern, ...]:
    """One attention of a layer."""
    roles = {"q": Group.Q, "k": Group.K, "v": Group.V, "o": Group.O}
    return linears(layer, roles, stack=stack, kind=kind)


def t5_feed_forward(layer: str, stack: str) -> tuple[MatrixPattern, ...]:
    """Its feed-forward part, gated or not."""
    return (
        matrix(f"{layer}wi_0.weight", Group.G, stack=stack, optional=True),
        *linears(layer, {"wi": Group.M1, "wi_1": Group.M1, "wo": Group.M2}, stack=stack),
    )


# layer.J is a part of a block: 0 self-attention, then in the decoder 1 cross attention, last the feed-forward
# part. With a gate (v1.1 and after) wi_0 goes through the activation. The table of relative positions of
# layer 0 serves all layers; of cross attention old files keep one that the model does not have. A head has
# d_kv rows, whatever d_model is.
T5 = FamilySpec(
    name="t5",
    model_types=("t5", "mt5", "umt5"),
    prefixes=("", "transformer."),
    patterns=(
        *t5_attention("{prefix}encoder.block.{layer}.layer.0.SelfAttention.", "encoder"),
        *t5_feed_forward("{prefix}encoder.block.{layer}.layer.1.DenseReluDense.", "encoder"),
        *t5_attention("{prefix}decoder.block.{layer}.layer.0.SelfAttention.", "decoder"),
        *t5_attention("{prefix}decoder.block.{layer}.layer.1.EncDecAttention.", "decoder", kind="cross"),
        *t5_feed_forward("{prefix}decoder.block.{layer}.layer.2.DenseReluDense.", "decoder"),
        *(
            matrix(
                f"{{prefix}}{stack}.block.{{layer}}.layer.0.SelfAttention.relative_attention_bias.weight",
                Group.POSITION,
                stack=stack,
            )
            for stack in ("encoder", "decoder")
        ),
        *SHARED_EMBEDDING,
    ),
    ignored=(
        IgnoredPattern(
            template="{prefix}decoder.block.{layer}.layer.1.EncDecAttention.relative_attention_bias.weight",
            reason="relative positions of cross attention, which no model uses",
        ),
    ),
    copies=COPIES,
    stack="encoder",
    config_keys={"layers": "num_layers", "head_dim": "d_kv"},
    stack_keys={"decoder": {"layers": "num_decoder_layers"}},
    verified="modules",
    reference="transformers/models/t5/modeling_t5.py, mt5 and umt5, v5.23",
)


def bart_layers(stack: str) -> tuple[MatrixPattern, ...]:
    """Those of the encoder, or of the decoder with cross attention, and the table of its positions."""
    layer = f"{{prefix}}{stack}.layers.{{layer}}."
    roles = {"q_proj": Group.Q, "k_proj": Group.K, "v_proj": Group.V, "out_proj": Group.O}
    return (
        *linears(f"{layer}self_attn.", roles, stack=stack),
        *(linears(f"{layer}encoder_attn.", roles, stack=stack, kind="cross") if stack == "decoder" else ()),
        *linears(layer, {"fc1": Group.M1, "fc2": Group.M2}, stack=stack),
        matrix(f"{{prefix}}{stack}.embed_positions.weight", Group.POSITION),
    )


_BART_LAYERS = (*bart_layers("encoder"), *bart_layers("decoder"))
# `num_hidden_layers`, which files of transformers 4 have too, is the encoder's.
BART_KEYS = {
    stack: {
        "layers": f"{stack}_layers",
        "heads": f"{stack}_attention_heads",
        "feed_forward_dimension": f"{stack}_ffn_dim",
    }
    for stack in ("encoder", "decoder")
}

LOGITS_BIAS = buffers("", "final_logits_bias", reason="bias of the logits kept as a buffer")

BART = FamilySpec(
    name="bart",
    model_types=(
        *("bart", "mbart", "plbart", "pegasus", "blenderbot", "blenderbot-small"),
        *("m2m_100", "pegasus_x", "speech_to_text"),
    ),
    prefixes=("model.", ""),
    patterns=(*_BART_LAYERS, *SHARED_EMBEDDING),
    ignored=(
        *LOGITS_BIAS,
        *buffers("{prefix}encoder.", "embed_positions.weights", reason=SINES),
        *buffers("{prefix}decoder.", "embed_positions.weights", reason=SINES),
    ),
    copies=COPIES,
    stack="encoder",
    stack_keys=BART_KEYS,
    verified="modules",
    reference="transformers/models/bart/modeling_bart.py, mbart, plbart, pegasus, blenderbot, m2m_100, v5.23",
)

# BART's names. Encoder and decoder may have embeddings of their own, even of one shape: the config says so.
MARIAN = FamilySpec(
    name="marian",
    model_types=("marian",),
    prefixes=("model.", ""),
    patterns=(*_BART_LAYERS, *SHARED_EMBEDDING),
    ignored=LOGITS_BIAS,
    copies=(
        CopyPattern(template=_SHARED[1], of=_SHARED[:1]),
        CopyPattern(template=_SHARED[2], of=_SHARED[:2], unless="share_encoder_decoder_embeddings"),
        CopyPattern(template="lm_head.weight", of=(_SHARED[2], *_SHARED[:2]), unless=_TIED),
    ),
    stack="encoder",
    stack_keys=BART_KEYS,
    verified="modules",
    reference="transformers/models/marian/modeling_marian.py, v5.23",
)

# BART's layers. The encoder reads spectra through two convolutions.
WHISPER = FamilySpec(
    name="whisper",
    model_types=("whisper",),
    prefixes=("model.", ""),
    patterns=(
        *_BART_LAYERS,
        *linears("{prefix}encoder.", {"conv1": Group.CONV, "conv2": Group.CONV}),
        matrix("{prefix}decoder.embed_tokens.weight", Group.EMBEDDING),
        matrix("proj_out.weight", Group.UNEMBEDDING),
    ),
    copies=(CopyPattern(template="proj_out.weight", of=(_SHARED[2],), unless=_TIED),),
    stack="encoder",
    stack_keys=BART_KEYS,
    verified="modules",
    reference="transformers/models/whisper/modeling_whisper.py, v5.23",
)
