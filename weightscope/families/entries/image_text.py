"""Models that read images and write text: a decoder of LLaMA's kind and a tower of vision."""

from weightscope.families.entries.gated_decoders import ATTENTION, ENDS, INSIDE, LLAMA_BUFFERS
from weightscope.families.entries.shorthand import POSITION_IDS, buffers, linears, matrix, nested_sizes
from weightscope.families.entries.vision import vision_tower
from weightscope.families.spec import FamilySpec, Group, MatrixPattern

_MLP = {"mlp.gate_proj": Group.G, "mlp.up_proj": Group.M1, "mlp.down_proj": Group.M2}
TEXT = (
    *linears("{prefix}layers.{layer}.", {**ATTENTION, **_MLP}),
    *ENDS,
    matrix("language_model.lm_head.weight", Group.UNEMBEDDING),
)
_TOWERS = (
    "vision_tower.vision_model.",
    "vision_tower.",
    "model.vision_tower.vision_model.",
    "model.vision_tower.",
)
_PIXTRAL = {
    **{f"attention.{name}_proj": Group(name.upper()) for name in "qkvo"},
    "feed_forward.up_proj": Group.M1,
    "feed_forward.down_proj": Group.M2,
}


def _pixtral(container: str) -> tuple[MatrixPattern, ...]:
    layer = f"{container}transformer.layers.{{layer}}."
    return (
        *linears(layer, _PIXTRAL, stack="vision"),
        *linears(layer, {"feed_forward.gate_proj": Group.G}, stack="vision", optional=True),
        matrix(f"{container}patch_conv.weight", Group.CONV),
    )


# The text is LLaMA's, Mistral's, Qwen2's or Gemma's, all of the same names; the tower CLIP's, SigLIP's or
# Pixtral's. What joins them, and SigLIP's pooling head, is in no group. Files of the Hub may omit every size.
LLAVA = FamilySpec(
    name="llava",
    model_types=("llava", "llava_next", "llava_onevision", "vipllava", "mistral3", "paligemma"),
    prefixes=INSIDE,
    patterns=(
        *TEXT,
        *(pattern for container in _TOWERS for pattern in vision_tower(container)),
        *(
            pattern
            for container in ("vision_tower.", "model.vision_tower.")
            for pattern in _pixtral(container)
        ),
    ),
    ignored=(
        *LLAMA_BUFFERS,
        *(
            pattern
            for container in _TOWERS
            for pattern in buffers(f"{container}embeddings.", "position_ids", reason=POSITION_IDS)
        ),
    ),
    stack_keys={"vision": nested_sizes("vision_config")},
    verified="modules",
    reference="transformers/models/llava/modeling_llava.py, llava_next, llava_onevision, vipllava, mistral3, "
    "pixtral, paligemma and conversion_mapping.py, v5.23",
)

# SigLIP's tower without its head.
IDEFICS3 = FamilySpec(
    name="idefics3",
    model_types=("idefics3", "smolvlm"),
    prefixes=("model.text_model.", "text_model."),
    patterns=(*TEXT[:-1], *vision_tower("model.vision_model."), *vision_tower("vision_model.")),
    ignored=LLAMA_BUFFERS,
    stack_keys={"vision": nested_sizes("vision_config")},
    verified="modules",
    reference="transformers/models/idefics3/modeling_idefics3.py and smolvlm, v5.23",
)


def _qwen_tower(feed_forward: dict[str, Group]) -> tuple[MatrixPattern, ...]:
    """Q, K and V in one; what merges four patches and makes them as wide as the text is in no group."""
    return tuple(
        pattern
        for container in ("visual.", "model.visual.")
        for pattern in (
            matrix(
                f"{container}blocks.{{layer}}.attn.qkv.weight",
                Group.QKV,
                layout="contiguous_thirds",
                stack="vision",
            ),
            *linears(f"{container}blocks.{{layer}}.", {"attn.proj": Group.O, **feed_forward}, stack="vision"),
            matrix(f"{container}patch_embed.proj.weight", Group.CONV),
            matrix(f"{container}pos_embed.weight", Group.POSITION),
        )
    )


_TOWER_KEYS = {
    **nested_sizes("vision_config"),
    "layers": "vision_config.depth",
    "heads": "vision_config.num_heads",
}

# The tower's hidden_size is the text's width.
QWEN2_VL = FamilySpec(
    name="qwen2_vl",
    model_types=("qwen2_vl",),
    prefixes=INSIDE,
    patterns=(*TEXT, *_qwen_tower({"mlp.fc1": Group.M1, "mlp.fc2": Group.M2})),
    ignored=LLAMA_BUFFERS,
    stack_keys={"vision": {**_TOWER_KEYS, "model_dimension": "vision_config.embed_dim"}},
    verified="forward pass",
    reference="transformers/models/qwen2_vl/modeling_qwen2_vl.py and conversion_mapping.py, v5.23",
)

QWEN2_5_VL = FamilySpec(
    name="qwen2_5_vl",
    model_types=("qwen2_5_vl",),
    prefixes=INSIDE,
    patterns=(*TEXT, *_qwen_tower(_MLP)),
    ignored=LLAMA_BUFFERS,
    stack_keys={"vision": _TOWER_KEYS},
    verified="forward pass",
    reference="transformers/models/qwen2_5_vl/modeling_qwen2_5_vl.py and conversion_mapping.py, v5.23",
)

QWEN3_TOWER = _qwen_tower({"mlp.linear_fc1": Group.M1, "mlp.linear_fc2": Group.M2})
QWEN3_TOWER_KEYS = {"vision": _TOWER_KEYS}

QWEN3_VL = FamilySpec(
    name="qwen3_vl",
    model_types=("qwen3_vl",),
    prefixes=INSIDE,
    patterns=(*TEXT, *QWEN3_TOWER),
    ignored=LLAMA_BUFFERS,
    stack_keys=QWEN3_TOWER_KEYS,
    head_norm="{prefix}layers.{layer}.self_attn.q_norm.weight",
    verified="forward pass",
    reference="transformers/models/qwen3_vl/modeling_qwen3_vl.py, v5.23",
)

_INTERNVL = {
    **{f"attention.{name}_proj": Group(name.upper()) for name in "qkv"},
    "attention.projection_layer": Group.O,
    "mlp.fc1": Group.M1,
    "mlp.fc2": Group.M2,
}

# As transformers names it; files with code of their own have other names.
INTERNVL = FamilySpec(
    name="internvl",
    model_types=("internvl",),
    prefixes=INSIDE,
    patterns=(
        *TEXT,
        *(
            pattern
            for container in ("vision_tower.", "model.vision_tower.")
            for pattern in (
                *linears(f"{container}encoder.layer.{{layer}}.", _INTERNVL, stack="vision"),
                matrix(f"{container}embeddings.patch_embeddings.projection.weight", Group.CONV),
                matrix(f"{container}embeddings.position_embeddings", Group.POSITION),
            )
        ),
    ),
    ignored=LLAMA_BUFFERS,
    stack_keys={"vision": nested_sizes("vision_config")},
    verified="modules",
    reference="transformers/models/internvl/modeling_internvl.py and conversion_mapping.py, v5.23",
)

_BERT_ATTENTION = {"self.query": Group.Q, "self.key": Group.K, "self.value": Group.V, "output.dense": Group.O}


def _blip_text(container: str, stack: str) -> tuple[MatrixPattern, ...]:
    """BERT's layers, each of which reads the image too."""
    layer = f"{container}encoder.layer.{{layer}}."
    return (
        *linears(f"{layer}attention.", _BERT_ATTENTION, stack=stack),
        *linears(f"{layer}crossattention.", _BERT_ATTENTION, stack=stack, kind="cross"),
        *linears(layer, {"intermediate.dense": Group.M1, "output.dense": Group.M2}, stack=stack),
        matrix(f"{container}embeddings.word_embeddings.weight", Group.EMBEDDING),
        matrix(f"{container}embeddings.position_embeddings.weight", Group.POSITION),
    )


# In the tower Q, K and V are one. The text is written by a decoder, judged by an encoder, or both.
BLIP = FamilySpec(
    name="blip",
    model_types=("blip",),
    patterns=(
        *_blip_text("text_decoder.bert.", "decoder"),
        *_blip_text("text_encoder.", "encoder"),
        matrix(
            "vision_model.encoder.layers.{layer}.self_attn.qkv.weight",
            Group.QKV,
            layout="contiguous_thirds",
            stack="vision",
        ),
        *linears(
            "vision_model.encoder.layers.{layer}.",
            {"self_attn.projection": Group.O, "mlp.fc1": Group.M1, "mlp.fc2": Group.M2},
            stack="vision",
        ),
        matrix("vision_model.embeddings.patch_embedding.weight", Group.CONV),
        matrix("vision_model.embeddings.position_embedding", Group.POSITION),
        matrix("text_decoder.cls.predictions.decoder.weight", Group.UNEMBEDDING),
    ),
    ignored=(
        *buffers("text_decoder.bert.embeddings.", "position_ids", reason=POSITION_IDS),
        *buffers("text_encoder.embeddings.", "position_ids", reason=POSITION_IDS),
    ),
    stack_keys={
        "decoder": nested_sizes("text_config"),
        "encoder": nested_sizes("text_config"),
        "vision": nested_sizes("vision_config"),
    },
    verified="forward pass",
    reference="transformers/models/blip/modeling_blip.py and modeling_blip_text.py, v5.23",
)
