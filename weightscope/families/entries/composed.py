"""Models put together of two others."""

from weightscope.families.entries.encoder_decoders import BART_KEYS
from weightscope.families.entries.encoders import OUTPUTS
from weightscope.families.entries.image_encoders import swin_stages
from weightscope.families.entries.shorthand import POSITION_IDS, buffers, linears, matrix, nested_sizes
from weightscope.families.entries.vision import NEW_LAYER, VIT_LAYER, vision_tower
from weightscope.families.spec import FamilySpec, Group, MatrixPattern

_BART = {"q_proj": Group.Q, "k_proj": Group.K, "v_proj": Group.V, "out_proj": Group.O}
_LAYER = "decoder.model.decoder.layers.{layer}."
_H = "decoder.transformer.h.{layer}."

# A ViT or, in Donut, a Swin, and a decoder that is TrOCR's or mBART's, or GPT-2, stored transposed.
VISION_ENCODER_DECODER = FamilySpec(
    name="vision-encoder-decoder",
    model_types=("vision-encoder-decoder",),
    patterns=(
        *linears("encoder.encoder.layer.{layer}.", VIT_LAYER, stack="vision"),
        *linears("encoder.layers.{layer}.", NEW_LAYER, stack="vision"),
        *swin_stages("encoder."),
        matrix("encoder.embeddings.patch_embeddings.projection.weight", Group.CONV),
        matrix("encoder.embeddings.position_embeddings", Group.POSITION),
        *linears(f"{_LAYER}self_attn.", _BART),
        *linears(f"{_LAYER}encoder_attn.", _BART, kind="cross"),
        *linears(_LAYER, {"fc1": Group.M1, "fc2": Group.M2}),
        *linears(
            "decoder.",
            {
                "model.decoder.embed_tokens": Group.EMBEDDING,
                "model.decoder.embed_positions": Group.POSITION,
                "output_projection": Group.UNEMBEDDING,
                "lm_head": Group.UNEMBEDDING,
                "transformer.wte": Group.EMBEDDING,
                "transformer.wpe": Group.POSITION,
            },
        ),
        matrix(
            f"{_H}attn.c_attn.weight", Group.QKV, transposed=True, layout="contiguous_thirds", optional=True
        ),
        matrix(
            f"{_H}crossattention.c_attn.weight",
            Group.K,
            transposed=True,
            layout="key_then_value",
            kind="cross",
            optional=True,
        ),
        *(
            matrix(f"{_H}{name}.weight", group, transposed=True, optional=True)
            for name, group in (
                ("attn.c_proj", Group.O),
                ("mlp.c_fc", Group.M1),
                ("mlp.c_proj", Group.M2),
            )
        ),
        *(
            matrix(f"{_H}crossattention.{name}.weight", group, transposed=True, kind="cross", optional=True)
            for name, group in (("q_attn", Group.Q), ("c_proj", Group.O))
        ),
    ),
    ignored=(
        *buffers(f"{_H}attn.", "bias", "masked_bias", reason="causal mask kept as a buffer"),
        *buffers(f"{_H}crossattention.", "bias", "masked_bias", reason="causal mask kept as a buffer"),
    ),
    stack_keys={
        "vision": nested_sizes("encoder"),  # of a Swin nothing: its stages have other names
        "decoder": {
            **nested_sizes("decoder"),
            "layers": ("decoder.decoder_layers", "decoder.n_layer"),
            "heads": ("decoder.decoder_attention_heads", "decoder.n_head"),
            "kv_heads": "",
            "model_dimension": ("decoder.d_model", "decoder.n_embd"),
            "feed_forward_dimension": ("decoder.decoder_ffn_dim", "decoder.n_inner"),
        },
    },
    verified="forward pass",
    reference="transformers/models/vision_encoder_decoder/modeling_vision_encoder_decoder.py, "
    "trocr, mbart and gpt2, v5.23",
)

# BERT beside CLIP's tower of vision.
CHINESE_CLIP = FamilySpec(
    name="chinese_clip",
    model_types=("chinese_clip",),
    patterns=(
        *linears(
            "text_model.encoder.layer.{layer}.",
            {
                "attention.self.query": Group.Q,
                "attention.self.key": Group.K,
                "attention.self.value": Group.V,
                **OUTPUTS,
            },
        ),
        *linears(
            "text_model.embeddings.",
            {
                "word_embeddings": Group.EMBEDDING,
                "token_type_embeddings": Group.EMBEDDING,
                "position_embeddings": Group.POSITION,
            },
        ),
        *vision_tower("vision_model."),
    ),
    ignored=(
        *buffers("text_model.embeddings.", "position_ids", reason=POSITION_IDS),
        *buffers("vision_model.embeddings.", "position_ids", reason=POSITION_IDS),
    ),
    stack="text",
    stack_keys={"text": nested_sizes("text_config"), "vision": nested_sizes("vision_config")},
    verified="modules",
    reference="transformers/models/chinese_clip/modeling_chinese_clip.py, v5.23",
)

_NEW_NAMES = {"q_proj": Group.Q, "k_proj": Group.K, "v_proj": Group.V, "o_proj": Group.O, "out_proj": Group.O}


def _detr_layers(stack: str) -> tuple[MatrixPattern, ...]:
    layer = f"{{prefix}}{stack}.layers.{{layer}}."
    outputs = {"fc1": Group.M1, "fc2": Group.M2, "mlp.fc1": Group.M1, "mlp.fc2": Group.M2}
    return (
        *linears(f"{layer}self_attn.", _NEW_NAMES, stack=stack),
        *linears(layer, outputs, stack=stack),
    )


# BART's layers behind a network of convolutions, which are conv. In memory transformers 5 has other names.
DETR = FamilySpec(
    name="detr",
    model_types=("detr", "table-transformer"),
    prefixes=("model.", ""),
    patterns=(
        *_detr_layers("encoder"),
        *_detr_layers("decoder"),
        *linears("{prefix}decoder.layers.{layer}.encoder_attn.", _NEW_NAMES, stack="decoder", kind="cross"),
        matrix("{prefix}query_position_embeddings.weight", Group.POSITION),
        matrix("{prefix}input_projection.weight", Group.CONV),
    ),
    stack="encoder",
    stack_keys=BART_KEYS,
    verified="modules",
    reference="transformers/models/detr/modeling_detr.py, table_transformer and conversion_mapping.py, v5.23",
)
