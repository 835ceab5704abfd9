"""Encoders and decoders whose encoder reads long inputs, with an attention of another name."""

from weightscope.families.entries.encoder_decoders import (
    BART_KEYS,
    COPIES,
    LOGITS_BIAS,
    SHARED_EMBEDDING,
    bart_layers,
    t5_attention,
    t5_feed_forward,
)
from weightscope.families.entries.shorthand import linears, matrix
from weightscope.families.spec import FamilySpec, Group, MatrixPattern

_SELF = {"query": Group.Q, "key": Group.K, "value": Group.V}


def _encoder(attention: str, more: dict[str, Group] | None = None) -> tuple[MatrixPattern, ...]:
    layer = "{prefix}encoder.layers.{layer}."
    return (
        *linears(f"{layer}self_attn.{attention}.", {**_SELF, **(more or {})}),
        *linears(layer, {"self_attn.output": Group.O, "fc1": Group.M1, "fc2": Group.M2}),
        matrix("{prefix}encoder.embed_positions.weight", Group.POSITION),
    )


# BART with Longformer's encoder, whose second query, key and value are of group other.
LED = FamilySpec(
    name="led",
    model_types=("led",),
    prefixes=("led.", ""),
    patterns=(
        *_encoder(
            "longformer_self_attn",
            dict.fromkeys(("query_global", "key_global", "value_global"), Group.OTHER),
        ),
        *bart_layers("decoder"),
        *SHARED_EMBEDDING,
    ),
    ignored=LOGITS_BIAS,
    copies=COPIES,
    stack="encoder",
    stack_keys=BART_KEYS,
    verified="modules",
    reference="transformers/models/led/modeling_led.py, v5.23",
)

# Pegasus with BigBird's encoder.
BIGBIRD_PEGASUS = FamilySpec(
    name="bigbird_pegasus",
    model_types=("bigbird_pegasus",),
    prefixes=("model.", ""),
    patterns=(*_encoder("self"), *bart_layers("decoder"), *SHARED_EMBEDDING),
    ignored=LOGITS_BIAS,
    copies=COPIES,
    stack="encoder",
    stack_keys=BART_KEYS,
    verified="modules",
    reference="transformers/models/bigbird_pegasus/modeling_bigbird_pegasus.py, v5.23",
)

_BIASES = (
    ("encoder.block.{layer}.layer.0.LocalSelfAttention.", "encoder"),
    ("encoder.block.{layer}.layer.0.TransientGlobalSelfAttention.", "encoder"),
    ("decoder.block.{layer}.layer.0.SelfAttention.", "decoder"),
)

# T5 whose encoder attends to what is near, or to that and to sums of blocks. The table of the latter's places
# is of group other: a layer has one.
LONGT5 = FamilySpec(
    name="longt5",
    model_types=("longt5",),
    prefixes=("", "transformer."),
    patterns=(
        *t5_attention("{prefix}encoder.block.{layer}.layer.0.LocalSelfAttention.", "encoder"),
        *t5_attention("{prefix}encoder.block.{layer}.layer.0.TransientGlobalSelfAttention.", "encoder"),
        *t5_feed_forward("{prefix}encoder.block.{layer}.layer.1.DenseReluDense.", "encoder"),
        *t5_attention("{prefix}decoder.block.{layer}.layer.0.SelfAttention.", "decoder"),
        *t5_attention("{prefix}decoder.block.{layer}.layer.1.EncDecAttention.", "decoder", kind="cross"),
        *t5_feed_forward("{prefix}decoder.block.{layer}.layer.2.DenseReluDense.", "decoder"),
        *(
            matrix(
                f"{{prefix}}{container}relative_attention_bias.weight",
                Group.POSITION,
                stack=stack,
                optional=True,
            )
            for container, stack in _BIASES
        ),
        matrix(
            "{prefix}encoder.block.{layer}.layer.0.TransientGlobalSelfAttention."
            "global_relative_attention_bias.weight",
            Group.OTHER,
            optional=True,
        ),
        *SHARED_EMBEDDING,
    ),
    copies=COPIES,
    stack="encoder",
    config_keys={"layers": "num_layers", "head_dim": "d_kv"},
    stack_keys={"decoder": {"layers": "num_decoder_layers"}},
    verified="modules",
    reference="transformers/models/longt5/modeling_longt5.py, v5.23",
)
