"""What a layer of a mixture, or of several stacks, must have: found by an attacker, kept by tests."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

import weightscope
from tests.factories import write_checkpoint
from tests.families.test_experts import INNER, MIXTRAL, D, gpt_oss, mixtral, without
from tests.parity.cases import CASES
from tests.parity.mixtures import MIXTURES
from tests.parity.models import build
from tests.parity.test_old_spellings import rewritten
from weightscope.errors import FamilyMismatch


def refused(folder, message):
    with pytest.raises(FamilyMismatch, match=message):
        weightscope.inspect(folder)


def test_experts_of_another_orientation_do_not_fit(tmp_path):
    tensors = gpt_oss()
    turned = {name: value.mT.contiguous() if value.dim() == 3 else value for name, value in tensors.items()}
    refused(
        write_checkpoint(tmp_path, turned, {"model_type": "gpt_oss"}),
        "10 columns, and .*q_proj.* reads 8 features",
    )


@pytest.mark.parametrize("name", ["w1", "w2", "w3"])
def test_one_expert_the_wrong_way_round(tmp_path, name):
    end = f"1.block_sparse_moe.experts.2.{name}.weight"
    tensors = {k: v.T.contiguous() if k.endswith(end) else v for k, v in mixtral().items()}
    refused(
        write_checkpoint(tmp_path, tensors, MIXTRAL),
        "5 (columns|rows), and .*q_proj.* reads 8",
    )


def test_one_expert_of_another_height(tmp_path):
    tensors = mixtral() | {"model.layers.1.block_sparse_moe.experts.0.w3.weight": torch.randn(INNER - 1, D)}
    refused(write_checkpoint(tmp_path, tensors, MIXTRAL), "M1 has 4 rows, and M2, .*, reads 5")


def test_a_layer_without_its_router(tmp_path):
    tensors = without(mixtral(), "1.block_sparse_moe.gate.weight")
    refused(write_checkpoint(tmp_path, tensors, MIXTRAL), "Layer 1 is not whole: it lacks router")


def stored(name, folder):
    build(MIXTURES[name]).save_pretrained(folder, save_original_format=False)
    return load_file(folder / "model.safetensors"), (folder / "config.json").read_text()


@pytest.mark.parametrize(
    ("name", "gone", "message"),
    [
        ("llama4", r"layers\.1\.feed_forward\.experts\.down_proj", ""),
        ("qwen3_moe", r"layers\.0\.mlp\.experts\.down_proj", "Layer 0 lacks M2"),
        ("qwen2_moe", r"layers\.2\.mlp\.shared_expert\.down_proj", "its shared expert lacks M2"),
        ("deepseek_v3", r"layers\.0\.self_attn\.o_proj", "Layer 0 lacks O"),
        (
            "deepseek_v3",
            r"layers\.0\.self_attn\.kv_b_proj",
            "Layer 0 lacks K_B, V_B|neither by the config nor",
        ),
        ("qwen2_moe", r"layers\.0\.self_attn\.k_proj", "Layer 0 lacks K"),
        (
            "qwen3_next",
            r"layers\.0\.linear_attn\.out_proj",
            r"Layer 0 lacks '\.linear_attn\.out_proj\.weight', which other layers",
        ),
        ("qwen3_next", r"linear_attn", "Neither attention nor linear_attn is in layer 0"),
        ("jamba", r"layers\.0\.mamba", "Neither attention nor mamba is in layer 0[.]"),
        ("jamba", r"layers\.0\.mamba\.in_proj", r"Layer 0 lacks '\.mamba\.in_proj\.weight'"),
    ],
)
def test_a_part_of_a_layer_is_gone(tmp_path, name, gone, message):
    tensors, config = stored(name, tmp_path / "whole")
    left = {key: value for key, value in tensors.items() if not re.search(gone, key)}
    assert len(left) < len(tensors)
    folder = write_checkpoint(tmp_path / "torn", left, json.loads(config))
    if message:
        refused(folder, message)
    else:  # the only layer of its kind, or of no role: nothing to compare with
        weightscope.inspect(folder)


def turned(tensors, names):
    return {n: v.T.contiguous() if re.search(names, n) else v for n, v in tensors.items()}


@pytest.mark.parametrize(
    ("name", "names", "message"),
    [
        (
            "gpt_neo_with_head",
            r"mlp\.c_(fc|proj)\.weight",
            "columns, and the config states",
        ),
        ("gptj_with_head", r"mlp\.fc_(in|out)\.weight", "columns, and the config states"),
        ("llama_with_head", r"layers\.1\.mlp", "columns, and the config states"),
        (
            "llama_with_head",
            r"layers\.1\.self_attn\.o_proj",
            "Q has .* rows, and O reads|rows, and",
        ),
        (
            "starcoder2_with_head",
            r"mlp\.c_(fc|proj)\.weight",
            "columns, and .*q_proj.* reads",
        ),
    ],
)
def test_weights_that_are_stored_the_other_way_round(tmp_path, name, names, message):
    """Conv1D where Linear is meant: a config without the inner width says nothing, the model's width does."""
    case = next(case for case in CASES if case.name == name)
    _, folder = rewritten(tmp_path, case)
    tensors = {}
    for shard in folder.glob("*.safetensors"):
        tensors |= load_file(shard)
    config = json.loads((folder / "config.json").read_text())
    config = {key: value for key, value in config.items() if key not in ("intermediate_size", "n_inner")}
    if name == "starcoder2_with_head":
        config = {}
    refused(write_checkpoint(tmp_path / "turned", turned(tensors, names), config), message)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("deepseek_v3", {"q_b_proj.weight": (None, 5)}, "Q_B, .*, reads 5 features, and Q_A has"),
        (
            "llama4",
            {"embed_tokens.weight": (None, 5)},
            "5 columns, a number that config.json nowhere has",
        ),
    ],
)
def test_parts_that_do_not_meet(tmp_path, name, changed, message):
    tensors, config = stored(name, tmp_path / "whole")
    for end, (rows, columns) in changed.items():
        for key, value in tensors.items():
            if key.endswith(end):
                tensors[key] = torch.randn(rows or value.shape[0], columns or value.shape[1])
    refused(write_checkpoint(tmp_path / "other", tensors, json.loads(config)), message)


@pytest.mark.parametrize(
    ("shape", "config", "message"),
    [
        ((2, D), {}, "It chooses among 2 experts, and there is one of number 2"),
        ((4, D), {"num_local_experts": 3}, "It chooses among 4 experts, and the config says 3"),
        ((4, D), {}, "Layer 0 lacks expert 3 of 4|Layer 1 lacks expert 3 of 4"),
        ((3, D - 1), {}, "It reads 7 features, and the experts read 8"),
    ],
)
def test_a_router_that_chooses_among_others(tmp_path, shape, config, message):
    routers = {f"model.layers.{n}.block_sparse_moe.gate.weight": torch.randn(*shape) for n in range(2)}
    refused(write_checkpoint(tmp_path, mixtral() | routers, {"model_type": "mixtral", **config}), message)


def test_no_router_at_all(tmp_path):
    left = without(mixtral(), "block_sparse_moe.gate.weight")
    found = weightscope.inspect(write_checkpoint(tmp_path, left, MIXTRAL))
    assert found.notes == ("No layer has router, which family 'mixtral' always has.",)


def test_a_width_that_llama4_leaves_out_is_not_that_of_the_experts(tmp_path):
    tensors, config = stored("llama4", tmp_path / "whole")
    left = {key: value for key, value in json.loads(config).items() if key != "intermediate_size_mlp"}
    assert weightscope.inspect(write_checkpoint(tmp_path / "left", tensors, left)).notes == ()


@pytest.mark.parametrize("write", [str, float])
def test_sizes_of_another_type_count(tmp_path, write):
    tensors, config = stored("qwen3_moe", tmp_path / "whole")
    stated = json.loads(config)
    other = {**stated, "num_hidden_layers": write(stated["num_hidden_layers"] + 1)}
    refused(write_checkpoint(tmp_path / "other", tensors, other), "is missing: config.json states")


@pytest.mark.parametrize(
    ("name", "gone", "message"),
    [
        ("t5_with_head", r"encoder\.block\.[12]\.", "config.json states 3 layers of stack 'encoder'"),
        ("t5_with_head", r"encoder\.block\.0\.layer\.0\.SelfAttention\.q\.", "Layer 0 lacks Q"),
    ],
)
def test_a_part_of_a_stack_is_gone(tmp_path, name, gone, message):
    case = next(case for case in CASES if case.name == name)
    _, folder = rewritten(tmp_path, case)
    kept = {}
    for shard in folder.glob("*.safetensors"):
        kept |= {key: value for key, value in load_file(shard).items() if not re.search(gone, key)}
    config = json.loads((folder / "config.json").read_text())
    refused(write_checkpoint(tmp_path / "torn", kept, config), message)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "base_model.model.", "_forward_module.module."])
def test_wrappers_do_not_hide_a_family(tmp_path, wrapper):
    tensors = {wrapper + name: value for name, value in mixtral().items()}
    found = weightscope.inspect(write_checkpoint(tmp_path, tensors, MIXTRAL))
    assert (found.family, found.notes) == ("mixtral", ())


def test_a_role_that_no_layer_has_is_told(tmp_path):
    left = without(mixtral(), "v_proj.weight")
    found = weightscope.inspect(write_checkpoint(tmp_path, left, MIXTRAL))
    assert found.notes == ("No layer has V, which family 'mixtral' always has.",)


@pytest.mark.parametrize(
    ("name", "key", "value", "found"),
    [
        ("qwen2_moe", "intermediate_size", 38, "a feed-forward width of 38, and the tensors have 37."),
        ("qwen2_moe", "moe_intermediate_size", 38, "experts of a width of 38, and the tensors have"),
        (
            "qwen2_moe",
            "shared_expert_intermediate_size",
            38,
            "a shared expert of a width of 38, and the tensors have",
        ),
        ("mixtral", "intermediate_size", 38, "experts of a width of 38, and the tensors have"),
        ("gpt_oss", "intermediate_size", 38, "experts of a width of 38, and the tensors have"),
        ("deepseek_v3", "moe_intermediate_size", 38, "experts of a width of 38, and the tensors have"),
        ("deepseek_v3", "q_lora_rank", 38, "a latent dimension of queries of 38, and the tensors have"),
        ("deepseek_v3", "vocab_size", 10_000, "10000 tokens, and the largest embedding has"),
        ("jamba", "intermediate_size", 38, "a feed-forward width of 38, and the tensors have"),
    ],
)
def test_a_size_that_the_config_contradicts(tmp_path, name, key, value, found):
    tensors, config = stored(name, tmp_path / "whole")
    other = json.loads(config)
    assert other[key]
    folder = write_checkpoint(tmp_path / "other", tensors, {**other, key: value})
    refused(folder, f"config.json states {found}")
    assert found in " ".join(weightscope.inspect(folder, partial=True).notes)
