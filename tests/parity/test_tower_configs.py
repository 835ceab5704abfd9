"""What config.json says of several stacks: each is held to its own heads and depth, and to nobody else's."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

import weightscope
from tests.factories import write_checkpoint
from tests.parity.models import build
from tests.parity.test_families import assert_same_weights
from tests.parity.test_old_spellings import rewritten, without
from tests.parity.test_towers import HUB_GEMMA3, case_of
from weightscope.errors import FamilyMismatch


def nested(tower, *omitted, **values):
    """The config with other values in a tower's own, or without some."""

    def config(stated):
        kept = {key: value for key, value in stated[tower].items() if key not in omitted}
        return {**stated, tower: {**kept, **values}}

    return config


HUB_GEMMA3_CONFIG = nested("text_config", "num_attention_heads", "num_key_value_heads", "head_dim")


def test_sizes_that_the_hub_omits(tmp_path):
    _, folder = rewritten(tmp_path, case_of("gemma3_vision_with_head"), HUB_GEMMA3, HUB_GEMMA3_CONFIG)
    text, vision = weightscope.inspect(folder).stacks
    assert (text.stack, text.layers, text.heads, text.kv_heads, text.feed_forward_dimension) == (
        "decoder", 3, 6, 2, 37
    )  # fmt: skip
    assert (vision.stack, vision.layers, vision.heads, vision.model_dimension) == ("vision", 2, 4, 28)


def test_no_tower_takes_the_sizes_of_another(tmp_path):
    """Four heads fit the vision tower, six would not; nothing says four."""
    config = nested("vision_config", "num_attention_heads", "num_hidden_layers")
    model, folder = rewritten(tmp_path, case_of("clip_with_head"), config=config)
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert_same_weights(checkpoint, model, case_of("clip_with_head"))
        assert checkpoint.notes == ()
    assert [stack.heads for stack in weightscope.inspect(folder).stacks] == [6, None]


def changed(**values):
    return lambda stated: {**stated, **values}


@pytest.mark.parametrize(
    ("name", "config", "problem"),
    [
        ("bart_with_head", changed(encoder_attention_heads=7), "encoder.*config's 7 heads"),
        ("bart_with_head", changed(decoder_attention_heads=7), "decoder.*config's 7 heads"),
        ("whisper_with_head", changed(decoder_attention_heads=5), "decoder.*config's 5 heads"),
        ("t5_with_head", changed(num_heads=5), "config says 5 heads of 10"),
        ("t5_with_head", changed(d_kv=4), "config says 6 heads of 4"),
        ("clip_with_head", nested("text_config", num_attention_heads=5), "text_model.*config's 5 heads"),
        ("clip_with_head", nested("vision_config", num_attention_heads=5), "vision_model.*config's 5"),
        ("gemma3_vision_bare", nested("vision_config", num_attention_heads=5), "vision_tower.*config's 5"),
        ("gemma3_vision_bare", nested("text_config", head_dim=12), "language_model.*heads of 12"),
        ("vit_bare", changed(num_attention_heads=5), "config's 5 heads"),
    ],
)  # fmt: skip
def test_heads_that_contradict_a_tower(tmp_path, name, config, problem):
    _, folder = rewritten(tmp_path, case_of(name), config=config)
    with (
        weightscope.open_checkpoint(folder) as checkpoint,
        pytest.raises(FamilyMismatch, match=f"(?s){problem}"),
    ):
        checkpoint.matrices  # noqa: B018


def test_cross_attention_that_contradicts_itself(tmp_path):
    case = case_of("bart_bare")
    build(case).save_pretrained(tmp_path / "new")
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    tensors["decoder.layers.1.encoder_attn.out_proj.weight"] = torch.randn(24, 20)
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    write_checkpoint(tmp_path / "old", tensors, config)
    with (
        weightscope.open_checkpoint(tmp_path / "old") as checkpoint,
        pytest.raises(FamilyMismatch, match=r"encoder_attn.*O reads 20 features"),
    ):
        checkpoint.matrices  # noqa: B018


@pytest.mark.parametrize(
    ("name", "config", "notes"),
    [
        ("bart_with_head", changed(encoder_layers=4), ["Layer 3 is missing: config.json states 4 layers of"]),
        ("bart_with_head", changed(decoder_layers=3), ["states 3 layers of stack 'decoder'"]),
        ("bart_with_head", changed(num_hidden_layers=3), []),
        ("bart_decoder", changed(encoder_layers=9), []),
        ("bart_decoder", changed(decoder_layers=9), ["Layers 2-8 are missing"]),
        ("t5_with_head", changed(num_layers=2), ["2 layers of stack .encoder., and the tensors have 3"]),
        ("t5_with_head", without("num_decoder_layers"), ["states 3 layers of stack 'decoder'"]),
        ("clip_with_head", nested("vision_config", num_hidden_layers=3), ["3 layers of stack 'vision'"]),
        ("clip_with_head", nested("text_config", num_hidden_layers=2), ["2 layers of stack .text."]),
        ("gemma3_vision_bare", nested("vision_config", num_hidden_layers=3), ["3 layers of stack 'vision'"]),
        ("gemma3_vision_bare", nested("text_config", num_hidden_layers=2), ["2 layers of stack .decoder."]),
    ],
)  # fmt: skip
def test_depths_that_contradict_a_tower_are_said(tmp_path, name, config, notes):
    _, folder = rewritten(tmp_path, case_of(name), config=config)
    if notes:
        with pytest.raises(FamilyMismatch, match=notes[0]):
            weightscope.inspect(folder)
    with weightscope.open_checkpoint(folder, partial=True) as checkpoint:
        assert len(checkpoint.notes) == len(notes)
        for found, expected in zip(checkpoint.notes, notes, strict=True):
            assert re.search(expected, found)
