"""Names of two families in one checkpoint, and what is no such thing."""

import pytest
import torch

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint
from tests.families.made_up import llama, llama_config
from weightscope.errors import FamilyMismatch


def opened(folder, tensors, config=None, **options):
    return weightscope.open_checkpoint(write_checkpoint(folder, tensors, config), **options)


def gpt2(*layers, prefix="transformer."):
    wanted = tuple(f"h.{layer}." for layer in layers)
    return {f"{prefix}{n}": t for n, t in gpt2_tensors(layers=40).items() if n.startswith(wanted)}


def bert(layers, prefix="bert."):
    names = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
             "intermediate.dense", "output.dense")  # fmt: skip
    return {
        f"{prefix}encoder.layer.{layer}.{name}.weight": torch.randn(8, 8)
        for layer in range(layers)
        for name in names
    }


def phi(layer):
    names = (
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.dense",
        "mlp.fc1",
        "mlp.fc2",
    )
    rows = {"self_attn.k_proj": 4, "self_attn.v_proj": 4}
    return {f"model.layers.{layer}.{name}.weight": torch.randn(rows.get(name, 8), 8) for name in names}


MIXED = {
    "halves": ({**llama(*range(16)), **gpt2(*range(16, 32))}, llama_config(32), "llama", "gpt2"),
    "halves, the other's config": (
        {**llama(*range(16)), **gpt2(*range(16, 32))}, {**GPT2_CONFIG, "n_layer": 32}, "gpt2", "llama"
    ),
    "halves, no config": ({**llama(0), **gpt2(1, prefix="")}, None, "llama", "gpt2"),
    "two models": ({**llama(0, 1), **bert(2)}, llama_config(2), "llama", "bert"),
    "halves of one numbering": (
        {**llama(0, 1), **phi(2), **phi(3)}, llama_config(4), "llama", "phi"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tensors", "config", "first", "second"), MIXED.values(), ids=MIXED)
def test_names_of_two_families_are_an_error_that_names_both(tmp_path, tensors, config, first, second):
    with opened(tmp_path, tensors, config) as checkpoint, pytest.raises(FamilyMismatch) as error:
        checkpoint.matrices  # noqa: B018
    assert f"family '{first}'" in error.value.asked
    assert f"family '{second}', such as " in error.value.found
    assert "--family" in error.value.advice
    with opened(tmp_path, tensors, config, family=first, partial=True) as checkpoint:
        assert {m.layer for m in checkpoint.matrices if m.layer is not None}
        assert any(m.group == "other" for m in checkpoint.matrices)


def test_a_second_model_under_a_prefix_is_told(tmp_path):
    tensors = {**llama(0, 1), **{f"old.{name}": tensor for name, tensor in gpt2(0, 1).items()}}
    with opened(tmp_path, tensors, llama_config(2)) as checkpoint:
        assert checkpoint.notes == (
            "Under 'old.' there are layers with the names of family 'gpt2': group other.",
        )


@pytest.mark.parametrize(
    ("key", "value"), [("num_attention_heads", 0), ("num_hidden_layers", "two"), ("hidden_size", 8.5)]
)
def test_what_is_no_size_is_told(tmp_path, key, value):
    with opened(tmp_path, llama(0, 1), llama_config(2) | {key: value}) as checkpoint:
        assert checkpoint.notes == (f"config.json has {key}: {value!r}, which is no size: passed over.",)


def layers_under(prefix):
    return {f"{prefix}{name}": tensor for name, tensor in llama(0, 1, prefix="").items()}


BESIDE = {
    "a tower of pictures": layers_under("vision_tower.vision_model.encoder."),
    "an adapter": {"model.layers.0.self_attn.q_proj.lora_A.weight": torch.randn(2, 8)},
    "a head": {"classifier.dense.weight": torch.randn(8, 8), "classifier.out_proj.weight": torch.randn(2, 8)},
    "prediction of further tokens": layers_under("mtp."),
    "a projector": {"multi_modal_projector.linear_1.weight": torch.randn(8, 4)},
    "half a layer of another": {k: v for k, v in bert(1).items() if "attention" in k},
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_what_stands_beside_a_model_is_other(tmp_path, beside):
    with opened(tmp_path, {**llama(0, 1), **beside}, llama_config(2)) as checkpoint:
        assert checkpoint.detection.spec.name == "llama"
        assert {m.parameter for m in checkpoint.matrices if m.group == "other"} == {
            name for name, tensor in beside.items() if tensor.dim() == 2
        }
