"""Two tensors for one place: an error that names both, unless they are the same bytes."""

import pytest
import torch

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint
from tests.families.made_up import llama, llama_config, llama_layer
from weightscope.errors import FamilyMismatch

UP = "model.layers.1.mlp.up_proj.weight"


def opened(folder, tensors, config=None, **options):
    return weightscope.open_checkpoint(write_checkpoint(folder, tensors, config), **options)


def again(name, value):
    """LLaMA with one weight more, which may be a copy of the one in its place or not."""
    tensors = llama(0, 1)
    return {**tensors, name: tensors[UP].clone() if value == "same" else value(tensors[UP])}


NAMES = ["model.layers.01.mlp.up_proj.weight", "layers.1.mlp.up_proj.weight", f"module.{UP}"]
CHANGES = {
    "other values": lambda tensor: -tensor,
    "one value": lambda tensor: torch.cat([tensor[:-1], tensor[-1:] + 1]),
    "other type": lambda tensor: tensor.double(),
}


def refused(*source, **options):
    with opened(*source, **options) as checkpoint, pytest.raises(FamilyMismatch) as error:
        checkpoint.matrices  # noqa: B018
    return error.value.found


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", NAMES)
def test_other_weights_in_one_place(tmp_path, name, change):
    found = refused(tmp_path, again(name, change), llama_config(2))
    assert f"{name!r}" in found
    assert f"{UP!r}" in found
    assert "M1 of layer 1" in found


def test_one_template_twice_is_no_guess_either(tmp_path):
    found = refused(tmp_path, again(NAMES[0], CHANGES["one value"]), llama_config(2, model_type="new"))
    assert f"{NAMES[0]!r} and {UP!r} are M1 of layer 1" in found


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_tied(tmp_path, name):
    with opened(tmp_path, again(name, "same"), llama_config(2)) as checkpoint:
        (entry,) = checkpoint.skipped
        assert entry.kind == "tied"
        assert {entry.tensor.name, entry.reason.removeprefix("the same weights as ")} == {name, UP}
        assert len([m for m in checkpoint.matrices if m.layer == 1]) == 8


def test_a_whole_layer_under_two_prefixes(tmp_path):
    copy = {f"transformer.{name}": tensor.clone() for name, tensor in gpt2_tensors().items()}
    with opened(tmp_path / "same", {**gpt2_tensors(), **copy}, GPT2_CONFIG) as checkpoint:
        assert sum(entry.kind == "tied" for entry in checkpoint.skipped) == 10
        assert len(checkpoint.matrices) == 2 * 7 + 2
    copy["transformer.h.1.attn.c_attn.weight"][0, 0] += 1
    found = refused(tmp_path / "other", {**gpt2_tensors(), **copy}, GPT2_CONFIG)
    assert "'h.1.attn.c_attn.weight' and 'transformer.h.1.attn.c_attn.weight' are QKV of layer 1" in found


def test_two_embeddings_under_two_prefixes(tmp_path):
    found = refused(tmp_path, {**llama(0), "embed_tokens.weight": torch.randn(11, 8)}, llama_config(1))
    assert "'embed_tokens.weight' and 'model.embed_tokens.weight' are embedding, and not" in found


def test_old_and_new_spelling(tmp_path):
    """Q beside the fused weight that it was cut from: its bytes are others."""
    fused = torch.randn(24, 8)
    tensors = {"h.0.attn.c_attn.weight": fused, "h.0.attn.q.weight": fused[:8].clone()}
    family = tmp_path / "family.yaml"
    family.write_text(
        "name: mine\npatterns:\n"
        "- {template: 'h.{layer}.attn.c_attn.weight', group: QKV, layout: contiguous_thirds}\n"
        "- {template: 'h.{layer}.attn.q.weight', group: Q}\n"
    )
    found = refused(tmp_path / "model", tensors, family=str(family))
    assert "'h.0.attn.c_attn.weight' and 'h.0.attn.q.weight' are Q of layer 0" in found


def test_nan_equals_itself_and_large_tensors_are_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("weightscope.checkpoints.same._BLOCK_BYTES", 64)
    tensors = llama(0, 1)
    tensors[UP][3, 3] = torch.nan
    tensors[NAMES[0]] = tensors[UP].clone()
    with opened(tmp_path, tensors, llama_config(2)) as checkpoint:
        assert [entry.kind for entry in checkpoint.skipped] == ["tied"]


def test_a_live_module_is_compared_too():
    tensors = {**llama(0), **{f"module.{n}": t.clone() for n, t in llama_layer(0).items()}}
    with weightscope.open_checkpoint(tensors) as checkpoint:
        assert {entry.kind for entry in checkpoint.skipped} == {"tied"}
    tensors["module.model.layers.0.mlp.up_proj.weight"] += 1
    with weightscope.open_checkpoint(tensors) as checkpoint, pytest.raises(FamilyMismatch, match="Both"):
        checkpoint.matrices  # noqa: B018
