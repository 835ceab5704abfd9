"""Each family against transformers' own modules: names, orientation, split, completeness."""

import pytest
import torch
import transformers as hf

import weightscope
from tests.oracles import singular_values
from tests.parity.cases import CASES
from tests.parity.models import HEADS, LAYERS, Case, build
from tests.parity.towers import TowerCase


def assert_same_weights(
    checkpoint: weightscope.Checkpoint, model: hf.PreTrainedModel, case: Case | TowerCase
) -> None:
    # What a model scales before attention was scaled back.
    rtol = 1e-6 if case.query_scale != 1 else 0
    for place, weight in case.expected(model):
        torch.testing.assert_close(checkpoint.matrix(**place), weight.detach(), rtol=rtol, atol=0)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def saved(request, tmp_path_factory):
    """Built once for the tests below, which only read it; pytest runs those of a case after one another."""
    case = request.param
    model, folder = build(case), tmp_path_factory.mktemp(case.name)
    model.save_pretrained(folder, max_shard_size="12KB")
    assert len(list(folder.glob("*.safetensors"))) > 1, "the model must be sharded for this test"
    return case, model, folder


@pytest.fixture(scope="module")
def from_disk(saved):
    """The table of what was saved."""
    return weightscope.analyze(saved[2]).table


def test_matrices_are_the_modules_weights(saved):
    case, model, folder = saved
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert checkpoint.detection.spec.name == case.family
        assert_same_weights(checkpoint, model, case)


def test_every_tensor_is_accounted_for(saved):
    case, model, folder = saved
    with weightscope.open_checkpoint(folder) as checkpoint:
        used = {part.tensor.name for matrix in checkpoint.matrices for part in matrix.slices}
        skipped = {entry.tensor.name for entry in checkpoint.skipped}
        two_dimensional = {name for name, info in checkpoint.tensors.items() if len(info.shape) >= 2}
        assert used | skipped == two_dimensional
        assert not used & skipped
        assert {entry.kind for entry in checkpoint.skipped} <= {"buffer"}
        in_layers = [m for m in checkpoint.matrices if m.layer is not None and m.group != "position"]
        assert len(in_layers) == len(case.expected(model))
        unnamed = {m.parameter for m in checkpoint.matrices if m.group in ("other", "conv")}
        assert {name for name in unnamed if not name.endswith(case.others)} == set()
        assert checkpoint.notes == ()


def test_live_module_gives_the_same_table(saved, from_disk):
    _, model, _ = saved
    from_module = weightscope.analyze(model).table
    numbers = [name for name in from_disk.columns if from_disk[name].dtype.kind == "f"]
    assert (from_disk[numbers].to_numpy() == from_module[numbers].to_numpy()).all()
    assert from_disk["group"].tolist() == from_module["group"].tolist()


def test_spectral_norms_are_those_of_the_modules(saved, from_disk):
    case, model, _ = saved
    for place, weight in case.expected(model):
        found = (from_disk[list(place)] == list(place.values())).all(axis=1)
        (row,) = from_disk[found].to_dict("records")
        assert row["spectral_norm"] == pytest.approx(singular_values(weight)[0], rel=1e-6)
        assert (row["out_features"], row["in_features"]) == tuple(weight.shape)


def test_gpt2_split_is_what_attention_receives(tmp_path):
    """Judged by a forward pass: the split rows give the queries, keys and values attention is called with."""
    case = next(case for case in CASES if case.name == "gpt2_bare")
    model = build(case)
    received = {}

    def capture(module, query, key, value, *args, **kwargs):
        received[module.layer_idx] = (query, key, value)
        return torch.zeros_like(query).transpose(1, 2), None

    hf.AttentionInterface.register("capture", capture)
    model.set_attn_implementation("capture")
    inputs = {}
    for layer, block in enumerate(model.h):
        block.attn.c_attn.register_forward_pre_hook(
            lambda _, args, layer=layer: inputs.__setitem__(layer, args[0])
        )
        torch.nn.init.zeros_(block.attn.c_attn.bias)
    with torch.no_grad():
        model(torch.arange(5)[None])
    model.save_pretrained(tmp_path)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        for layer in range(LAYERS):
            for group, heads in zip("QKV", received[layer], strict=True):
                projected = inputs[layer] @ checkpoint.matrix(layer=layer, group=group).T
                by_head = projected.unflatten(-1, (HEADS, -1)).transpose(1, 2)
                torch.testing.assert_close(by_head, heads, rtol=1e-4, atol=1e-5)
