"""One line a family: its classes, its sizes, where its weights are."""

from math import sqrt

from tests.parity.cases_towers import TOWERS
from tests.parity.models import (
    COMMON,
    FEED_FORWARD,
    GROUPED,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    SIZES,
    WIDE_HEADS,
    Case,
    Paths,
    cases,
)
from tests.parity.text_cases import TEXTS
from tests.parity.towers import TowerCase

_GPT2 = {**COMMON, "n_embd": HIDDEN, "n_head": HEADS, "n_inner": FEED_FORWARD, "n_layer": LAYERS}
_GPT2 |= {"n_positions": 20}
_NARROW = {**SIZES, "embedding_size": 16}

_SELF_ATTENTION = {name: f"self_attn.{name.lower()}_proj" for name in "QKVO"}
_BERT = Paths(
    layers="encoder.layer",
    linears={
        "Q": "attention.self.query",
        "K": "attention.self.key",
        "V": "attention.self.value",
        "O": "attention.output.dense",
        "M1": "intermediate.dense",
        "M2": "output.dense",
    },
)
_LLAMA = Paths(
    layers="layers",
    linears={**_SELF_ATTENTION, "M2": "mlp.down_proj"},
    mlp=("mlp", "act_fn"),
)
_MASKED = {"head": "ForMaskedLM", "others": ("pooler.dense.weight", "cls.predictions.transform.dense.weight")}
_ROBERTA = {"head": "ForMaskedLM", "others": ("pooler.dense.weight", "lm_head.dense.weight")}
_RELATIVE = {
    **SIZES,
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "max_relative_positions": 8,
}

ENCODERS: list[Case] = [
    *cases("bert", "Bert", _BERT, SIZES, **_MASKED),
    *cases("roberta", "Roberta", _BERT, SIZES, **_ROBERTA),
    *cases("xlm-roberta", "XLMRoberta", _BERT, SIZES, **_ROBERTA),
    *cases(
        "distilbert",
        "DistilBert",
        Paths(
            layers="transformer.layer",
            linears={
                **{name: f"attention.{name.lower()}_lin" for name in "QKV"},
                "O": "attention.out_lin",
                "M1": "ffn.lin1",
                "M2": "ffn.lin2",
            },
        ),
        {**COMMON, "dim": HIDDEN, "n_heads": HEADS, "hidden_dim": FEED_FORWARD, "n_layers": LAYERS}
        | {"max_position_embeddings": 20},
        head="ForMaskedLM",
        others=("vocab_transform.weight",),
    ),
    *cases(
        "albert",
        "Albert",
        Paths(
            layers="encoder.albert_layer_groups",
            linears={
                "Q": "albert_layers.0.attention.query",
                "K": "albert_layers.0.attention.key",
                "V": "albert_layers.0.attention.value",
                "O": "albert_layers.0.attention.dense",
                "M1": "albert_layers.0.ffn",
                "M2": "albert_layers.0.ffn_output",
            },
        ),
        {**_NARROW, "num_hidden_layers": 2 * LAYERS, "num_hidden_groups": LAYERS},
        head="ForMaskedLM",
        others=("pooler.weight", "predictions.dense.weight", "embedding_hidden_mapping_in.weight"),
    ),
    *cases(
        "electra",
        "Electra",
        _BERT,
        _NARROW,
        head="ForMaskedLM",
        others=("embeddings_project.weight", "generator_predictions.dense.weight"),
    ),
    *cases(
        "deberta",
        "Deberta",
        Paths(
            layers="encoder.layer",
            qkv="attention.self.in_proj",
            linears={"O": "attention.output.dense", "M1": "intermediate.dense", "M2": "output.dense"},
        ),
        _RELATIVE,
        head="ForMaskedLM",
        others=(*_MASKED["others"], "pos_proj.weight", "pos_q_proj.weight"),
        query_scale=sqrt(3 * HIDDEN / HEADS),
    ),
    *cases(
        "deberta-v2",
        "DebertaV2",
        Paths(
            layers="encoder.layer",
            linears={
                "Q": "attention.self.query_proj",
                "K": "attention.self.key_proj",
                "V": "attention.self.value_proj",
                "O": "attention.output.dense",
                "M1": "intermediate.dense",
                "M2": "output.dense",
            },
        ),
        {**_RELATIVE, "conv_kernel_size": 3},
        head="ForMaskedLM",
        others=(*_MASKED["others"], "pos_key_proj.weight", "pos_query_proj.weight", "conv.conv.weight"),
    ),
    *cases(
        "modernbert",
        "ModernBert",
        Paths(
            layers="layers",
            qkv="attn.Wqkv",
            linears={"O": "attn.Wo", "M2": "mlp.Wo"},
            mlp=("mlp", "act"),
        ),
        {**SIZES, "cls_token_id": 1, "sep_token_id": 2},
        head="ForMaskedLM",
        others=("head.dense.weight",),
    ),
]

_GPT2_MLP = {"M1": "mlp.c_fc", "M2": "mlp.c_proj"}
_GPTJ_MLP = {"M1": "mlp.fc_in", "M2": "mlp.fc_out"}
_C_ATTN = {"qkv": "attn.c_attn", "linears": {"O": "attn.c_proj", **_GPT2_MLP}}
GPT2_NAMES: list[Case] = [
    *cases("gpt2", "GPT2", Paths(layers="h", **_C_ATTN, transposed=True), _GPT2, head="LMHeadModel"),
    *cases("gpt_bigcode", "GPTBigCode", Paths(layers="h", **_C_ATTN), _GPT2, kv_heads=1, variant="_mqa"),
    *cases(
        "gpt_bigcode",
        "GPTBigCode",
        Paths(layers="h", **_C_ATTN),
        {**_GPT2, "multi_query": False},
        variant="_mha",
    ),
    *cases(
        "gptj",
        "GPTJ",
        Paths(
            layers="h",
            linears={
                **{name: f"attn.{name.lower()}_proj" for name in "QKV"},
                "O": "attn.out_proj",
                **_GPTJ_MLP,
            },
        ),
        {**_GPT2, "rotary_dim": 4},
    ),
    *cases(
        "gpt_neo",
        "GPTNeo",
        Paths(
            layers="h",
            linears={
                **{name: f"attn.attention.{name.lower()}_proj" for name in "QKV"},
                "O": "attn.attention.out_proj",
                **_GPT2_MLP,
            },
        ),
        {**COMMON, "hidden_size": HIDDEN, "num_heads": HEADS, "intermediate_size": FEED_FORWARD}
        | {"num_layers": LAYERS, "max_position_embeddings": 20, "attention_types": [[["global"], LAYERS]]},
    ),
    *cases(
        "codegen",
        "CodeGen",
        Paths(layers="h", qkv="attn.qkv_proj", linears={"O": "attn.out_proj", **_GPTJ_MLP}),
        {**_GPT2, "n_head": 4, "rotary_dim": 4},
        kv_heads=4,
    ),
]

_FALCON = Paths(
    layers="h",
    qkv="self_attention.query_key_value",
    linears={"O": "self_attention.dense", "M1": "mlp.dense_h_to_4h", "M2": "mlp.dense_4h_to_h"},
)
_FALCON_SIZES = {key: value for key, value in SIZES.items() if key != "intermediate_size"}
_FALCON_SIZES |= {"ffn_hidden_size": FEED_FORWARD}
INTERLEAVED: list[Case] = [
    *cases(
        "gpt_neox",
        "GPTNeoX",
        Paths(
            layers="layers",
            qkv="attention.query_key_value",
            linears={"O": "attention.dense", "M1": "mlp.dense_h_to_4h", "M2": "mlp.dense_4h_to_h"},
        ),
        SIZES,
    ),
    *cases("bloom", "Bloom", _FALCON, {**COMMON, "hidden_size": HIDDEN, "n_head": HEADS, "n_layer": LAYERS}),
    *cases("falcon", "Falcon", _FALCON, _FALCON_SIZES, variant="_mqa", kv_heads=1),
    *cases("falcon", "Falcon", _FALCON, {**_FALCON_SIZES, "multi_query": False}, variant="_mha"),
    *cases(
        "falcon",
        "Falcon",
        _FALCON,
        {**_FALCON_SIZES, "new_decoder_architecture": True, "num_kv_heads": KV_HEADS},
        variant="_new",
        kv_heads=KV_HEADS,
    ),
    *cases(
        "persimmon",
        "Persimmon",
        Paths(
            layers="layers",
            qkv="self_attn.query_key_value",
            linears={"O": "self_attn.dense", "M1": "mlp.dense_h_to_4h", "M2": "mlp.dense_4h_to_h"},
        ),
        {**SIZES, "qk_layernorm": False},
    ),
]

_Q_K_V = {name: f"self_attn.{name.lower()}_proj" for name in "QKV"}
PLAIN: list[Case] = [
    *cases(
        "opt",
        "OPT",
        Paths(
            layers="decoder.layers",
            linears={**_Q_K_V, "O": "self_attn.out_proj", "M1": "fc1", "M2": "fc2"},
        ),
        {**SIZES, "ffn_dim": FEED_FORWARD, "word_embed_proj_dim": 16},
        others=("project_in.weight", "project_out.weight"),
    ),
    *cases(
        "mpt",
        "Mpt",
        Paths(
            layers="blocks",
            qkv="attn.Wqkv",
            linears={"O": "attn.out_proj", "M1": "ffn.up_proj", "M2": "ffn.down_proj"},
        ),
        {**COMMON, "d_model": HIDDEN, "n_heads": HEADS, "n_layers": LAYERS, "max_seq_len": 20},
    ),
    *cases(
        "phi",
        "Phi",
        Paths(
            layers="layers",
            linears={**_Q_K_V, "O": "self_attn.dense", "M1": "mlp.fc1", "M2": "mlp.fc2"},
        ),
        GROUPED,
    ),
    *cases(
        "nemotron",
        "Nemotron",
        Paths(
            layers="layers",
            linears={**_SELF_ATTENTION, "M1": "mlp.up_proj", "M2": "mlp.down_proj"},
        ),
        WIDE_HEADS,
    ),
    *cases(
        "starcoder2",
        "Starcoder2",
        Paths(layers="layers", linears={**_SELF_ATTENTION, **_GPT2_MLP}),
        WIDE_HEADS,
    ),
]

GATED: list[Case] = [
    *cases("llama", "Llama", _LLAMA, WIDE_HEADS),
    *cases(
        "llama",
        "Llama",
        _LLAMA,
        WIDE_HEADS,
        variant="_answers",
        head="ForQuestionAnswering",
        others=("qa_outputs.weight",),
    ),
    *cases("mistral", "Mistral", _LLAMA, WIDE_HEADS),
    *cases("qwen2", "Qwen2", _LLAMA, WIDE_HEADS),
    *cases("qwen3", "Qwen3", _LLAMA, WIDE_HEADS),
    *cases("gemma", "Gemma", _LLAMA, {**WIDE_HEADS, "num_key_value_heads": 1}),
    *cases("gemma2", "Gemma2", _LLAMA, WIDE_HEADS),
    *cases("gemma3", "Gemma3", _LLAMA, WIDE_HEADS, config="TextConfig", bare="TextModel"),
    *cases("stablelm", "StableLm", _LLAMA, GROUPED),
    *cases("olmo2", "Olmo2", _LLAMA, WIDE_HEADS),
    *cases("cohere2", "Cohere2", _LLAMA, WIDE_HEADS),
    *cases("granite", "Granite", _LLAMA, WIDE_HEADS),
    *cases("smollm3", "SmolLM3", _LLAMA, WIDE_HEADS),
    *cases(
        "phi3",
        "Phi3",
        Paths(
            layers="layers",
            qkv="self_attn.qkv_proj",
            linears={"O": "self_attn.o_proj", "M2": "mlp.down_proj"},
            mlp=("mlp", "activation_fn"),
        ),
        WIDE_HEADS,
        kv_heads=KV_HEADS,
    ),
    *cases(
        "glm4",
        "Glm4",
        Paths(
            layers="layers",
            linears={**_SELF_ATTENTION, "M2": "mlp.down_proj"},
            mlp=("mlp", "activation_fn"),
        ),
        WIDE_HEADS,
    ),
]

CASES: list[Case | TowerCase] = [*ENCODERS, *GPT2_NAMES, *INTERLEAVED, *PLAIN, *GATED, *TOWERS, *TEXTS]
