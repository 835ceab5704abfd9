"""Layers that are missing, or lack what others have, are an error that names them, but for --partial."""

import re

import pytest
import torch

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint
from tests.families.made_up import llama, llama_config, llama_layer
from weightscope.errors import FamilyMismatch
from weightscope.families.spec import FamilySpec, Group, MatrixPattern


def opened(folder, tensors, config=None, **options):
    return weightscope.open_checkpoint(write_checkpoint(folder, tensors, config), **options)


def without(tensors, *parts):
    return {name: tensor for name, tensor in tensors.items() if not any(part in name for part in parts)}


def experts(layers, numbers):
    """Experts as Mixtral has them, by a family file."""
    return {
        f"layers.{layer}.experts.{number}.{leaf}": torch.randn(4, 4)
        for layer in layers
        for number in numbers(layer)
        for leaf in ("up", "down")
    }


EXPERTS = FamilySpec(
    name="mine",
    patterns=(
        MatrixPattern(template="layers.{layer}.experts.{expert}.up", group=Group.M1),
        MatrixPattern(template="layers.{layer}.experts.{expert}.down", group=Group.M2),
    ),
)
MISSING = {
    "the first half": (
        llama(*range(16)), llama_config(32),
        "Layers 16-31 are missing: config.json states 32 layers, and the tensors have 16.",
    ),
    "the second half": (llama(*range(16, 32)), llama_config(32), "Layers 0-15 are missing"),
    "one": (llama(0, 2), llama_config(3), "Layer 1 is missing"),
    "the last": (llama(0, 1), llama_config(3), "Layer 2 is missing"),
    "a gap": (llama(*range(8), *range(12, 32)), llama_config(32), "Layers 8-11 are missing"),
    "two gaps": (llama(0, 1, 4, 6), llama_config(8), "Layers 2-3, 5 and 7 are missing"),
    "many gaps": (
        llama(*range(0, 40, 2)), llama_config(40), "Layers 1, 3, 5, 7, 9, 11 and 14 more ranges are missing"
    ),
    "a gap, no config": (
        llama(0, 1, 4), None, "Layers 2-3 are missing: those go up to 4, and the tensors have 3."
    ),
    "no prefix": (llama(0, 2, prefix=""), llama_config(3), "Layer 1 is missing"),
    "of GPT-2": (gpt2_tensors(), {**GPT2_CONFIG, "n_layer": 4}, "Layers 2-3 are missing"),
    "in the nested config": (
        llama(0), {"model_type": "llama", "text_config": {"num_hidden_layers": 2}}, "Layer 1 is missing"
    ),
    "only norms are left": (
        {**llama(0, 1, 3), "model.layers.2.input_layernorm.weight": torch.ones(8)}, llama_config(4),
        "Layer 2 lacks Q, K, V, O, M1, G, M2, which other layers have.",
    ),
    "no attention": (
        without(llama(0, 1, 2), "layers.1.self_attn"), llama_config(3),
        "Layer 1 lacks Q, K, V, O, which other layers have.",
    ),
    "no gate in two": (
        without(llama(0, 1, 2, 3), "1.mlp.gate", "2.mlp.gate"), llama_config(4), "Layers 1-2 lack G"
    ),
    "two wounds": (
        without(llama(*range(5)), "1.mlp.gate", "3.self_attn.k"), llama_config(5),
        "Layer 1 lacks G, which other layers have; 1 more layer is not whole.",
    ),
    "no attention, fused": (
        without(gpt2_tensors(layers=3), "h.2.attn.c_attn"), {**GPT2_CONFIG, "n_layer": 3},
        "Layer 2 lacks Q, K, V, which",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("tensors", "config", "found"), MISSING.values(), ids=MISSING
)  # fmt: skip
def test_what_is_missing_is_named(tmp_path, tensors, config, found):
    with opened(tmp_path, tensors, config) as checkpoint, pytest.raises(FamilyMismatch) as error:
        checkpoint.matrices  # noqa: B018
    assert error.value.found.startswith(found)
    assert "--partial" in error.value.advice
    with pytest.raises(FamilyMismatch):
        weightscope.inspect(tmp_path)
    with opened(tmp_path, tensors, config, partial=True) as checkpoint:
        assert checkpoint.matrices
        assert any(note.startswith(found) for note in checkpoint.notes)
        assert not any(note.startswith("config.json states") for note in checkpoint.notes)


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        (lambda layer: (0, 1, 2) if layer else (0, 2), "Layer 0 lacks expert 1 of 3"),
        (lambda layer: (0, 1) if layer else (0, 1, 2, 3), "Layer 1 lacks experts 2-3 of 4."),
        (lambda layer: (0, 2), "Layer 0 lacks expert 1 of 3"),
    ],
)
def test_experts(tmp_path, numbers, found):
    tensors = experts((0, 1), numbers)
    with opened(tmp_path, tensors, family=EXPERTS) as checkpoint, pytest.raises(FamilyMismatch, match=found):
        checkpoint.matrices  # noqa: B018


def test_a_part_of_an_expert(tmp_path):
    tensors = without(experts((0, 1), lambda layer: (0, 1, 2)), "1.experts.2.down")
    found = "Expert 2 of layer 1 lacks M2"
    with opened(tmp_path, tensors, family=EXPERTS) as checkpoint, pytest.raises(FamilyMismatch, match=found):
        checkpoint.matrices  # noqa: B018


def with_mamba(layer):
    return {f"model.layers.{layer}.mamba.in_proj.weight": torch.randn(20, 8)}


def hybrid():
    tensors = without(llama(*range(4)), "layers.0.self_attn", "layers.1.self_attn", "layers.3.self_attn")
    return tensors | with_mamba(0) | with_mamba(1) | with_mamba(3)


WHOLE = {
    "hybrid layers": (hybrid(), llama_config(4)),
    "one layer of another kind": (
        without(llama(*range(4)), "layers.1.self_attn") | with_mamba(1), llama_config(4)
    ),
    "groups of layers": (
        {f"encoder.albert_layer_groups.0.albert_layers.0.attention.{name}.weight": torch.randn(8, 8)
         for name in ("query", "key", "value", "dense")},
        {"model_type": "albert", "num_hidden_layers": 12, "num_hidden_groups": 1},
    ),
    "groups of layers, their number left out": (
        {f"encoder.albert_layer_groups.0.albert_layers.0.attention.{name}.weight": torch.randn(8, 8)
         for name in ("query", "key", "value", "dense")},
        {"model_type": "albert", "num_hidden_layers": 12},
    ),
    "attention and feed-forward in turn": (
        without(llama(*range(4)), "0.self", "2.self", "1.mlp", "3.mlp"), llama_config(4)
    ),
    "a tower beside it": (
        {**llama(0, 1), "vision_tower.encoder.layers.5.self_attn.q_proj.weight": torch.randn(4, 4)},
        llama_config(2),
    ),
    "an adapter on some layers": (
        {**llama(0, 1), "model.layers.1.adapter.weight": torch.randn(4, 8)}, llama_config(2)
    ),
    "an unusable weight": (
        {**llama(0, 1, 2), "model.layers.1.mlp.up_proj.weight": torch.zeros(0, 8)}, llama_config(3)
    ),
    "no count": (llama(0, 1), {"model_type": "llama"}),
}  # fmt: skip


@pytest.mark.parametrize(("tensors", "config"), WHOLE.values(), ids=WHOLE)
def test_what_is_whole(tmp_path, tensors, config):
    with opened(tmp_path, tensors, config) as checkpoint:
        assert checkpoint.matrices


def test_more_layers_than_the_config_states(tmp_path):
    tensors = {**llama(0, 1, 2), "model.layers.2.eh_proj.weight": torch.randn(8, 16)}
    found = "config.json states 2 layers, and the tensors have 3."
    with (
        opened(tmp_path, tensors, llama_config(2)) as checkpoint,
        pytest.raises(FamilyMismatch, match=re.escape(found)) as error,
    ):
        checkpoint.matrices  # noqa: B018
    assert "Correct config.json" in error.value.advice
    with opened(tmp_path, tensors, llama_config(2), partial=True) as checkpoint:
        assert {m.layer for m in checkpoint.matrices if m.stack} == {0, 1, 2}
        assert found in checkpoint.notes


def test_unknown_families_are_told_in_a_note(tmp_path):
    with opened(tmp_path, llama(0, 3), llama_config(4, model_type="new")) as checkpoint:
        assert (
            "Layers 1-2 are missing: config.json states 4 layers, and the tensors have 2." in checkpoint.notes
        )


def test_a_hostile_number_takes_no_memory(tmp_path):
    tensors = {**llama(0), **llama_layer(999_999_999)}
    found = "Layers 1-999999998 are missing"
    with opened(tmp_path, tensors) as checkpoint, pytest.raises(FamilyMismatch, match=found):
        checkpoint.matrices  # noqa: B018


def two_stacks(encoder, decoder):
    names = {"encoder": range(encoder), "decoder": range(decoder)}
    return {
        f"{stack}.layers.{layer}.{leaf}": torch.randn(4, 4)
        for stack, layers in names.items()
        for layer in layers
        for leaf in ("q", "k", "v")
    }


TWO_STACKS = FamilySpec(
    name="mine",
    patterns=tuple(
        MatrixPattern(template=f"{stack}.layers.{{layer}}.{leaf}", group=Group(leaf.upper()), stack=stack)
        for stack in ("encoder", "decoder")
        for leaf in ("q", "k", "v")
    ),
)


@pytest.mark.parametrize(
    "config",
    [
        {"encoder_layers": 3, "decoder_layers": 4, "num_hidden_layers": 3},
        {"num_encoder_layers": 3, "num_decoder_layers": 4},
        {"encoder_config": {"num_hidden_layers": 3}, "decoder_config": {"num_hidden_layers": 4}},
    ],
)
def test_each_stack_has_a_count_of_its_own(tmp_path, config):
    with opened(tmp_path / "whole", two_stacks(3, 4), config, family=TWO_STACKS) as checkpoint:
        assert len(checkpoint.matrices) == 7 * 4
    found = "Layer 3 is missing: config.json states 4 layers of stack 'decoder', and the tensors have 3."
    with opened(tmp_path / "half", two_stacks(3, 3), config, family=TWO_STACKS) as checkpoint:
        with pytest.raises(FamilyMismatch) as error:
            checkpoint.matrices  # noqa: B018
        assert error.value.found == found
