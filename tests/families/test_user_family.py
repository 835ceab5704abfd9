"""A family that a user describes is held to the checkpoint it is described for."""

from dataclasses import replace

import pytest
import torch
import yaml

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint
from tests.families.made_up import llama, llama_config
from weightscope.errors import FamilyMismatch
from weightscope.families.registry import FAMILIES
from weightscope.families.spec import FamilySpec, Group, IgnoredPattern, MatrixPattern

C_FC = MatrixPattern(template="h.{layer}.mlp.c_fc.weight", group=Group.M1, transposed=True)
MINE = FamilySpec(name="mine", patterns=(C_FC,))


def opened(folder, spec, tensors=None, config=GPT2_CONFIG):
    return weightscope.open_checkpoint(
        write_checkpoint(folder, tensors or gpt2_tensors(), config), family=spec
    )


def with_template(template, group=Group.M2, **more):
    return replace(MINE, patterns=(C_FC, MatrixPattern(template=template, group=group, **more)))


@pytest.mark.parametrize(
    ("template", "near"),
    [
        ("h.{layer}.mlp.c_prj.weight", "h.0.mlp.c_proj.weight"),
        ("transformer.h.{layer}.mlp.c_proj.weight", "h.0.mlp.c_proj.weight"),
        ("{prefix}h.{layer}.attn.c_proj", "h.0.attn.c_proj.weight"),
        ("wte", "wte.weight"),
        ("h.{expert}.mlp.{layer}.c_proj.weight", "h.0.mlp.c_proj.weight"),
    ],
)
def test_a_template_that_matches_nothing_is_named_with_the_nearest_name(tmp_path, template, near):
    with pytest.raises(FamilyMismatch) as error:
        opened(tmp_path, with_template(template))
    assert repr(template) in error.value.asked
    assert f"the nearest is {near!r}" in error.value.found


DIFFERENT = {
    "groups": (
        MatrixPattern(template="h.{layer}.mlp.c_fc.weight", group=Group.G),
        "(M1, transposed) and",
        "(G)",
    ),
    "orientations": (replace(C_FC, transposed=False), "(M1, transposed) and", "(M1)"),
    "layers": (
        replace(C_FC, template="h.0.mlp.c_fc.weight"),
        "'h.{layer}.mlp.c_fc.weight' (M1, transposed) and",
        "'h.0.",
    ),
    "a buffer": (
        IgnoredPattern(template="h.{layer}.mlp.c_fc.weight", reason="x"),
        "(M1, transposed) and",
        "(ignored)",
    ),
}


@pytest.mark.parametrize(("pattern", "first", "second"), DIFFERENT.values(), ids=DIFFERENT)
def test_a_tensor_that_two_templates_understand_in_two_ways(tmp_path, pattern, first, second):
    if isinstance(pattern, IgnoredPattern):
        spec = replace(MINE, ignored=(pattern,))
    else:
        spec = replace(MINE, patterns=(C_FC, pattern))
    with pytest.raises(FamilyMismatch, match=r"Tensor 'h\.0\.mlp\.c_fc\.weight' was read") as error:
        opened(tmp_path, spec)
    assert first in error.value.found
    assert second in error.value.found


def test_two_templates_of_one_meaning_are_no_harm(tmp_path):
    spec = replace(
        MINE, prefixes=("", "h."), patterns=(C_FC, replace(C_FC, template="{prefix}{layer}.mlp.c_fc.weight"))
    )
    with opened(tmp_path, spec) as checkpoint:
        assert checkpoint.find(layer=1, group="M1").shape == (32, 8)


def test_the_registry_is_not_held_to_one_checkpoint(tmp_path):
    """Nor is a copy of an entry that keeps its name: others of its checkpoints have what this one lacks."""
    with opened(tmp_path, "gpt2") as checkpoint:
        assert checkpoint.matrices
    entry = FAMILIES["gpt2"]
    edited = tuple(replace(p, layout=None) if p.layout else p for p in entry.patterns)
    with opened(tmp_path, replace(entry, patterns=edited)) as checkpoint:
        assert not [m for m in checkpoint.matrices if m.group == "Q"]
    with pytest.raises(FamilyMismatch, match=r"'lm_head.weight' of family 'mine'"):
        opened(tmp_path, replace(entry, name="mine"))


def test_a_family_without_layers(tmp_path):
    spec = FamilySpec(name="mlp", patterns=(MatrixPattern(template="0.weight", group=Group.M1),))
    tensors = {"0.weight": torch.randn(3, 4), "2.weight": torch.randn(2, 3)}
    with opened(tmp_path, spec, tensors, {}) as checkpoint:
        assert [str(m.group) for m in checkpoint.matrices] == ["M1", "other"]


def test_from_a_file(tmp_path):
    shown = {"name": "mine", "patterns": [{"template": "model.layers.{layer}.mlp.up.weight", "group": "M1"}]}
    shown["patterns"].append({"template": "model.layers.{layer}.mlp.down_proj.weight", "group": "M2"})
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(shown))
    with pytest.raises(FamilyMismatch, match=r"the nearest is 'model\.layers\.0\.mlp\.up_proj\.weight'"):
        opened(tmp_path / "model", str(tmp_path / "mine.yaml"), llama(0, 1), llama_config(2))


def test_a_config_key_that_is_not_there_is_named_with_the_nearest(tmp_path):
    """With it left out, the number of heads would not be known either, and the message would be another."""
    pattern = MatrixPattern(template="l.{layer}.w", group=Group.QKV, layout="interleaved_by_head")
    folder = write_checkpoint(tmp_path, {"l.0.w": torch.randn(24, 8)}, {"beats": 2, "width": 8})
    for keys, found in (({"heads": "beat"}, "the nearest is 'beats'"), ({"heads": "a.beats"}, "no such key")):
        spec = FamilySpec(name="mine", patterns=(pattern,), config_keys=keys)
        with pytest.raises(FamilyMismatch, match=found):
            weightscope.open_checkpoint(folder, family=spec)
    spec = FamilySpec(name="mine", patterns=(pattern,), config_keys={"heads": "beats"})
    with weightscope.open_checkpoint(folder, family=spec) as checkpoint:
        assert checkpoint.matrix(layer=0, group="K").shape == (8, 8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ignored": (IgnoredPattern(template="h.{layer}.attn.biass", reason="mask"),)}, "h.0.attn.bias"),
        ({"head_norm": "h.{layer}.attn.q_norm.weight"}, "It matches none"),
        ({"beyond": "h.{layer}.eh_proj.weight", "stack_beyond": "mtp"}, "It matches none"),
        ({"first_layer": 1}, "'h.0.mlp.c_fc.weight' is of layer 0, before that"),
    ],
)
def test_other_templates_and_the_first_layer_are_held_to_the_checkpoint(tmp_path, change, words):
    with pytest.raises(FamilyMismatch) as error:
        opened(tmp_path, replace(MINE, **change))
    assert words in error.value.found
