"""Each family against transformers' own modules: names, orientation, split, completeness."""

import pytest
import torch
import transformers as hf

import weightscope
from tests.factories import write_checkpoint
from tests.oracles import singular_values
from tests.parity.models import CASES, FEED_FORWARD, HEADS, HIDDEN, LAYERS, Case, build
from weightscope.families.layouts import LAYOUTS

GROUPS = ["Q", "K", "V", "O", "M1", "M2"]


def assert_same_weights(checkpoint: weightscope.Checkpoint, model: hf.PreTrainedModel, case: Case) -> None:
    for layer in range(LAYERS):
        expected = case.weights(model, layer)
        for group in GROUPS:
            torch.testing.assert_close(
                checkpoint.matrix(layer=layer, group=group), expected[group].detach(), rtol=0, atol=0
            )
        stacked = torch.cat([expected["Q"], expected["K"], expected["V"]]).detach()
        torch.testing.assert_close(checkpoint.matrix(layer=layer, group="QKV"), stacked, rtol=0, atol=0)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def saved(request, tmp_path):
    case = request.param
    model = build(case)
    model.save_pretrained(tmp_path, max_shard_size="12KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1, "the model must be sharded for this test"
    return case, model, tmp_path


def test_matrices_are_the_modules_weights(saved):
    case, model, folder = saved
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert checkpoint.detection.spec.name == case.family
        assert_same_weights(checkpoint, model, case)


def test_every_tensor_is_accounted_for(saved):
    _, _, folder = saved
    with weightscope.open_checkpoint(folder) as checkpoint:
        used = {part.tensor.name for matrix in checkpoint.matrices for part in matrix.slices}
        skipped = {entry.tensor.name for entry in checkpoint.skipped}
        two_dimensional = {name for name, info in checkpoint.tensors.items() if len(info.shape) >= 2}
        assert used | skipped == two_dimensional
        assert not used & skipped
        assert not skipped
        in_layers = [matrix for matrix in checkpoint.matrices if matrix.layer is not None]
        assert len(in_layers) == 7 * LAYERS


def test_live_module_gives_the_same_table(saved):
    _, model, folder = saved
    from_disk = weightscope.analyze(folder).table
    from_module = weightscope.analyze(model).table
    numbers = [name for name in from_disk.columns if from_disk[name].dtype.kind == "f"]
    assert (from_disk[numbers].to_numpy() == from_module[numbers].to_numpy()).all()
    assert from_disk["group"].tolist() == from_module["group"].tolist()


def test_spectral_norms_are_those_of_the_modules(saved):
    case, model, folder = saved
    table = weightscope.analyze(folder).table.set_index(["layer", "group"])
    for layer in range(LAYERS):
        for group, weight in case.weights(model, layer).items():
            row = table.loc[(layer, group)]
            assert row["spectral_norm"] == pytest.approx(singular_values(weight)[0], rel=1e-6)
            assert (row["out_features"], row["in_features"]) == tuple(weight.shape)


def swapped(rows, counts):
    parts = thirds(rows, counts)
    return {"Q": parts["Q"], "K": parts["V"], "V": parts["K"]}


def interleaved(rows, counts):
    head = HIDDEN // HEADS
    starts = range(0, rows, 3 * head)
    return {
        group: tuple(range(start + i * head, start + (i + 1) * head) for start in starts)
        for i, group in enumerate("QKV")
    }


thirds = LAYOUTS["contiguous_thirds"]


@pytest.mark.parametrize("wrong", [swapped, interleaved])
def test_a_wrong_split_fails(monkeypatch, tmp_path, wrong):
    case = next(case for case in CASES if case.name == "gpt2_with_head")
    model = build(case)
    model.save_pretrained(tmp_path)
    monkeypatch.setitem(LAYOUTS, "contiguous_thirds", wrong)
    with weightscope.open_checkpoint(tmp_path) as checkpoint, pytest.raises(AssertionError):
        assert_same_weights(checkpoint, model, case)


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


@pytest.mark.parametrize("kv_heads", [HEADS, 1])
@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_old_phi_spelling_by_formula(tmp_path, kv_heads, prefix):
    """transformers cannot load this spelling: Wqkv is put together here as [Q; K; V]."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    head, tensors, expected = HIDDEN // HEADS, {}, {}
    for layer in range(LAYERS):
        q, k, v = (
            random(HIDDEN, HIDDEN),
            3 * random(kv_heads * head, HIDDEN),
            9 * random(kv_heads * head, HIDDEN),
        )
        o, m1, m2 = random(HIDDEN, HIDDEN), random(FEED_FORWARD, HIDDEN), random(HIDDEN, FEED_FORWARD)
        names = {"mixer.Wqkv": torch.cat([q, k, v]), "mixer.out_proj": o, "mlp.fc1": m1, "mlp.fc2": m2}
        tensors |= {f"{prefix}h.{layer}.{name}.weight": weight for name, weight in names.items()}
        expected[layer] = {"Q": q, "K": k, "V": v, "O": o, "M1": m1, "M2": m2}
    config = {"model_type": "phi-msft", "n_head": HEADS, "n_head_kv": kv_heads, "n_layer": LAYERS}
    write_checkpoint(tmp_path, tensors, config, shards=2)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == "phi-msft"
        for layer, weights in expected.items():
            for group, weight in weights.items():
                assert torch.equal(checkpoint.matrix(layer=layer, group=group), weight)
