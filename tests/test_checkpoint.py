"""`open_checkpoint`: matrices by key, only their own bytes, truncated SVD."""

import pytest
import torch

import weightscope
from tests.factories import gpt2_tensors, write_gpt2
from weightscope.errors import SelectionError


@pytest.fixture
def checkpoint(tmp_path):
    with weightscope.open_checkpoint(write_gpt2(tmp_path, shards=2)) as opened:
        yield opened


def test_a_matrix_by_its_key(checkpoint):
    stored = gpt2_tensors()["h.1.attn.c_attn.weight"]
    assert torch.equal(checkpoint.matrix(layer=1, group="K"), stored[:, 8:16].T)
    assert torch.equal(checkpoint.matrix(layer=1, group="QKV", attention_kind="self"), stored.T)
    assert torch.equal(checkpoint.matrix(parameter="wte.weight"), gpt2_tensors()["wte.weight"])


def test_only_its_own_tensor_is_read(checkpoint):
    checkpoint.matrix(layer=1, group="K")
    assert checkpoint.source.received_bytes == 8 * 24 * 4


def test_what_is_there(checkpoint):
    assert checkpoint.config["model_type"] == "gpt2"
    assert set(checkpoint.tensors) == set(gpt2_tensors())
    assert len(checkpoint.matrices) == 2 * 7 + 2
    assert sorted(entry.tensor.name for entry in checkpoint.skipped) == ["h.0.attn.bias", "h.1.attn.bias"]


def test_truncated_svd(checkpoint):
    matrix = checkpoint.matrix(layer=0, group="M1").double()
    whole = checkpoint.svd(layer=0, group="M1")
    torch.testing.assert_close(whole.U * whole.S @ whole.Vh, matrix, rtol=0, atol=1e-12)
    top = checkpoint.svd(layer=0, group="M1", k=3)
    assert (top.U.shape, top.S.shape, top.Vh.shape) == ((32, 3), (3,), (3, 8))
    assert torch.linalg.matrix_norm(matrix - top.U * top.S @ top.Vh, 2).item() == pytest.approx(
        whole.S[3].item()
    )


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ({"layer": 9, "group": "Q"}, "None has it.*With the rest of it, layer is 0 and 1"),
        ({"group": "Q"}, "2 matrices have it"),
        ({"group": "X"}, "groups are"),
    ],
)
def test_keys_that_single_out_nothing(checkpoint, key, found):
    with pytest.raises(SelectionError, match=found):
        checkpoint.matrix(**key)


def test_every_source_gives_the_same_matrix(tmp_path):
    folder = write_gpt2(tmp_path)
    expected = gpt2_tensors()["h.0.mlp.c_fc.weight"].T
    config = {"model_type": "gpt2"}
    module = torch.nn.Module()
    module.config = config
    for name, tensor in gpt2_tensors().items():
        *path, leaf = name.split(".")
        parent = module
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, torch.nn.Module())
            parent = getattr(parent, part)
        parent.register_buffer(leaf, tensor)
    sources = [folder, str(folder), folder / "model.safetensors", gpt2_tensors(), module]
    for source in sources:
        with weightscope.open_checkpoint(source) as checkpoint:
            assert checkpoint.detection.spec.name == "gpt2"
            assert torch.equal(checkpoint.matrix(layer=0, group="M1"), expected)
