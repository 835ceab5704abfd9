"""A config that contradicts the shapes, or leaves open what they do not tell, is an error."""

from dataclasses import replace

import pytest
import torch

import weightscope
from tests.factories import write_checkpoint
from weightscope.errors import FamilyMismatch
from weightscope.families.registry import FAMILIES
from weightscope.families.spec import Group

D, HEADS, KV, HEAD, INNER = 24, 6, 2, 10, 37


def apart(layer="model.layers.0."):
    """LLaMA's names: six query heads of ten rows, two of keys and values."""
    shapes = {
        "self_attn.q_proj": (HEADS * HEAD, D), "self_attn.k_proj": (KV * HEAD, D),
        "self_attn.v_proj": (KV * HEAD, D), "self_attn.o_proj": (D, HEADS * HEAD),
        "mlp.gate_proj": (INNER, D), "mlp.up_proj": (INNER, D), "mlp.down_proj": (D, INNER),
    }  # fmt: skip
    return {f"{layer}{name}.weight": torch.randn(shape) for name, shape in shapes.items()}


def fused(qkv, rows, output, read=D):
    return {f"{qkv}.weight": torch.randn(rows, D), f"{output}.weight": torch.randn(D, read)}


PHI3 = fused("model.layers.0.self_attn.qkv_proj", (HEADS + 2 * KV) * HEAD,
             "model.layers.0.self_attn.o_proj", HEADS * HEAD)  # fmt: skip
NEOX = fused("gpt_neox.layers.0.attention.query_key_value", 3 * D, "gpt_neox.layers.0.attention.dense")
FALCON_MHA = fused("h.0.self_attention.query_key_value", 3 * D, "h.0.self_attention.dense")
CODEGEN = fused("h.0.attn.qkv_proj", 3 * D, "h.0.attn.out_proj")
BIGCODE = fused("h.0.attn.c_attn", 3 * D, "h.0.attn.c_proj")
GPT2 = {"h.0.attn.c_attn.weight": torch.randn(D, 3 * D), "h.0.attn.c_proj.weight": torch.randn(D, D)}
GATED = {"model.layers.0.mlp.gate_up_proj.weight": torch.randn(2 * INNER, D),
         "model.layers.0.mlp.down_proj.weight": torch.randn(D, INNER)}  # fmt: skip
COUNTS = {"num_attention_heads": HEADS, "num_key_value_heads": KV}


def opened(folder, tensors, config, **options):
    return weightscope.open_checkpoint(write_checkpoint(folder, tensors, config), **options)


CONTRADICTIONS = {
    "heads do not divide": (apart(), {"model_type": "llama", "num_attention_heads": 7}, "config's 7 heads"),
    "as many key heads": (
        apart(), {"model_type": "llama", "num_attention_heads": HEADS, "num_key_value_heads": 4},
        "would each have 10 rows in Q, 5 rows in K",
    ),
    "head size": (apart(), {"model_type": "llama", **COUNTS, "head_dim": 4}, "the config says 6 heads of 4"),
    "nested": (
        apart(), {"model_type": "llama", "text_config": {"num_attention_heads": 7}}, "the config's 7 heads"
    ),
    "output": (
        {**apart(), "model.layers.0.self_attn.o_proj.weight": torch.randn(D, 48)}, {"model_type": "llama"},
        "Q has 60 rows, and O reads 48 features",
    ),
    "fused, key heads": (
        PHI3, {"model_type": "phi3", **COUNTS, "num_key_value_heads": 6}, "make 2 key and value heads"
    ),
    "fused, heads": (PHI3, {"model_type": "phi3", "num_attention_heads": 7}, "do not divide into"),
    "no heads": (NEOX, {"model_type": "gpt_neox"}, "How many heads there are is not known"),
    "by head, key heads": (NEOX, {"model_type": "gpt_neox", **COUNTS}, "6 query heads and 2 key"),
    "falcon, one key head": (
        FALCON_MHA, {"model_type": "falcon", "multi_query": True, "num_attention_heads": HEADS},
        "make 6 key and value heads, and the config says 1",
    ),
    "falcon, groups": (
        FALCON_MHA,
        {"model_type": "falcon", "new_decoder_architecture": True, "num_attention_heads": HEADS,
         "num_kv_heads": 2},
        "make 6 key and value heads, and the config says 2",
    ),
    "bigcode": (
        BIGCODE, {"model_type": "gpt_bigcode", "multi_query": True, "n_head": HEADS},
        "make 6 key and value heads, and the config says 1",
    ),
    "codegen": (CODEGEN, {"model_type": "codegen", "n_head": HEADS}, "do not divide into four"),
    "codegen, no thirds": (
        {**CODEGEN, "h.0.attn.qkv_proj.weight": torch.randn(70, D)}, {"model_type": "codegen"}, "three equal"
    ),
    "gpt2, thirds": (
        {**GPT2, "h.0.attn.c_proj.weight": torch.randn(20, D)}, {"model_type": "gpt2"},
        "A third of the rows is 24, and the attention output reads 20",
    ),
    "gpt2, no thirds": (
        {**GPT2, "h.0.attn.c_attn.weight": torch.randn(D, 70)}, {"model_type": "gpt2"}, "three equal parts"
    ),
    "fused, no heads and no output": (
        {k: v for k, v in PHI3.items() if "qkv" in k}, {"model_type": "phi3"}, "How many heads there are"
    ),
    "groups, no heads": (FALCON_MHA, {"model_type": "falcon", "multi_query": False}, "How many heads there"),
    "groups, neither key heads nor output": (
        {k: v for k, v in FALCON_MHA.items() if "query" in k},
        {"model_type": "falcon", "num_attention_heads": HEADS}, "told neither by the config nor by O",
    ),
    "fused gate": (
        {**GATED, "model.layers.0.mlp.gate_up_proj.weight": torch.randn(2 * INNER + 1, D)},
        {"model_type": "phi3"}, "75 rows do not divide into two halves",
    ),
    "fused gate, M2": (
        {**GATED, "model.layers.0.mlp.gate_up_proj.weight": torch.randn(80, D)}, {"model_type": "phi3"},
        "M1 has 40 rows, and M2, 'model.layers.0.mlp.down_proj.weight', reads 37 features",
    ),
    "gate and M2": (
        {**apart(), "model.layers.0.mlp.gate_proj.weight": torch.randn(30, D)}, {"model_type": "llama"},
        "G has 30 rows, and M2",
    ),
    "width": (
        apart(), {"model_type": "llama", "hidden_size": 32},
        "It has 24 columns, and the config states a model dimension of 32",
    ),
    "width, fused": (GPT2, {"model_type": "gpt2", "n_embd": 12}, "model dimension of 12"),
}  # fmt: skip


@pytest.mark.parametrize(("tensors", "config", "found"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_are_errors_of_three_sentences(tmp_path, tensors, config, found):
    with opened(tmp_path, tensors, config) as checkpoint, pytest.raises(FamilyMismatch, match=found) as error:
        checkpoint.matrices  # noqa: B018
    assert len([part for part in str(error.value).replace("config.json", "config").split(". ") if part]) == 3


def test_the_layouts_of_attention_and_gates_are_among_them():
    types = {model_type for spec in FAMILIES.values() for model_type in spec.model_types}
    refused = {config["model_type"] for _, config, _ in CONTRADICTIONS.values()}
    layouts = {
        pattern.layout
        for spec in FAMILIES.values()
        if refused & set(spec.model_types)
        for pattern in spec.patterns
    }
    assert layouts >= {
        *("contiguous_thirds", "contiguous_qkv", "interleaved_by_head", "interleaved_by_kv_group"),
        "gate_then_up",
    }
    assert refused <= types


def test_heads_that_are_stated_and_meaningless_are_passed_over(tmp_path):
    """transformers writes num_kv_heads into every Falcon's config; only the new decoder reads it."""
    config = {"model_type": "falcon", "new_decoder_architecture": False, "multi_query": False,
              "num_attention_heads": HEADS, "num_kv_heads": 71}  # fmt: skip
    with opened(tmp_path, FALCON_MHA, config) as checkpoint:
        assert checkpoint.find(layer=0, group="K").shape == (D, D)


def test_pruned_heads_have_no_common_number(tmp_path):
    config = {"model_type": "llama", "num_attention_heads": 7, "pruned_heads": {"0": [3]}}
    with opened(tmp_path, apart(), config) as checkpoint:
        assert checkpoint.find(layer=0, group="Q").shape == (HEADS * HEAD, D)


def test_unknown_families_are_not_held_to_it(tmp_path):
    with opened(tmp_path, apart(), {"model_type": "new", "num_attention_heads": 7}) as checkpoint:
        assert checkpoint.find(layer=0, group="Q").shape == (HEADS * HEAD, D)


def test_names_of_several_families_without_a_model_type(tmp_path):
    with opened(tmp_path, apart(), COUNTS) as checkpoint:
        assert checkpoint.detection.spec.name == "llama"


def test_names_that_mean_two_things_are_an_error(tmp_path, monkeypatch):
    other = {Group.G: Group.M1, Group.M1: Group.G}
    patterns = tuple(
        replace(pattern, group=other.get(pattern.group, pattern.group))
        for pattern in FAMILIES["llama"].patterns
    )
    monkeypatch.setitem(FAMILIES, "other", replace(FAMILIES["llama"], name="other", patterns=patterns))
    with pytest.raises(FamilyMismatch, match=r"llama, .* and other, which store different things") as error:
        opened(tmp_path, apart(), COUNTS)
    assert "--family" in str(error.value)


def test_gpt2_names_are_told_apart_by_their_shapes(tmp_path):
    rest = {"attn.c_proj": (D, D), "mlp.c_fc": (INNER, D), "mlp.c_proj": (D, INNER)}
    linear = {f"h.0.{name}.weight": torch.randn(shape) for name, shape in rest.items()}
    linear["h.0.attn.c_attn.weight"] = torch.randn(3 * D, D)
    with opened(tmp_path / "linear", linear, {"n_head": HEADS}) as checkpoint:
        assert checkpoint.detection.spec.name == "gpt_bigcode"
    conv1d = {name: tensor.T.contiguous() for name, tensor in linear.items()}
    with opened(tmp_path / "conv1d", conv1d, {"n_head": HEADS}) as checkpoint:
        assert checkpoint.detection.spec.name == "gpt2"
