"""Vision transformers, and pairs of a vision and a text tower."""

from weightscope.families.entries.shorthand import MASK, POSITION_IDS, buffers, linears, matrix, nested_sizes
from weightscope.families.spec import FamilySpec, Group, MatrixPattern

# Used by CLIP's towers and SigLIP's, module by module.
_CLIP_LAYER = {
    "self_attn.q_proj": Group.Q,
    "self_attn.k_proj": Group.K,
    "self_attn.v_proj": Group.V,
    "self_attn.out_proj": Group.O,
    "mlp.fc1": Group.M1,
    "mlp.fc2": Group.M2,
}


def vision_tower(container: str) -> tuple[MatrixPattern, ...]:
    """CLIP's vision tower, or SigLIP's. What the latter's pooling head has is in no group."""
    return (
        *linears(f"{container}encoder.layers.{{layer}}.", _CLIP_LAYER, stack="vision"),
        matrix(f"{container}embeddings.patch_embedding.weight", Group.CONV),
        matrix(f"{container}embeddings.position_embedding.weight", Group.POSITION),
    )


def _text_tower(container: str) -> tuple[MatrixPattern, ...]:
    return (
        *linears(f"{container}encoder.layers.{{layer}}.", _CLIP_LAYER, stack="text"),
        matrix(f"{container}embeddings.token_embedding.weight", Group.EMBEDDING),
        matrix(f"{container}embeddings.position_embedding.weight", Group.POSITION),
    )


VIT_ATTENTION = {
    "attention.attention.query": Group.Q,
    "attention.attention.key": Group.K,
    "attention.attention.value": Group.V,
    "attention.output.dense": Group.O,
}
VIT_LAYER = {**VIT_ATTENTION, "intermediate.dense": Group.M1, "output.dense": Group.M2}
NEW_ATTENTION = {f"attention.{name}_proj": Group(name.upper()) for name in "qkvo"}
NEW_LAYER = {**NEW_ATTENTION, "mlp.fc1": Group.M1, "mlp.fc2": Group.M2}
# The Hub's names, then those that transformers 5 has in memory.
VIT_LAYERS = (
    *linears("{prefix}encoder.layer.{layer}.", VIT_LAYER),
    *linears("{prefix}layers.{layer}.", NEW_LAYER),
)

# The position table is (1, rows, width).
VIT = FamilySpec(
    name="vit",
    model_types=("vit", "deit", "vit_msn"),
    prefixes=("vit.", "deit.", ""),
    patterns=(
        *VIT_LAYERS,
        matrix("{prefix}embeddings.patch_embeddings.projection.weight", Group.CONV),
        matrix("{prefix}embeddings.position_embeddings", Group.POSITION),
    ),
    stack="vision",
    verified="modules",
    reference="transformers/models/vit/modeling_vit.py, deit, vit_msn and conversion_mapping.py, v5.23",
)

# SigLIP has the same names, and heads of its own behind the towers, which are in no group.
CLIP = FamilySpec(
    name="clip",
    model_types=("clip", "siglip", "siglip2"),
    patterns=(*_text_tower("text_model."), *vision_tower("vision_model.")),
    ignored=(
        *buffers("text_model.embeddings.", "position_ids", reason=POSITION_IDS),
        *buffers("vision_model.embeddings.", "position_ids", reason=POSITION_IDS),
    ),
    stack="text",
    stack_keys={"text": nested_sizes("text_config"), "vision": nested_sizes("vision_config")},
    verified="modules",
    reference="transformers/models/clip/modeling_clip.py, v5.23",
)

# Saved alone: the Hub's files have the tower's prefix, those of transformers 5 have none.
CLIP_TEXT = FamilySpec(
    name="clip_text",
    model_types=("clip_text_model", "siglip_text_model"),
    prefixes=("text_model.", ""),
    patterns=_text_tower("{prefix}"),
    ignored=buffers("{prefix}embeddings.", "position_ids", reason=POSITION_IDS),
    stack="text",
    verified="modules",
    reference="transformers/models/clip/modeling_clip.py, v5.23",
)

CLIP_VISION = FamilySpec(
    name="clip_vision",
    model_types=("clip_vision_model", "siglip_vision_model"),
    prefixes=("vision_model.", ""),
    patterns=vision_tower("{prefix}"),
    ignored=buffers("{prefix}embeddings.", "position_ids", reason=POSITION_IDS),
    stack="vision",
    verified="modules",
    reference="transformers/models/clip/modeling_clip.py, v5.23",
)

# in_proj_weight is that of nn.MultiheadAttention, [Q; K; V]. c_fc and c_proj are Linears. The projections
# behind the towers are parameters, multiplied from the left: stored (in_features, out_features). A text tower
# with a class of its own is called `text`. config.json is transformers', open_clip's, or not there.
_OPEN_CLIP_LAYER = {
    "attn.out_proj.weight": Group.O,
    "mlp.c_fc.weight": Group.M1,
    "mlp.c_proj.weight": Group.M2,
}
_OPEN_CLIP_SIZES = {
    "text": {"layers": "layers", "model_dimension": "width", "heads": "heads", "vocabulary": "vocab_size"},
    "vision": {"layers": "layers", "model_dimension": "width", "head_dim": "head_width"},
}


def _clip_or_open_clip(stack: str) -> dict[str, tuple[str, ...]]:
    """Keys of a tower's sizes in transformers' config and in open_clip's, whole or its `model_cfg` alone."""
    own = _OPEN_CLIP_SIZES[stack]
    places = (f"{stack}_cfg", f"model_cfg.{stack}_cfg")
    return {
        size: (key, *(f"{place}.{own[size]}" for place in places if size in own))
        for size, key in nested_sizes(f"{stack}_config").items()
    }


def _resblocks(container: str, stack: str) -> tuple[MatrixPattern, ...]:
    layer = f"{container}transformer.resblocks.{{layer}}."
    return (
        matrix(f"{layer}attn.in_proj_weight", Group.QKV, layout="contiguous_thirds", stack=stack),
        *(matrix(f"{layer}{name}", group, stack=stack) for name, group in _OPEN_CLIP_LAYER.items()),
        matrix(f"{container}positional_embedding", Group.POSITION),
    )


OPEN_CLIP = FamilySpec(
    name="open_clip",
    model_types=("clip",),
    prefixes=("", "text."),
    patterns=(
        *_resblocks("{prefix}", "text"),
        *_resblocks("visual.", "vision"),
        matrix("{prefix}token_embedding.weight", Group.EMBEDDING),
        matrix("visual.conv1.weight", Group.CONV),
        matrix("{prefix}text_projection", Group.OTHER, transposed=True),
        matrix("visual.proj", Group.OTHER, transposed=True),
    ),
    ignored=buffers("{prefix}", "attn_mask", reason=MASK),
    stack="text",
    stack_keys={stack: _clip_or_open_clip(stack) for stack in ("text", "vision")},
    verified="formula",
    reference="open_clip/src/open_clip/transformer.py; the names of OpenAI's CLIP",
)
