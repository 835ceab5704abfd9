"""Encoder-decoder and vision families: every stack has a depth, a width and heads of its own where it may."""

from collections.abc import Mapping
from functools import partial

import transformers as hf

from tests.parity.towers import Tower, TowerCase

_COMMON = {"vocab_size": 31, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}


def _cases(
    family: str,
    config: hf.PreTrainedConfig,
    classes: Mapping[str, tuple[str, tuple[Tower, ...]]],
    others: tuple[str, ...] = (),
    variant: str = "",
) -> list[TowerCase]:
    """One case a class: what it is to the test, its name and its towers."""

    def made(name: str) -> hf.PreTrainedModel:
        return getattr(hf, name)._from_config(config, attn_implementation="eager")

    return [
        TowerCase(
            name=f"{family}{variant}_{kind}",
            family=family,
            build=partial(made, name),
            towers=towers,
            others=others,
        )
        for kind, (name, towers) in classes.items()
    ]


def _t5(*, gated: bool) -> tuple[Tower, Tower]:
    def tower(stack: str, depth: int, last: int) -> Tower:
        mlp = f"layer.{last}.DenseReluDense"
        return Tower(
            stack=stack,
            layers=f"{stack}.block",
            depth=depth,
            attention={name: f"layer.0.SelfAttention.{name.lower()}" for name in "QKVO"},
            cross={name: f"layer.1.EncDecAttention.{name.lower()}" for name in "QKVO"} if last == 2 else {},
            feed_forward={"M2": f"{mlp}.wo"} if gated else {"M1": f"{mlp}.wi", "M2": f"{mlp}.wo"},
            gate=(mlp, "act") if gated else ("", ""),
        )

    return tower("encoder", 3, 1), tower("decoder", 2, 2)


_T5_SIZES = {
    **_COMMON,
    "d_model": 24,
    "d_kv": 10,
    "num_heads": 6,
    "d_ff": 37,
    "num_layers": 3,
    "num_decoder_layers": 2,
}
_GATED = {**_T5_SIZES, "feed_forward_proj": "gated-gelu"}
_T5_HEAD = ("classification_head.dense.weight", "classification_head.out_proj.weight")
_T5, _T5_GATED = _t5(gated=False), _t5(gated=True)

_BART_SIZES = {
    **_COMMON,
    "d_model": 24,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 37,
    "decoder_ffn_dim": 41,
}
_PROJECTIONS = {"Q": "q_proj", "K": "k_proj", "V": "v_proj", "O": "out_proj"}
_SELF_ATTENTION = {group: f"self_attn.{name}" for group, name in _PROJECTIONS.items()}
_ENCODER, _DECODER = (
    Tower(
        stack=stack,
        layers=f"{stack}.layers",
        depth=depth,
        attention=_SELF_ATTENTION,
        cross={group: f"encoder_attn.{name}" for group, name in _PROJECTIONS.items()} if depth == 2 else {},
        feed_forward={"M1": "fc1", "M2": "fc2"},
    )
    for stack, depth in (("encoder", 3), ("decoder", 2))
)
_BART = (_ENCODER, _DECODER)
_IN_MODEL = tuple(tower.below("model") for tower in _BART)
_WHISPER_SIZES = {**_BART_SIZES, "num_mel_bins": 7, "max_source_positions": 9, "max_target_positions": 8}

ENCODER_DECODERS = [
    *_cases(
        "t5",
        hf.T5Config(**_T5_SIZES),
        {
            "with_head": ("T5ForConditionalGeneration", _T5),
            "bare": ("T5Model", _T5),
            "encoder": ("T5EncoderModel", _T5[:1]),
            "classifier": ("T5ForSequenceClassification", tuple(t.below("transformer") for t in _T5)),
        },
        others=_T5_HEAD,
    ),
    *_cases(
        "t5",
        hf.T5Config(**_GATED),
        {
            "with_head": ("T5ForConditionalGeneration", _T5_GATED),
            "bare": ("T5Model", _T5_GATED),
            "encoder": ("T5EncoderModel", _T5_GATED[:1]),
        },
        variant="_gated",
    ),
    *_cases(
        "t5", hf.MT5Config(**_GATED), {"head": ("MT5ForConditionalGeneration", _T5_GATED)}, variant="_mt5"
    ),
    *_cases(
        "t5", hf.UMT5Config(**_GATED), {"head": ("UMT5ForConditionalGeneration", _T5_GATED)}, variant="_umt5"
    ),
    *_cases(
        "bart",
        hf.BartConfig(**_BART_SIZES, max_position_embeddings=20),
        {
            "with_head": ("BartForConditionalGeneration", _IN_MODEL),
            "bare": ("BartModel", _BART),
            "classifier": ("BartForSequenceClassification", _IN_MODEL),
            "decoder": ("BartForCausalLM", _IN_MODEL[1:]),
        },
        others=_T5_HEAD,
    ),
    *_cases(
        "whisper",
        hf.WhisperConfig(**_WHISPER_SIZES, decoder_start_token_id=0),
        {
            "with_head": ("WhisperForConditionalGeneration", _IN_MODEL),
            "bare": ("WhisperModel", _BART),
            "encoder": ("WhisperForAudioClassification", _BART[:1]),
            "decoder": ("WhisperForCausalLM", _IN_MODEL[1:]),
        },
        others=("encoder.conv1.weight", "encoder.conv2.weight", "projector.weight", "classifier.weight"),
    ),
]

_VIT = Tower(
    stack="vision",
    layers="layers",
    depth=3,
    attention={name: f"attention.{name.lower()}_proj" for name in "QKVO"},
    feed_forward={"M1": "mlp.fc1", "M2": "mlp.fc2"},
)
_IMAGES = {"image_size": 8, "patch_size": 2}
_TEXT_SIZES = {
    **_COMMON,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "intermediate_size": 37,
    "max_position_embeddings": 20,
}
_VISION_SIZES = {
    **_IMAGES,
    "hidden_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 41,
}
_TEXT, _VISION = (
    Tower(
        stack=stack,
        layers="encoder.layers",
        depth=depth,
        attention=_SELF_ATTENTION,
        feed_forward={"M1": "mlp.fc1", "M2": "mlp.fc2"},
    )
    for stack, depth in (("text", 3), ("vision", 2))
)
_CLIP_TEXT = {**_TEXT_SIZES, "projection_dim": 14}
_CLIP_VISION = {**_VISION_SIZES, "projection_dim": 14}
_PROJECTED = ("text_projection.weight", "visual_projection.weight", "patch_embedding.weight")
_GEMMA = Tower(
    stack="decoder",
    layers="language_model.layers",
    depth=3,
    attention={name: f"self_attn.{name.lower()}_proj" for name in "QKVO"},
    feed_forward={"M2": "mlp.down_proj"},
    gate=("mlp", "act_fn"),
)
_GEMMA3 = (_GEMMA, _VISION.below("vision_tower"))

VISION = [
    *_cases(
        "vit",
        hf.ViTConfig(
            **_IMAGES, hidden_size=24, num_hidden_layers=3, num_attention_heads=6, intermediate_size=37
        ),
        {
            "with_head": ("ViTForImageClassification", (_VIT.below("vit"),)),
            "bare": ("ViTModel", (_VIT,)),
            "masked": ("ViTForMaskedImageModeling", (_VIT.below("vit"),)),
        },
        others=(
            "patch_embeddings.projection.weight",
            "cls_token",
            "mask_token",
            "classifier.weight",
            "pooler.dense.weight",
            "decoder.0.weight",
        ),
    ),
    *_cases(
        "clip",
        hf.CLIPConfig(text_config=_CLIP_TEXT, vision_config=_CLIP_VISION, projection_dim=14),
        {
            "with_head": ("CLIPModel", (_TEXT.below("text_model"), _VISION.below("vision_model"))),
            "classifier": ("CLIPForImageClassification", (_VISION.below("vision_model"),)),
        },
        others=(*_PROJECTED, "classifier.weight"),
    ),
    *_cases(
        "clip_text",
        hf.CLIPTextConfig(**_CLIP_TEXT),
        {
            "with_head": ("CLIPTextModelWithProjection", (_TEXT.below("text_model"),)),
            "bare": ("CLIPTextModel", (_TEXT,)),
        },
        others=_PROJECTED,
    ),
    *_cases(
        "clip_vision",
        hf.CLIPVisionConfig(**_CLIP_VISION),
        {
            "with_head": ("CLIPVisionModelWithProjection", (_VISION.below("vision_model"),)),
            "bare": ("CLIPVisionModel", (_VISION,)),
        },
        others=_PROJECTED,
    ),
    *_cases(
        "gemma3",
        hf.Gemma3Config(
            text_config={**_TEXT_SIZES, "num_key_value_heads": 2, "head_dim": 10},
            vision_config=_VISION_SIZES,
            mm_tokens_per_image=4,
        ),
        {
            "with_head": ("Gemma3ForConditionalGeneration", tuple(t.below("model") for t in _GEMMA3)),
            "bare": ("Gemma3Model", _GEMMA3),
        },
        others=(
            "patch_embedding.weight",
            "mm_input_projection_weight",
            *(
                f"vision_tower.head.{name}"
                for name in (
                    "probe",
                    "attention.in_proj_weight",
                    "attention.out_proj.weight",
                    "mlp.fc1.weight",
                    "mlp.fc2.weight",
                )
            ),
        ),
        variant="_vision",
    ),
]

TOWERS = [*ENCODER_DECODERS, *VISION]
