"""From headers to matrices: completeness, reasons, contradictions."""

import pytest
import torch

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint
from weightscope.errors import FamilyMismatch


def opened(folder, tensors, config=GPT2_CONFIG):
    return weightscope.open_checkpoint(write_checkpoint(folder, tensors, config))


EXTRA = {
    "mask of integers": (
        "extra.ids",
        torch.zeros(2, 3, dtype=torch.int64),
        "integer values (I64), not weights",
    ),
    "booleans": ("extra.mask", torch.zeros(2, 3, dtype=torch.bool), "boolean values (BOOL), not weights"),
    "complex": ("extra.z", torch.zeros(2, 3, dtype=torch.complex64), "complex values (C64), not weights"),
    "empty": ("extra.empty", torch.zeros(0, 3), "empty: shape [0, 3]"),
    "three dimensions": ("extra.w", torch.zeros(2, 3, 4), "three dimensions whose roles no family describes"),
}


@pytest.mark.parametrize(("name", "tensor", "reason"), EXTRA.values(), ids=EXTRA)
def test_what_is_no_matrix_is_skipped_with_a_reason(tmp_path, name, tensor, reason):
    with opened(tmp_path, {**gpt2_tensors(), name: tensor}) as checkpoint:
        assert [entry.reason for entry in checkpoint.skipped if entry.tensor.name == name] == [reason]


def test_masks_of_gpt2_are_buffers(tmp_path):
    with opened(tmp_path, gpt2_tensors()) as checkpoint:
        assert {e.tensor.name: (e.reason, e.kind) for e in checkpoint.skipped} == {
            f"h.{layer}.attn.bias": ("causal mask kept as a buffer", "buffer") for layer in range(2)
        }


@pytest.mark.parametrize(
    ("shape", "flat"),
    [((5, 3, 3, 3), (5, 27)), ((5, 3, 7), (5, 21)), ((5, 3, 2, 2, 2), (5, 24))],
    ids=["2d", "1d", "3d"],
)
def test_convolutions_are_flattened(tmp_path, shape, flat):
    weight = torch.randn(*shape)
    with opened(tmp_path, {**gpt2_tensors(), "stem.conv.weight": weight}) as checkpoint:
        found = checkpoint.find(group="conv")
        assert found.shape == flat
        assert torch.equal(checkpoint.matrix(group="conv"), weight.reshape(flat))


def test_two_tensors_for_one_place_are_refused(tmp_path):
    tensors = gpt2_tensors()
    tensors |= {f"transformer.{name}": tensor for name, tensor in gpt2_tensors(seed=1).items()}
    with (
        opened(tmp_path, tensors) as checkpoint,
        pytest.raises(FamilyMismatch, match=r"Both .* are QKV of layer 0"),
    ):
        checkpoint.matrices  # noqa: B018


def test_a_fused_weight_that_does_not_divide_is_refused(tmp_path):
    tensors = {**gpt2_tensors(), "h.0.attn.c_attn.weight": torch.randn(8, 25)}
    with (
        opened(tmp_path, tensors) as checkpoint,
        pytest.raises(FamilyMismatch, match="25 rows do not divide into three"),
    ):
        checkpoint.matrices  # noqa: B018


def test_a_known_weight_with_other_dimensions_is_skipped(tmp_path):
    tensors = {**gpt2_tensors(), "h.0.mlp.c_fc.weight": torch.randn(2, 8, 32)}
    with opened(tmp_path, tensors) as checkpoint:
        (entry,) = [entry for entry in checkpoint.skipped if entry.kind == "skipped"]
        assert entry.reason == "3 dimensions where the family's '{prefix}h.{layer}.mlp.c_fc.weight' has 2"


def test_order_of_the_table(tmp_path):
    with opened(tmp_path, gpt2_tensors(layers=11), GPT2_CONFIG | {"n_layer": 11}) as checkpoint:
        found = [(matrix.layer, str(matrix.group)) for matrix in checkpoint.matrices]
    block = ["Q", "K", "V", "O", "QKV", "M1", "M2"]
    assert found == [(layer, group) for layer in range(11) for group in block] + [
        (None, "embedding"),
        (None, "position"),
    ]


def test_names_wrapped_by_data_parallel_and_compile(tmp_path):
    tensors = {f"module._orig_mod.{name}": tensor for name, tensor in gpt2_tensors().items()}
    with opened(tmp_path, tensors) as checkpoint:
        assert checkpoint.find(layer=1, group="Q").shape == (8, 8)
