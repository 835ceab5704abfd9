"""`inspect` gives paper A's Table 1 from headers of the true shapes, quickly and without a weight.

The files are sparse: a true header, and as many bytes of nothing as it describes.
"""

import json
import resource
import subprocess
import sys

import pytest
import torch
import transformers as hf

import weightscope
from tests.factories import write_checkpoint, write_gpt2
from weightscope.checkpoints.dtypes import BY_TORCH_NAME

# Paper A, Table 1: layers, model dimension, feed-forward dimension, parameters as printed there.
TABLE_1 = {
    "BERT": (hf.BertForPreTraining, hf.BertConfig(), (12, 768, 3072), 110e6),
    "RoBERTa": (
        hf.RobertaForMaskedLM,
        hf.RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1),
        (12, 768, 3072),
        125e6,
    ),
    "GPT2-Large": (
        hf.GPT2LMHeadModel,
        hf.GPT2Config(n_embd=1280, n_layer=36, n_head=20),
        (36, 1280, 5120),
        774e6,
    ),
    "GPT2-XL": (
        hf.GPT2LMHeadModel,
        hf.GPT2Config(n_embd=1600, n_layer=48, n_head=25),
        (48, 1600, 6400),
        1.5e9,
    ),
    "Phi-2": (
        hf.PhiForCausalLM,
        hf.PhiConfig(hidden_size=2560, num_hidden_layers=32, num_attention_heads=32, intermediate_size=10240),
        (32, 2560, 10240),
        2.8e9,
    ),
    "GPT-J": (hf.GPTJForCausalLM, hf.GPTJConfig(), (28, 4096, 16384), 6e9),
}


def write_sparse(folder, model_class, config):
    """The checkpoint with its true header; GPT-2's with the masks that the Hub's files keep."""
    with torch.device("meta"):
        model = model_class(config)
    state = {name: tensor for name, tensor in model.state_dict().items() if not _is_tied(model, name)}
    if config.model_type == "gpt2":
        state = {name.removeprefix("transformer."): tensor for name, tensor in state.items()}
        for layer in range(config.n_layer):
            state[f"h.{layer}.attn.bias"] = torch.empty(1, 1, 1024, 1024, device="meta")
    header, position = {}, 0
    for name, tensor in state.items():
        end = position + tensor.numel() * tensor.element_size()
        dtype = BY_TORCH_NAME[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    encoded = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + position)
    config.architectures = [model_class.__name__]
    config.save_pretrained(folder)


def _is_tied(model, name):
    return name in (getattr(model, "all_tied_weights_keys", None) or {})


@pytest.mark.parametrize("name", TABLE_1)
def test_table_1(tmp_path, name):
    model_class, config, sizes, parameters = TABLE_1[name]
    write_sparse(tmp_path, model_class, config)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "weightscope", "inspect", str(tmp_path), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = json.loads(done.stdout)
    assert (found["layers"], found["model_dimension"], found["feed_forward_dimension"]) == sizes
    assert found["parameters"] == pytest.approx(parameters, rel=0.05)
    assert found["heads"] == found["kv_heads"] == config.num_attention_heads
    assert found["vocabulary"] == config.vocab_size
    counts = {entry["group"]: entry["matrices"] for entry in found["groups"] if entry["stack"]}
    assert counts == dict.fromkeys(["Q", "K", "V", "O", "QKV", "M1", "M2"], sizes[0])
    assert found["architectures"] == [model_class.__name__]
    assert found["guesses"] == found["notes"] == []
    # Two seconds are the promise, of the processor: a clock would measure what else the machine does.
    assert seconds < 2


def test_without_a_config_tensors_tell_what_they_can(tmp_path):
    folder = write_gpt2(tmp_path)
    (folder / "config.json").unlink()
    found = weightscope.inspect(folder)
    assert (found.layers, found.model_dimension, found.feed_forward_dimension, found.vocabulary) == (
        2,
        8,
        32,
        11,
    )
    assert found.heads is None
    assert "no config.json" in found.notes[0]


def test_buffers_are_no_parameters(tmp_path):
    found = weightscope.inspect(write_gpt2(tmp_path, layers=1))
    per_layer = 8 + 8 * 24 + 24 + 8 * 8 + 2 * 8 * 32
    assert found.parameters == 11 * 8 + 16 * 8 + per_layer
    assert found.dtypes == {"F32": found.parameters}
    assert found.bytes == 4 * (found.parameters + 16 * 16)
    assert found.skipped == (("h.0.attn.bias", "causal mask kept as a buffer"),)


def test_running_statistics_and_a_modules_own_buffers_are_no_parameters(tmp_path):
    norm = torch.nn.BatchNorm2d(4)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), norm, torch.nn.Linear(4, 5))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert weightscope.inspect(model).parameters == count
    assert weightscope.inspect(write_checkpoint(tmp_path, model.state_dict())).parameters == count
    model.register_buffer("odd", torch.randn(9))  # no name would tell
    assert weightscope.inspect(model).parameters == count
    assert weightscope.inspect(model.state_dict()).parameters == count + 9


def test_shapes_stand_with_the_names_that_have_them(tmp_path):
    state = torch.nn.LSTM(32, 64, 2, bidirectional=True).state_dict()
    found = weightscope.inspect(write_checkpoint(tmp_path, state))
    real = {name: (tuple(tensor.shape),) for name, tensor in state.items() if tensor.dim() == 2}
    assert {t.parameter: t.shapes for entry in found.groups for t in entry.templates} == real
    for entry in found.groups:
        assert entry.matrices == sum(template.matrices for template in entry.templates)
        assert set(entry.shapes) == {shape for template in entry.templates for shape in template.shapes}


def test_the_width_of_experts_is_apart_from_that_of_dense_layers(tmp_path):
    sizes = {
        "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8, "num_experts": 4, "moe_intermediate_size": 10,
        "intermediate_size": 40,
    }  # fmt: skip
    for dense, width in (([0], 40), ([], None)):
        model = hf.Qwen3MoeForCausalLM(hf.Qwen3MoeConfig(**sizes, mlp_only_layers=dense))
        model.save_pretrained(folder := tmp_path / str(width))
        found = weightscope.inspect(folder)
        assert (found.feed_forward_dimension, found.expert_feed_forward_dimension) == (width, 10)
        assert found.stacks[0].expert_feed_forward_dimension == 10
    assert weightscope.inspect(write_gpt2(tmp_path / "g")).expert_feed_forward_dimension is None


def test_a_live_module():
    model = hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=16, n_layer=2, n_head=4, vocab_size=9, n_positions=8))
    found = weightscope.inspect(model)
    assert (found.family, found.layers, found.heads, found.shards) == ("gpt2", 2, 4, 0)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert ("lm_head.weight", "tied to transformer.wte.weight") in found.skipped


@pytest.mark.parametrize(
    ("kind", "config", "expected"),
    [
        ("separate", {"model_type": "llama", "num_attention_heads": 6}, (6, 2)),
        ("separate", {"model_type": "llama"}, (None, None)),
        ("fused", {"model_type": "falcon", "num_attention_heads": 6}, (6, 2)),
        ("fused", {"model_type": "falcon", "num_attention_heads": 6, "num_kv_heads": 2}, (6, 2)),
    ],
)
def test_key_and_value_heads_that_the_config_leaves_out(tmp_path, kind, config, expected):
    shapes = {
        "separate": {
            f"layers.0.self_attn.{name}_proj": (rows, 24)
            for name, rows in zip("qkv", (24, 8, 8), strict=True)
        },
        "fused": {"h.0.self_attention.query_key_value": (40, 24), "h.0.self_attention.dense": (24, 24)},
    }[kind]
    tensors = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    found = weightscope.inspect(write_checkpoint(tmp_path, tensors, config))
    assert (found.heads, found.kv_heads) == expected


@pytest.mark.parametrize(
    ("config", "norm", "expected"),
    [
        ({"model_type": "gemma3_text"}, 10, (6, 2)),  # as the Hub's have it: nothing but what differs
        ({"model_type": "gemma3_text", "text_config": {"head_dim": 10}}, None, (6, 2)),
        ({"model_type": "olmo2"}, 60, (None, None)),  # its norm is over all heads
    ],
)
def test_heads_that_the_config_leaves_out(tmp_path, config, norm, expected):
    tensors = {
        f"model.layers.0.self_attn.{name}_proj.weight": torch.randn(rows, 24)
        for name, rows in zip("qkv", (60, 20, 20), strict=True)
    }
    if norm:
        tensors["model.layers.0.self_attn.q_norm.weight"] = torch.ones(norm)
    found = weightscope.inspect(write_checkpoint(tmp_path, tensors, config))
    assert (found.heads, found.kv_heads) == expected
