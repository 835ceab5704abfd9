"""Model types of text that came later, most with the names of another: one model each, with its head."""

from functools import partial

import transformers as hf

from tests.parity.models import (
    COMMON,
    FEED_FORWARD,
    GROUPED,
    HEADS,
    HIDDEN,
    LAYERS,
    SIZES,
    VOCABULARY,
    WIDE_HEADS,
    Case,
    Paths,
    cases,
)
from tests.parity.towers import Tower, TowerCase

Q_K_V = {name: f"self_attn.{name.lower()}_proj" for name in "QKV"}
ATTENTION = {**Q_K_V, "O": "self_attn.o_proj"}
LLAMA = Paths(layers="layers", linears={**ATTENTION, "M2": "mlp.down_proj"}, mlp=("mlp", "act_fn"))
NOT_GATED = Paths(layers="layers", linears={**ATTENTION, "M1": "mlp.up_proj", "M2": "mlp.down_proj"})
OPT = Paths(layers="layers", linears={**Q_K_V, "O": "self_attn.out_proj", "M1": "fc1", "M2": "fc2"})


def one(family: str, stem: str, paths: Paths, sizes: dict[str, object], **settings: object) -> Case:
    """The model with a head."""
    return cases(family, stem, paths, sizes, variant=f"_{stem}", **settings)[0]


LIKE_LLAMA = [
    one("llama", "Olmo", LLAMA, GROUPED),
    one("llama", "Ministral", LLAMA, WIDE_HEADS),
    one("llama", "Ministral3", LLAMA, WIDE_HEADS),
    one("llama", "SeedOss", LLAMA, WIDE_HEADS),
    one("llama", "Ernie4_5", LLAMA, WIDE_HEADS),
    one("llama", "HunYuanDenseV1", LLAMA, WIDE_HEADS),
    one("llama", "Helium", LLAMA, {**GROUPED, "head_dim": HIDDEN // HEADS}),
    one("llama", "HyperCLOVAX", LLAMA, WIDE_HEADS),
    one("qwen3", "Exaone4", LLAMA, WIDE_HEADS),
    one("gemma2", "VaultGemma", LLAMA, WIDE_HEADS),
    one("olmo2", "Olmo3", LLAMA, GROUPED),
    one(
        "llama",
        "Cohere",
        LLAMA,
        {**GROUPED, "use_qk_norm": True},
        others=("q_norm.weight", "k_norm.weight"),
    ),
    one(
        "glm4",
        "Glm",
        Paths(layers="layers", linears={**ATTENTION, "M2": "mlp.down_proj"}, mlp=("mlp", "activation_fn")),
        WIDE_HEADS,
    ),
    one("nemotron", "Arcee", NOT_GATED, WIDE_HEADS),
    one("nemotron", "Apertus", NOT_GATED, WIDE_HEADS),
]
OTHER_DECODERS = [
    one(
        "gpt_neox_japanese",
        "GPTNeoXJapanese",
        Paths(
            layers="layers",
            qkv="attention.query_key_value",
            linears={"O": "attention.dense", "M1": "mlp.dense_h_to_4h", "M2": "mlp.dense_4h_to_h"},
        ),
        {name: size for name, size in SIZES.items() if name != "intermediate_size"},
    ),
    one(
        "xglm",
        "XGLM",
        OPT,
        {**COMMON, "d_model": HIDDEN, "attention_heads": HEADS, "ffn_dim": FEED_FORWARD}
        | {"num_layers": LAYERS, "max_position_embeddings": 20},
    ),
    one("biogpt", "BioGpt", OPT, SIZES),
    one(
        "ctrl",
        "CTRL",
        Paths(
            layers="h",
            linears={
                **{name: f"multi_head_attention.W{name.lower()}" for name in "QKV"},
                "O": "multi_head_attention.dense",
                "M1": "ffn.0",
                "M2": "ffn.2",
            },
        ),
        {**COMMON, "n_embd": HIDDEN, "n_head": HEADS, "dff": FEED_FORWARD, "n_layer": LAYERS}
        | {"n_positions": 20},
        head="LMHeadModel",
    ),
]

_PROJECTIONS = {"Q": "q_proj", "K": "k_proj", "V": "v_proj", "O": "out_proj"}
BART_SIZES = {
    **COMMON,
    "d_model": 24,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 37,
    "decoder_ffn_dim": 41,
    "max_position_embeddings": 20,
}
BART_TOWERS = tuple(
    Tower(
        stack=stack,
        layers=f"model.{stack}.layers",
        depth=depth,
        attention={group: f"self_attn.{name}" for group, name in _PROJECTIONS.items()},
        cross={group: f"encoder_attn.{name}" for group, name in _PROJECTIONS.items()} if depth == 2 else {},
        feed_forward={"M1": "fc1", "M2": "fc2"},
    )
    for stack, depth in (("encoder", 3), ("decoder", 2))
)


def made(model: str, config: str, sizes: dict[str, object]) -> hf.PreTrainedModel:
    """A model by the names of its classes."""
    settings = getattr(hf, config)(**sizes)
    return getattr(hf, model)._from_config(settings, attn_implementation="eager")


def _bart(family: str, model: str, config: str, **sizes: object) -> TowerCase:
    variant = "_two_embeddings" if sizes else ""
    return TowerCase(
        name=f"{family}_{model}{variant}",
        family=family,
        build=partial(made, model, config, {**BART_SIZES, **sizes}),
        towers=BART_TOWERS,
    )


LIKE_BART = [
    *(
        _bart("bart", f"{stem}ForConditionalGeneration", f"{stem}Config")
        for stem in ("MBart", "PLBart", "Pegasus", "Blenderbot", "BlenderbotSmall", "M2M100")
    ),
    _bart("marian", "MarianMTModel", "MarianConfig"),
    _bart(
        "marian",
        "MarianMTModel",
        "MarianConfig",
        share_encoder_decoder_embeddings=False,
        tie_word_embeddings=False,
        decoder_vocab_size=VOCABULARY,
    ),
]

MORE_TEXTS: list[Case | TowerCase] = [*LIKE_LLAMA, *OTHER_DECODERS, *LIKE_BART]
