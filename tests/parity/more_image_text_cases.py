"""Models that read images and write text."""

from tests.parity.more_image_cases import VISION_SIZES, case, tower
from tests.parity.more_text_cases import ATTENTION, GROUPED, SIZES, WIDE_HEADS
from tests.parity.towers import TowerCase

_GATED = {"M2": "mlp.down_proj"}
_FC = {"M1": "mlp.fc1", "M2": "mlp.fc2"}
_TEXT = tower("language_model.layers", ATTENTION, _GATED, stack="decoder", gate=("mlp", "act_fn"))
_CLIP_ATTENTION = {
    **{name: path for name, path in ATTENTION.items() if name != "O"},
    "O": "self_attn.out_proj",
}
_CLIP = tower("vision_tower.encoder.layers", _CLIP_ATTENTION, _FC, depth=2)
_PIXTRAL = tower(
    "vision_tower.transformer.layers",
    {name: f"attention.{name.lower()}_proj" for name in "QKVO"},
    {"M2": "feed_forward.down_proj"},
    depth=2,
    gate=("feed_forward", "act_fn"),
)
_LINEARS = ("projector.linear_1.weight", "projector.linear_2.weight")
_POOLED = tuple(
    f"vision_tower.head.{name}"
    for name in (
        "probe",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "mlp.fc1.weight",
        "mlp.fc2.weight",
    )
)


def _llava(stem: str, text: str, vision: str, tower_of_vision, *others: str, **sizes: object) -> TowerCase:
    return case(
        "llava",
        f"{stem}ForConditionalGeneration",
        f"{stem}Config",
        {
            "text_config": {**WIDE_HEADS, "model_type": text},
            "vision_config": {**VISION_SIZES, "model_type": vision, **sizes},
        },
        tuple(one.below("model") for one in (_TEXT, tower_of_vision)),
        *others,
    )


_QWEN = {"hidden_size": 16, "depth": 2, "num_heads": 4, "patch_size": 2}


def _qwen(
    stem: str, vision: dict[str, object], feed_forward: dict[str, str], *others: str, gated=False
) -> TowerCase:
    more = {"gate": ("mlp", "act_fn")} if gated else {}
    tower_of_vision = tower(
        "visual.blocks",
        {"O": "attn.proj"},
        feed_forward,
        depth=2,
        fused=("attn", "qkv"),
        **more,
    )
    return case(
        stem.lower().replace("vl", "_vl").replace("__", "_"),
        f"{stem}ForConditionalGeneration",
        f"{stem}Config",
        {"text_config": WIDE_HEADS if stem == "Qwen3VL" else GROUPED, "vision_config": {**_QWEN, **vision}},
        tuple(one.below("model") for one in (_TEXT, tower_of_vision)),
        *("patch_embed.proj.weight", *others),
    )


_MERGED = ("merger.mlp.0.weight", "merger.mlp.2.weight")
_BERT = {"Q": "self.query", "K": "self.key", "V": "self.value", "O": "output.dense"}
_BLIP_TEXT = tower(
    "encoder.layer",
    {group: f"attention.{path}" for group, path in _BERT.items()},
    {"M1": "intermediate.dense", "M2": "output.dense"},
    cross={group: f"crossattention.{path}" for group, path in _BERT.items()},
)
_BLIP_VISION = tower(
    "vision_model.encoder.layers",
    {"O": "self_attn.projection"},
    _FC,
    depth=2,
    fused=("self_attn", "qkv"),
)
_BLIP = {"text_config": SIZES, "vision_config": VISION_SIZES, "image_text_hidden_size": 14}


def _stack(where: str, stack: str):
    return type(_BLIP_TEXT)(**{**_BLIP_TEXT.below(where).__dict__, "stack": stack})


MORE_IMAGE_TEXTS: list[TowerCase] = [
    _llava("Llava", "llama", "clip_vision_model", _CLIP, *_LINEARS, "patch_embedding.weight"),
    _llava("Llava", "mistral", "pixtral", _PIXTRAL, *_LINEARS, "patch_conv.weight", hidden_size=32),
    _llava("LlavaNext", "mistral", "clip_vision_model", _CLIP, *_LINEARS, "patch_embedding.weight"),
    _llava("VipLlava", "llama", "clip_vision_model", _CLIP, *_LINEARS, "patch_embedding.weight"),
    _llava(
        "LlavaOnevision", "qwen2", "siglip_vision_model", _CLIP, *_LINEARS, *_POOLED, "patch_embedding.weight"
    ),
    _llava(
        "PaliGemma",
        "gemma",
        "siglip_vision_model",
        _CLIP,
        "projector.linear.weight",
        *_POOLED,
        "patch_embedding.weight",
    ),
    _llava(
        "Mistral3",
        "mistral",
        "pixtral",
        _PIXTRAL,
        *_LINEARS,
        "patch_conv.weight",
        "merging_layer.weight",
        hidden_size=32,
    ),
    *(
        case(
            "idefics3",
            f"{stem}ForConditionalGeneration",
            f"{stem}Config",
            {"text_config": {**WIDE_HEADS, "model_type": "llama"}, "vision_config": VISION_SIZES},
            (
                tower("model.text_model.layers", ATTENTION, _GATED, stack="decoder", gate=("mlp", "act_fn")),
                tower("model.vision_model.encoder.layers", _CLIP_ATTENTION, _FC, depth=2),
            ),
            *("patch_embedding.weight", "modality_projection.proj.weight"),
        )
        for stem in ("Idefics3", "SmolVLM")
    ),
    _qwen("Qwen2VL", {"embed_dim": 16, "hidden_size": 24, "mlp_ratio": 3}, _FC, *_MERGED),
    _qwen("Qwen2_5_VL", {"out_hidden_size": 24, "intermediate_size": 41}, _GATED, *_MERGED, gated=True),
    _qwen(
        "Qwen3VL",
        {"out_hidden_size": 24, "intermediate_size": 41, "num_position_embeddings": 16}
        | {"deepstack_visual_indexes": [0]},
        {"M1": "mlp.linear_fc1", "M2": "mlp.linear_fc2"},
        *("merger.linear_fc1.weight", "merger.linear_fc2.weight"),
        *("deepstack_merger_list.0.linear_fc1.weight", "deepstack_merger_list.0.linear_fc2.weight"),
    ),
    case(
        "internvl",
        "InternVLForConditionalGeneration",
        "InternVLConfig",
        {
            "text_config": {**WIDE_HEADS, "model_type": "qwen2"},
            "vision_config": {**VISION_SIZES, "image_size": [8, 8], "patch_size": [2, 2]},
        },
        (
            _TEXT.below("model"),
            tower(
                "model.vision_tower.encoder.layer",
                {**{n: f"attention.{n.lower()}_proj" for n in "QKV"}, "O": "attention.projection_layer"},
                _FC,
                depth=2,
            ),
        ),
        *(*_LINEARS, "patch_embeddings.projection.weight", "cls_token"),
    ),
    case(
        "blip",
        "BlipForConditionalGeneration",
        "BlipConfig",
        _BLIP,
        (_stack("text_decoder.bert", "decoder"), _BLIP_VISION),
        *("patch_embedding.weight", "class_embedding", "predictions.transform.dense.weight"),
    ),
    case(
        "blip",
        "BlipForImageTextRetrieval",
        "BlipConfig",
        _BLIP,
        (_stack("text_encoder", "encoder"), _BLIP_VISION),
        *(
            "patch_embedding.weight",
            "class_embedding",
            "itm_head.weight",
            "text_proj.weight",
            "vision_proj.weight",
        ),
    ),
]
