"""Matrices under names that a family does not know, where it misses some: said, and not complete."""

import re

import pytest
import torch
from typer.testing import CliRunner

import weightscope
from tests.factories import write_checkpoint
from tests.families.test_agreement import apart
from tests.families.test_experts import MIXTRAL, mixtral
from weightscope.cli.app import app
from weightscope.errors import FamilyMismatch

LLAMA = {"model_type": "llama"}
LAYERS = {name: tensor for number in range(3) for name, tensor in apart(f"model.layers.{number}.").items()}


def renamed(tensors, old, new):
    return {re.sub(old, new, name): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("tensors", "config", "count", "lacking"),
    [
        (renamed(LAYERS, "q_proj", "query"), LLAMA, 3, "Q"),
        (renamed(renamed(LAYERS, "q_proj", "query"), "down_proj", "w2"), LLAMA, 6, "Q, M2"),
        (renamed(mixtral(), r"experts", "xperts"), MIXTRAL, 18, "M1, G, M2"),
    ],
)
def test_renamed_weights_are_refused_and_not_complete(tmp_path, tensors, config, count, lacking):
    folder = write_checkpoint(tmp_path, tensors, config)
    with pytest.raises(
        FamilyMismatch, match=f"lack {lacking}[.].*Describe them in a family file, .*--partial"
    ):
        weightscope.inspect(folder)
    with weightscope.open_checkpoint(folder, partial=True) as checkpoint:
        assert len(checkpoint.strangers) == count
        (note,) = checkpoint.notes
    assert f"lack {lacking}." in note
    with weightscope.open_checkpoint(folder, family=config["model_type"]) as checkpoint:
        assert checkpoint.notes == (note,)
    found = CliRunner().invoke(app, ["analyze", str(folder), "--strict", "--partial"])
    assert found.exit_code == 3
    assert f"; {count} not recognised" in " ".join(found.output.split())
    assert found.output.count("families draft") == 1


def test_where_one_layer_has_another_name_it_is_not_whole(tmp_path):
    """Some of an attention is never enough, whatever else is there."""
    folder = write_checkpoint(tmp_path, renamed(LAYERS, r"(1.self_attn.)q_proj", r"\1query"), LLAMA)
    with pytest.raises(FamilyMismatch, match="Layer 1 lacks Q, which other layers have"):
        weightscope.inspect(folder)
    assert weightscope.inspect(folder, partial=True).layers == 3


def test_another_thing_in_the_place_of_an_attention_is_told(tmp_path):
    """Hybrid models have layers without attention."""
    left = {name: tensor for name, tensor in LAYERS.items() if ".1.self_attn." not in name}
    mamba = {"model.layers.1.mamba.in_proj.weight": torch.randn(20, 24)}
    with weightscope.open_checkpoint(write_checkpoint(tmp_path, {**left, **mamba}, LLAMA)) as checkpoint:
        assert checkpoint.strangers == tuple(mamba)
        (note,) = checkpoint.notes
    assert "lack Q, K, V, O." in note


def test_a_role_under_the_names_of_two_families(tmp_path):
    """LLaMA's projections, and in the same layers Phi-3's: which of them a model uses, its code says."""
    more = {f"model.layers.{n}.self_attn.qkv_proj.weight": torch.randn(40, 24) for n in range(3)}
    with weightscope.open_checkpoint(write_checkpoint(tmp_path, {**LAYERS, **more}, LLAMA)) as checkpoint:
        assert checkpoint.notes == (
            "'model.layers.0.self_attn.qkv_proj.weight' would be QKV by the names of family 'phi3', and "
            "family 'llama' has that in the same layer: group other.",
        )


def test_what_a_family_has_no_template_for_is_no_matter(tmp_path):
    """An adapter beside whole layers is of group other, and nothing is missing."""
    more = {f"model.layers.{n}.self_attn.q_proj.lora_A.weight": torch.randn(2, 24) for n in range(3)}
    folder = write_checkpoint(tmp_path, {**LAYERS, **more}, LLAMA)
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert checkpoint.strangers == ()
        assert checkpoint.notes == ()
    assert CliRunner().invoke(app, ["analyze", str(folder), "--strict"]).exit_code == 0
