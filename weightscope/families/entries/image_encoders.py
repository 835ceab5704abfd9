"""Encoders of images, films and sound pictures: relatives of ViT."""

from weightscope.families.entries.shorthand import linears, matrix
from weightscope.families.entries.vision import NEW_ATTENTION, NEW_LAYER, VIT_ATTENTION, VIT_LAYER, VIT_LAYERS
from weightscope.families.spec import FamilySpec, Group, IgnoredPattern, MatrixPattern

_PATCHES = matrix("{prefix}embeddings.patch_embeddings.projection.weight", Group.CONV)
_POSITIONS = matrix("{prefix}embeddings.position_embeddings", Group.POSITION)
_TABLE = "relative_position_bias.relative_position_bias_table"
# The half that learns to draw what was hidden. `num_hidden_layers` and the like are the encoder's.
_DRAWING_KEYS = {
    "decoder": {
        "layers": "decoder_num_hidden_layers",
        "model_dimension": "decoder_hidden_size",
        "feed_forward_dimension": "decoder_intermediate_size",
        "heads": "decoder_num_attention_heads",
    }
}

# Tables of relative positions of each layer, or one of all.
BEIT = FamilySpec(
    name="beit",
    model_types=("beit", "data2vec-vision"),
    prefixes=("beit.", "data2vec_vision.", ""),
    patterns=(
        *VIT_LAYERS,
        *(
            matrix(f"{{prefix}}{container}{_TABLE}", Group.POSITION, optional=True)
            for container in ("encoder.layer.{layer}.attention.attention.", "layers.{layer}.", "encoder.", "")
        ),
        _PATCHES,
        _POSITIONS,
    ),
    stack="vision",
    verified="modules",
    reference="transformers/models/beit/modeling_beit.py, data2vec and conversion_mapping.py, v5.23",
)

# Of the giant ones the feed-forward part is gated, weights_in [G; M1].
DINOV2 = FamilySpec(
    name="dinov2",
    model_types=("dinov2", "dinov2_with_registers"),
    prefixes=("dinov2.", "dinov2_with_registers.", ""),
    patterns=(
        *linears("{prefix}encoder.layer.{layer}.", {**VIT_ATTENTION, **NEW_LAYER}),
        matrix(
            "{prefix}encoder.layer.{layer}.mlp.weights_in.weight",
            Group.M1,
            layout="gate_then_up",
            optional=True,
        ),
        *linears(
            "{prefix}encoder.layer.{layer}.",
            {
                "mlp.weights_out": Group.M2,
                "mlp.gate_proj": Group.G,
                "mlp.up_proj": Group.M1,
                "mlp.down_proj": Group.M2,
            },
            optional=True,
        ),
        _PATCHES,
        _POSITIONS,
    ),
    stack="vision",
    verified="forward pass",
    reference="transformers/models/dinov2/modeling_dinov2.py and conversion_mapping.py, v5.23",
)

# Gated in some; transformers 5 has a prefix in memory that no file has.
DINOV3 = FamilySpec(
    name="dinov3",
    model_types=("dinov3_vit",),
    prefixes=("", "model."),
    patterns=(
        *linears(
            "{prefix}layer.{layer}.",
            {**NEW_ATTENTION, "mlp.up_proj": Group.M1, "mlp.down_proj": Group.M2},
        ),
        *linears("{prefix}layer.{layer}.", {"mlp.gate_proj": Group.G}, optional=True),
        matrix("embeddings.patch_embeddings.weight", Group.CONV),
    ),
    stack="vision",
    verified="modules",
    reference="transformers/models/dinov3_vit/modeling_dinov3_vit.py, v5.23",
)


def _drawing(container: str, names: dict[str, Group]) -> tuple[MatrixPattern, ...]:
    return linears(f"{container}{{layer}}.", names, stack="decoder")


# transformers 5.23 writes decoder_encoder.layer where the Hub's files and memory say decoder_layers.
VIT_MAE = FamilySpec(
    name="vit_mae",
    model_types=("vit_mae",),
    prefixes=("vit.", ""),
    patterns=(
        *VIT_LAYERS,
        *_drawing("decoder.decoder_layers.", {**VIT_LAYER, **NEW_LAYER}),
        *_drawing("decoder.decoder_encoder.layer.", VIT_LAYER),
        _PATCHES,
        _POSITIONS,
        matrix("decoder.decoder_pos_embed", Group.POSITION),
    ),
    stack="vision",
    stack_keys=_DRAWING_KEYS,
    verified="modules",
    formula=("decoder_layers, as in the Hub's files",),
    reference="transformers/models/vit_mae/modeling_vit_mae.py and conversion_mapping.py, v5.23",
)

# Patches have a third dimension, time.
VIDEOMAE = FamilySpec(
    name="videomae",
    model_types=("videomae",),
    prefixes=("videomae.", ""),
    patterns=(*VIT_LAYERS, *_drawing("decoder.decoder_layers.", VIT_LAYER), _PATCHES),
    stack="vision",
    stack_keys=_DRAWING_KEYS,
    verified="modules",
    reference="transformers/models/videomae/modeling_videomae.py, v5.23",
)

# ViT on pictures of sound.
AST = FamilySpec(
    name="audio-spectrogram-transformer",
    model_types=("audio-spectrogram-transformer",),
    prefixes=("audio_spectrogram_transformer.", ""),
    patterns=(*VIT_LAYERS, _PATCHES, _POSITIONS),
    stack="audio",
    verified="modules",
    reference="transformers/models/audio_spectrogram_transformer/"
    "modeling_audio_spectrogram_transformer.py, v5.23",
)

_SWIN_LAYER = {
    **{f"attention.self.{name}": Group(name[0].upper()) for name in ("query", "key", "value")},
    "attention.output.dense": Group.O,
    "intermediate.dense": Group.M1,
    "output.dense": Group.M2,
    **NEW_LAYER,
}
_SWIN_TABLES = (
    "attention.self.relative_position_bias_table",
    "attention.relative_position_bias.relative_position_bias_table",
)


def swin_stages(container: str) -> tuple[MatrixPattern, ...]:
    """Swin's blocks: each of its four stages is as wide again as the last, and a stack of its own."""
    return tuple(
        pattern
        for stage in range(4)
        for block in (f"{container}encoder.layers.{stage}.blocks.{{layer}}.",)
        for pattern in (
            *linears(block, _SWIN_LAYER, stack=f"stage{stage + 1}"),
            *(
                matrix(f"{block}{table}", Group.POSITION, stack=f"stage{stage + 1}", optional=True)
                for table in _SWIN_TABLES
            ),
        )
    )


# The config's lists tell depths and heads of the stages: nothing is held against them. Version 2 makes its
# tables of positions by a small network, which is in no group.
SWIN = FamilySpec(
    name="swin",
    model_types=("swin", "swinv2", "donut-swin"),
    prefixes=("swin.", "swinv2.", ""),
    patterns=(*swin_stages("{prefix}"), _PATCHES, _POSITIONS),
    ignored=tuple(
        IgnoredPattern(
            template=f"{{prefix}}encoder.layers.{stage}.blocks.{{layer}}.attention.self.logit_scale",
            reason="one number a head",
            trained=True,
        )
        for stage in range(4)
    ),
    stack="stage1",
    config_keys=dict.fromkeys(("layers", "model_dimension", "heads"), ""),
    verified="modules",
    reference="transformers/models/swin/modeling_swin.py, swinv2, donut and conversion_mapping.py, v5.23",
)
