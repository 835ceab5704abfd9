"""Encoders of speech that came later."""

from tests.parity.more_image_cases import SMALL, case, tower
from tests.parity.towers import TowerCase

_SIZES = {
    **SMALL,
    "conv_dim": (8, 8),
    "conv_kernel": (3, 3),
    "conv_stride": (2, 2),
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 31,
}
_CONVOLUTIONS = (
    "conv_layers.0.conv.weight",
    "conv_layers.1.conv.weight",
    "feature_projection.projection.weight",
)
_NORMED = "parametrizations.weight.original1"
_ATTENTION = {**{name: f"attention.{name.lower()}_proj" for name in "QKV"}, "O": "attention.out_proj"}
_FEED_FORWARD = {"M1": "feed_forward.intermediate_dense", "M2": "feed_forward.output_dense"}


def _speech(stem: str, model: str, prefix: str, *others: str, **sizes: object) -> TowerCase:
    return case(
        "wav2vec2",
        stem + model,
        f"{stem}Config",
        {**_SIZES, **sizes},
        (tower(f"{prefix}.encoder.layers", _ATTENTION, _FEED_FORWARD, stack="encoder"),),
        *(*_CONVOLUTIONS, *others),
    )


MORE_SPEECH: list[TowerCase] = [
    _speech("Wav2Vec2", "ForCTC", "wav2vec2", "lm_head.weight", _NORMED),
    _speech(
        "Wav2Vec2",
        "ForPreTraining",
        "wav2vec2",
        *("project_hid.weight", "project_q.weight", "quantizer.codevectors", "quantizer.weight_proj.weight"),
        _NORMED,
        num_codevectors_per_group=4,
        codevector_dim=6,
        proj_codevector_dim=6,
    ),
    _speech("Hubert", "ForCTC", "hubert", "lm_head.weight", _NORMED),
    _speech("WavLM", "ForCTC", "wavlm", "lm_head.weight", "gru_rel_pos_linear.weight", _NORMED),
    _speech("UniSpeech", "ForCTC", "unispeech", "lm_head.weight", _NORMED),
    _speech("UniSpeechSat", "ForCTC", "unispeech_sat", "lm_head.weight", _NORMED),
    _speech(
        "Data2VecAudio",
        "ForCTC",
        "data2vec_audio",
        "lm_head.weight",
        *(f"pos_conv_embed.layers.{layer}.conv.weight" for layer in range(2)),
        num_conv_pos_embeddings=2,
        conv_pos_kernel_size=3,
    ),
]
