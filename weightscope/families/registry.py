"""Every family. To add one, add a literal to a file of `entries/`, name it here, and add a test parameter.

Names were checked against what transformers 5.23 writes and against the Hub's older files.
"""

from difflib import get_close_matches

from weightscope.counting import listed
from weightscope.errors import UnknownFamily
from weightscope.families.entries import (
    bert_names,
    composed,
    encoder_decoders,
    encoders,
    gated_decoders,
    gpt2_names,
    hybrids,
    image_encoders,
    image_text,
    interleaved_decoders,
    latent_decoders,
    long_inputs,
    mixtures,
    plain_decoders,
    remote_decoders,
    sparse_decoders,
    speech,
    state_space,
    vision,
)
from weightscope.families.spec import FamilySpec

_ALL = (
    encoders.BERT,
    encoders.ROBERTA,
    encoders.XLM_ROBERTA,
    encoders.DISTILBERT,
    encoders.ALBERT,
    encoders.ELECTRA,
    encoders.DEBERTA,
    encoders.DEBERTA_V2,
    encoders.MODERNBERT,
    bert_names.MPNET,
    bert_names.ERNIE,
    bert_names.SPLINTER,
    bert_names.LAYOUTLM,
    bert_names.ESM,
    bert_names.LONGFORMER,
    bert_names.REMBERT,
    bert_names.ROFORMER,
    bert_names.XLM,
    bert_names.NOMIC_BERT,
    gpt2_names.GPT2,
    gpt2_names.OPENAI_GPT,
    gpt2_names.GPT_BIGCODE,
    gpt2_names.GPTJ,
    gpt2_names.GPT_NEO,
    gpt2_names.CODEGEN,
    interleaved_decoders.GPT_NEOX,
    interleaved_decoders.GPT_NEOX_JAPANESE,
    interleaved_decoders.BLOOM,
    interleaved_decoders.FALCON,
    interleaved_decoders.PERSIMMON,
    plain_decoders.OPT,
    plain_decoders.XGLM,
    plain_decoders.BIOGPT,
    plain_decoders.CTRL,
    plain_decoders.MPT,
    plain_decoders.PHI,
    plain_decoders.PHI_MSFT,
    plain_decoders.MIXFORMER,
    plain_decoders.NEMOTRON,
    plain_decoders.STARCODER2,
    gated_decoders.LLAMA,
    gated_decoders.MISTRAL,
    gated_decoders.QWEN2,
    gated_decoders.QWEN3,
    gated_decoders.GEMMA,
    gated_decoders.GEMMA2,
    gated_decoders.GEMMA3,
    gated_decoders.STABLELM,
    gated_decoders.OLMO2,
    gated_decoders.COHERE2,
    gated_decoders.GRANITE,
    gated_decoders.SMOLLM3,
    gated_decoders.PHI3,
    gated_decoders.GLM4,
    bert_names.EUROBERT,
    remote_decoders.QWEN,
    remote_decoders.INTERNLM2,
    remote_decoders.BAICHUAN,
    remote_decoders.CHATGLM,
    remote_decoders.CHATGLM2,
    remote_decoders.CONSOLIDATED,
    state_space.MAMBA,
    state_space.RWKV,
    mixtures.MIXTRAL,
    mixtures.QWEN2_MOE,
    mixtures.QWEN3_MOE,
    mixtures.QWEN3_NEXT,
    hybrids.QWEN3_5,
    hybrids.QWEN3_5_MOE,
    mixtures.DBRX,
    mixtures.GPT_OSS,
    mixtures.JAMBA,
    mixtures.LLAMA4,
    latent_decoders.DEEPSEEK_V3,
    sparse_decoders.OLMOE,
    sparse_decoders.GLM4_MOE,
    sparse_decoders.ERNIE4_5_MOE,
    sparse_decoders.GRANITE_MOE,
    sparse_decoders.LFM2,
    hybrids.FALCON_H1,
    hybrids.NEMOTRON_H,
    encoder_decoders.T5,
    encoder_decoders.BART,
    encoder_decoders.MARIAN,
    encoder_decoders.WHISPER,
    long_inputs.LED,
    long_inputs.BIGBIRD_PEGASUS,
    long_inputs.LONGT5,
    speech.WAV2VEC2,
    vision.VIT,
    image_encoders.BEIT,
    image_encoders.DINOV2,
    image_encoders.DINOV3,
    image_encoders.VIT_MAE,
    image_encoders.VIDEOMAE,
    image_encoders.AST,
    image_encoders.SWIN,
    vision.CLIP,
    vision.CLIP_TEXT,
    vision.CLIP_VISION,
    vision.OPEN_CLIP,
    image_text.LLAVA,
    image_text.IDEFICS3,
    image_text.QWEN2_VL,
    image_text.QWEN2_5_VL,
    image_text.QWEN3_VL,
    image_text.INTERNVL,
    image_text.BLIP,
    composed.DETR,
    composed.CHINESE_CLIP,
    composed.VISION_ENCODER_DECODER,
)
# difflib's own default: from here on two names are nearly the same.
_LIKE = 0.6
FAMILIES: dict[str, FamilySpec] = {spec.name: spec for spec in _ALL}
"""Every family by name, in the order in which names are tried."""


def list_families() -> list[str]:
    """Names of the families weightscope knows."""
    return list(FAMILIES)


def get_family(name: str) -> FamilySpec:
    """The family of that name.

    Raises:
        UnknownFamily: There is none.
    """
    if name not in FAMILIES:
        raise UnknownFamily(
            f"The family {name!r} was asked for.",
            _nearest(name),
            "'weightscope families' lists them all; or describe yours in a YAML file and pass its path.",
        )
    return FAMILIES[name]


def _nearest(name: str) -> str:
    """What there is instead of a family that there is not."""
    called = [spec.name for spec in _ALL if name in spec.model_types]
    if called:  # a model_type is easily taken for the family's name
        return f"None is called so; the model_type {name!r} is read by {listed(map(repr, called))}."
    spelled = {known.lower(): known for known in FAMILIES}
    close = get_close_matches(name.lower(), spelled, n=3, cutoff=_LIKE)
    if not close:
        return f"None of the {len(FAMILIES)} families is called so, or nearly so."
    return f"None is called so; did you mean {listed((repr(spelled[one]) for one in close), 'or')}?"
