"""Encoders and decoders that came later, and models put together of two."""

from functools import partial

import transformers as hf

from tests.parity.more_image_cases import IMAGES, SMALL, VISION_SIZES, case, tower
from tests.parity.more_text_cases import BART_SIZES, BART_TOWERS, COMMON, SIZES
from tests.parity.towers import Tower, TowerCase

_ENCODER, _DECODER = BART_TOWERS
_NAMES = {"Q": "query", "K": "key", "V": "value"}
_DENSE = {"M1": "intermediate.dense", "M2": "output.dense"}


def _below(where: str, attention: str) -> tuple[Tower, Tower]:
    encoder = tower(
        f"{where}.encoder.layers",
        {
            **{group: f"self_attn.{attention}.{name}" for group, name in _NAMES.items()},
            "O": "self_attn.output",
        },
        {"M1": "fc1", "M2": "fc2"},
        stack="encoder",
    )
    return encoder, Tower(**{**_DECODER.__dict__, "layers": f"{where}.decoder.layers"})


def _longt5(kind: str) -> tuple[Tower, Tower]:
    encoder, decoder = (
        tower(
            f"{stack}.block",
            {name: f"layer.0.{attention}.{name.lower()}" for name in "QKVO"},
            {"M1": f"layer.{last}.DenseReluDense.wi", "M2": f"layer.{last}.DenseReluDense.wo"},
            stack=stack,
            depth=depth,
        )
        for stack, depth, attention, last in (("encoder", 3, kind, 1), ("decoder", 2, "SelfAttention", 2))
    )
    cross = {name: f"layer.1.EncDecAttention.{name.lower()}" for name in "QKVO"}
    return encoder, Tower(**{**decoder.__dict__, "cross": cross})


_T5_SIZES = {**COMMON, "d_model": 24, "d_kv": 10, "num_heads": 6, "d_ff": 37, "num_layers": 3}
_T5_SIZES |= {"num_decoder_layers": 2}
_VIT = {**IMAGES, **SMALL}
_TROCR = {**COMMON, "d_model": 28, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 41}
_TROCR |= {"max_position_embeddings": 20, "cross_attention_hidden_size": 24}


def reader(decoder: hf.PreTrainedConfig) -> hf.PreTrainedModel:
    """A ViT and what writes about it."""
    config = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(hf.ViTConfig(**_VIT), decoder)
    return hf.VisionEncoderDecoderModel._from_config(config, attn_implementation="eager")


VIT = tower(
    "encoder.layers",
    {name: f"attention.{name.lower()}_proj" for name in "QKVO"},
    {"M1": "mlp.fc1", "M2": "mlp.fc2"},
)
_CLIP = {**{name: f"self_attn.{name.lower()}_proj" for name in "QKV"}, "O": "self_attn.out_proj"}

_BACKBONE = {"embedding_size": 4, "hidden_sizes": [4, 6], "depths": [1, 1], "layer_type": "basic"}
_BACKBONE |= {"out_features": ["stage2"]}
_DETR = {name: size for name, size in BART_SIZES.items() if name not in (*COMMON, "max_position_embeddings")}
_DETR_OUTPUTS = {"M1": "mlp.fc1", "M2": "mlp.fc2"}
_DETR_ATTENTION = {name: f"{name.lower()}_proj" for name in "QKVO"}
_BOXES = (
    *("convolution.weight", "input_projection.weight", "class_labels_classifier.weight"),
    *(f"bbox_predictor.layers.{layer}.weight" for layer in range(3)),
)


def detector(stem: str) -> hf.PreTrainedModel:
    """A small ResNet and what finds things in what it sees."""
    settings = {**_DETR, "num_queries": 5, "backbone_config": hf.ResNetConfig(**_BACKBONE)}
    settings |= {"use_timm_backbone": False, "backbone": None, "use_pretrained_backbone": False}
    config = getattr(hf, f"{stem}Config")(**settings)
    return getattr(hf, f"{stem}ForObjectDetection")._from_config(config, attn_implementation="eager")


def _detr(one: Tower) -> Tower:
    """The same stack by the names that transformers 5 has in memory."""
    attention = {
        kind: {group: f"{module}.{path}" for group, path in _DETR_ATTENTION.items()}
        for kind, module in (("attention", "self_attn"), ("cross", "encoder_attn"))
        if kind == "attention" or one.cross
    }
    return Tower(**{**one.__dict__, **attention, "feed_forward": _DETR_OUTPUTS})


_SWIN = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 4]}
_SWIN |= {"window_size": 2}
_OLD_ATTENTION = {group: f"attention.self.{name}" for group, name in _NAMES.items()}
_OLD_ATTENTION |= {"O": "attention.output.dense"}


def _swin(
    stem: str, kind: str, layers: str, attention: dict[str, str], feed_forward: dict[str, str], *others: str
) -> TowerCase:
    return case(
        "swin",
        stem + kind,
        f"{stem}Config",
        _SWIN,
        tuple(
            tower(
                f"{layers}.{stage}.blocks",
                attention,
                feed_forward,
                stack=f"stage{stage + 1}",
                depth=2 - stage,
            )
            for stage in range(2)
        ),
        *("patch_embeddings.projection.weight", "downsample.reduction.weight", *others),
    )


MORE_PAIRS: list[TowerCase] = [
    *(
        TowerCase(
            name=f"detr_{stem}",
            family="detr",
            build=partial(detector, stem),
            towers=tuple(_detr(one) for one in BART_TOWERS) if stem == "Detr" else BART_TOWERS,
            others=_BOXES,
        )
        for stem in ("Detr", "TableTransformer")
    ),
    _swin(
        "Swin",
        "ForImageClassification",
        "swin.encoder.layers",
        {name: f"attention.{name.lower()}_proj" for name in "QKVO"},
        _DETR_OUTPUTS,
        "classifier.weight",
    ),
    _swin(
        "Swinv2",
        "ForImageClassification",
        "swinv2.encoder.layers",
        _OLD_ATTENTION,
        _DENSE,
        "classifier.weight",
        *(f"continuous_position_bias_mlp.{layer}.weight" for layer in (0, 2)),
    ),
    _swin("DonutSwin", "Model", "encoder.layers", _OLD_ATTENTION, _DENSE),
    case(
        "bart",
        "Speech2TextForConditionalGeneration",
        "Speech2TextConfig",
        {**BART_SIZES, "input_feat_per_channel": 8, "conv_channels": 6}
        | {"max_source_positions": 20, "max_target_positions": 20},
        BART_TOWERS,
        *(f"conv_layers.{layer}.weight" for layer in range(2)),
    ),
    case(
        "led",
        "LEDForConditionalGeneration",
        "LEDConfig",
        {**BART_SIZES, "max_encoder_position_embeddings": 20, "attention_window": 4},
        _below("led", "longformer_self_attn"),
        *(f"{name}_global.weight" for name in _NAMES.values()),
    ),
    case(
        "bigbird_pegasus",
        "BigBirdPegasusForConditionalGeneration",
        "BigBirdPegasusConfig",
        BART_SIZES,
        _below("model", "self"),
    ),
    case(
        "bart",
        "PegasusXForConditionalGeneration",
        "PegasusXConfig",
        BART_SIZES,
        BART_TOWERS,
        "embed_global.weight",
    ),
    case(
        "longt5", "LongT5ForConditionalGeneration", "LongT5Config", _T5_SIZES, _longt5("LocalSelfAttention")
    ),
    case(
        "longt5",
        "LongT5Model",
        "LongT5Config",
        {**_T5_SIZES, "encoder_attention_type": "transient-global"},
        _longt5("TransientGlobalSelfAttention"),
        "global_relative_attention_bias.weight",
    ),
    TowerCase(
        name="vision-encoder-decoder_TrOCR",
        family="vision-encoder-decoder",
        build=partial(reader, hf.TrOCRConfig(**_TROCR)),
        towers=(VIT, Tower(**{**_DECODER.__dict__, "layers": "decoder.model.decoder.layers"})),
        others=("patch_embeddings.projection.weight", "cls_token", "pooler.dense.weight"),
    ),
    case(
        "chinese_clip",
        "ChineseCLIPModel",
        "ChineseCLIPConfig",
        {"text_config": SIZES, "vision_config": VISION_SIZES, "projection_dim": 14},
        (
            tower(
                "text_model.encoder.layer",
                {**{group: f"attention.self.{name}" for group, name in _NAMES.items()}}
                | {"O": "attention.output.dense"},
                _DENSE,
                stack="text",
            ),
            tower("vision_model.encoder.layers", _CLIP, {"M1": "mlp.fc1", "M2": "mlp.fc2"}, depth=2),
        ),
        *("patch_embedding.weight", "text_projection.weight", "visual_projection.weight"),
    ),
]
