"""Encoders of images and pairs of towers that came later."""

from functools import partial

from tests.parity.more_text_cases import SIZES, made
from tests.parity.towers import Tower, TowerCase

IMAGES = {"image_size": 8, "patch_size": 2}
SMALL = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 37}
OTHER = {"hidden_size": 28, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 41}
_VIT = {**IMAGES, **SMALL}
_DRAWING = {f"decoder_{name}": size for name, size in OTHER.items()}
_PATCHES = "patch_embeddings.projection.weight"
_NEW = {name: f"attention.{name.lower()}_proj" for name in "QKVO"}
_OLD = {
    **{
        name: f"attention.attention.{module}"
        for name, module in zip("QKV", ("query", "key", "value"), strict=True)
    },
    "O": "attention.output.dense",
}
_FC = {"M1": "mlp.fc1", "M2": "mlp.fc2"}
_DENSE = {"M1": "intermediate.dense", "M2": "output.dense"}


def tower(layers: str, attention: dict[str, str], feed_forward: dict[str, str], **more: object) -> Tower:
    """A stack of three layers of images, unless something else is said."""
    return Tower(
        **{"stack": "vision", "depth": 3, "layers": layers, "attention": attention}
        | {"feed_forward": feed_forward, **more}
    )


def case(
    family: str, model: str, config: str, sizes: dict[str, object], towers: tuple[Tower, ...], *others: str
) -> TowerCase:
    """A model by the names of its classes."""
    return TowerCase(
        name=f"{family}_{model}",
        family=family,
        build=partial(made, model, config, sizes),
        towers=towers,
        others=others,
    )


_IMAGE_ENCODERS = [
    case(
        "vit",
        "DeiTForImageClassificationWithTeacher",
        "DeiTConfig",
        _VIT,
        (tower("deit.layers", _NEW, _FC),),
        *(
            _PATCHES,
            "cls_token",
            "distillation_token",
            "cls_classifier.weight",
            "distillation_classifier.weight",
        ),
    ),
    case("vit", "ViTMSNModel", "ViTMSNConfig", _VIT, (tower("layers", _NEW, _FC),), _PATCHES, "cls_token"),
    case(
        "beit",
        "BeitForImageClassification",
        "BeitConfig",
        {**_VIT, "use_relative_position_bias": True, "use_absolute_position_embeddings": True},
        (tower("beit.layers", _NEW, _FC),),
        *(_PATCHES, "cls_token", "classifier.weight"),
    ),
    case(
        "beit",
        "Data2VecVisionForImageClassification",
        "Data2VecVisionConfig",
        {**_VIT, "use_shared_relative_position_bias": True},
        (tower("data2vec_vision.encoder.layer", _OLD, _DENSE),),
        *(_PATCHES, "cls_token", "classifier.weight"),
    ),
    case(
        "dinov2",
        "Dinov2ForImageClassification",
        "Dinov2Config",
        {key: size for key, size in _VIT.items() if key != "intermediate_size"},
        (tower("dinov2.encoder.layer", _NEW, _FC),),
        *(_PATCHES, "cls_token", "mask_token", "classifier.weight"),
    ),
    case(
        "dinov2",
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        {key: size for key, size in _VIT.items() if key != "intermediate_size"} | {"use_swiglu_ffn": True},
        (tower("encoder.layer", _NEW, {"M2": "mlp.down_proj"}, gate=("mlp", "act_fn")),),
        *(_PATCHES, "cls_token", "mask_token", "register_tokens"),
    ),
    case(
        "dinov3",
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {**_VIT, "num_register_tokens": 2},
        (tower("model.layer", _NEW, {"M1": "mlp.up_proj", "M2": "mlp.down_proj"}),),
        *("patch_embeddings.weight", "cls_token", "mask_token", "register_tokens"),
    ),
    case(
        "vit_mae",
        "ViTMAEForPreTraining",
        "ViTMAEConfig",
        {**_VIT, **_DRAWING},
        (
            tower("vit.layers", _NEW, _FC),
            tower("decoder.decoder_layers", _NEW, _FC, stack="decoder", depth=2),
        ),
        *(_PATCHES, "cls_token", "mask_token", "decoder_embed.weight", "decoder_pred.weight"),
    ),
    case(
        "videomae",
        "VideoMAEForPreTraining",
        "VideoMAEConfig",
        {**_VIT, **_DRAWING, "num_frames": 2},
        (
            tower("videomae.encoder.layer", _OLD, _DENSE),
            tower("decoder.decoder_layers", _OLD, _DENSE, stack="decoder", depth=2),
        ),
        *(_PATCHES, "mask_token", "encoder_to_decoder.weight", "decoder.head.weight"),
    ),
    case(
        "audio-spectrogram-transformer",
        "ASTForAudioClassification",
        "ASTConfig",
        {
            **SMALL,
            "patch_size": 4,
            "frequency_stride": 4,
            "time_stride": 4,
            "max_length": 16,
            "num_mel_bins": 8,
        },
        (tower("audio_spectrogram_transformer.layers", _NEW, _FC, stack="audio"),),
        *(_PATCHES, "cls_token", "distillation_token", "classifier.dense.weight"),
    ),
]

_CLIP = {
    **{group: f"self_attn.{name}_proj" for group, name in zip("QKV", "qkv", strict=True)},
    "O": "self_attn.out_proj",
}
_TEXT = tower("encoder.layers", _CLIP, _FC, stack="text")
_VISION = tower("encoder.layers", _CLIP, _FC, depth=2)
_TWO = (_TEXT.below("text_model"), _VISION.below("vision_model"))
_HEAD = tuple(
    f"head.{name}"
    for name in (
        "probe",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "mlp.fc1.weight",
        "mlp.fc2.weight",
    )
)
_POOLED = ("patch_embedding.weight", *_HEAD)
_TEXT_SIZES = {key: size for key, size in SIZES.items() if not key.endswith("token_id")}
VISION_SIZES = {**IMAGES, **OTHER}
_SIGLIP2 = {key: size for key, size in VISION_SIZES.items() if key != "image_size"} | {"num_patches": 16}

_SIGLIP = [
    case(
        "clip",
        "SiglipModel",
        "SiglipConfig",
        {"text_config": _TEXT_SIZES, "vision_config": VISION_SIZES},
        _TWO,
        *(*_POOLED, "text_model.head.weight"),
    ),
    case(
        "clip",
        "Siglip2Model",
        "Siglip2Config",
        {"text_config": _TEXT_SIZES, "vision_config": _SIGLIP2},
        _TWO,
        *(*_POOLED, "text_model.head.weight"),
    ),
    case("clip_text", "SiglipTextModel", "SiglipTextConfig", _TEXT_SIZES, (_TEXT,), "head.weight"),
    case("clip_vision", "SiglipVisionModel", "SiglipVisionConfig", VISION_SIZES, (_VISION,), *_POOLED),
]

MORE_IMAGES: list[TowerCase] = [*_IMAGE_ENCODERS, *_SIGLIP]
