"""Encoders of speech: convolutions over the wave, then a transformer."""

from weightscope.families.entries.shorthand import linears, matrix
from weightscope.families.spec import FamilySpec, Group, IgnoredPattern

_ATTENTION = {f"attention.{name}_proj": Group(name.upper()) for name in "qkv"} | {
    "attention.out_proj": Group.O
}
_POSITIONS = "{prefix}encoder.pos_conv_embed.conv."

# The convolution of positions is stored as a direction and, apart, its length for each tap (a weight norm):
# the direction is what is analysed. WavLM has relative positions, a table in the first layer and a gate.
WAV2VEC2 = FamilySpec(
    name="wav2vec2",
    model_types=("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio"),
    prefixes=("wav2vec2.", "hubert.", "wavlm.", "unispeech.", "unispeech_sat.", "data2vec_audio.", ""),
    patterns=(
        *linears(
            "{prefix}encoder.layers.{layer}.",
            {
                **_ATTENTION,
                "feed_forward.intermediate_dense": Group.M1,
                "feed_forward.output_dense": Group.M2,
            },
        ),
        *linears(
            "{prefix}encoder.layers.{layer}.attention.",
            {"gru_rel_pos_linear": Group.OTHER, "rel_attn_embed": Group.POSITION},
            optional=True,
        ),
        matrix(_POSITIONS + "weight_v", Group.CONV),
        matrix(_POSITIONS + "parametrizations.weight.original1", Group.CONV),
    ),
    ignored=(
        *(
            IgnoredPattern(
                template=_POSITIONS + name, reason="lengths of a weight norm, one a tap", trained=True
            )
            for name in ("weight_g", "parametrizations.weight.original0")
        ),
        IgnoredPattern(
            template="{prefix}encoder.layers.{layer}.attention.gru_rel_pos_const",
            reason="one number a head",
            trained=True,
        ),
    ),
    stack="encoder",
    verified="modules",
    formula=("weight_g and weight_v of the convolution of positions",),
    reference="transformers/models/wav2vec2/modeling_wav2vec2.py, hubert, wavlm, unispeech, unispeech_sat "
    "and data2vec, v5.23; weight_g and weight_v in files of transformers 4",
)
