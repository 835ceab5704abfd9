"""Mixtures of experts and latent attention against transformers' own modules, by both names they have."""

import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

import weightscope
from tests.factories import write_checkpoint
from tests.parity import probe
from tests.parity.mixtures import EXPERTS, MIXTURES, Mixture, computed, part, roles
from tests.parity.models import HEADS, HIDDEN, KV_HEADS, LAYERS, build
from tests.parity.test_consolidated import consolidated
from weightscope.errors import FamilyMismatch
from weightscope.families.layouts import LAYOUTS

SAVED = [
    pytest.param(name, old, id=f"{name}-{'old' if old else 'new'}")
    for name in MIXTURES
    for old in (True, False)
]


def saved(name: str, folder: Path, *, old: bool = True) -> tuple[Mixture, hf.PreTrainedModel]:
    """A model, sharded, by the names that files have or by those that it has in memory."""
    model = build(MIXTURES[name])
    for weight in (weight for name, weight in model.named_parameters() if name.endswith("_bias")):
        torch.nn.init.zeros_(weight)
    model.save_pretrained(folder, max_shard_size="30KB", save_original_format=old)
    assert len(list(folder.glob("*.safetensors"))) > 1
    return MIXTURES[name], model


def inputs(weight: torch.Tensor) -> torch.Tensor:
    """Some that leave activations neither dead nor at a limit, whatever the scale of the weights."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(5, HIDDEN, generator=generator, dtype=weight.dtype)
    return drawn / torch.linalg.matrix_norm(weight, 2)


def check_experts(checkpoint: weightscope.Checkpoint, model: hf.PreTrainedModel, mixture: Mixture) -> None:
    """What each expert computes, its matrices compute."""
    layers = 0
    for layer, block in enumerate(mixture.blocks(model)):
        experts = part(block, mixture.experts)
        if experts is None:
            continue
        layers += 1
        for number in range(EXPERTS):
            gate, up, down = (
                checkpoint.matrix(layer=layer, group=group, expert=str(number)) for group in ("G", "M1", "M2")
            )
            x = inputs(gate)
            with torch.no_grad():
                expected = computed(experts, number, x)
            found = mixture.activation(x @ gate.T, x @ up.T) @ down.T
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert layers


@pytest.mark.parametrize(("name", "old"), SAVED)
def test_experts_compute_what_theirs_do(tmp_path, name, old):
    mixture, model = saved(name, tmp_path, old=old)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == mixture.family
        check_experts(checkpoint, model, mixture)


@pytest.mark.parametrize(("name", "old"), SAVED)
def test_what_is_stored_apart_is_the_modules_weights(tmp_path, name, old):
    mixture, model = saved(name, tmp_path, old=old)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        for layer, block in enumerate(mixture.blocks(model)):
            expected = {(group, ""): weight for group, weight in roles(mixture, block).items()}
            if (router := part(block, mixture.router)) is not None:
                expected["router", ""] = router.weight
            for path, expert in ((mixture.shared, "shared"), (mixture.dense, "")):
                if getattr(part(block, path), "gate_proj", None) is not None:
                    mlp = part(block, path)
                    expected |= {
                        (group, expert): getattr(mlp, f"{linear}_proj").weight
                        for group, linear in (("G", "gate"), ("M1", "up"), ("M2", "down"))
                    }
            for (group, expert), weight in expected.items():
                found = checkpoint.matrix(layer=layer, group=group, expert=expert)
                torch.testing.assert_close(found, weight.detach(), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "old"), SAVED)
def test_every_tensor_is_accounted_for_once(tmp_path, name, old):
    mixture, model = saved(name, tmp_path, old=old)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        used = {part.tensor.name for matrix in checkpoint.matrices for part in matrix.slices}
        skipped = {entry.tensor.name: entry.kind for entry in checkpoint.skipped}
        assert used | skipped.keys() == {n for n, info in checkpoint.tensors.items() if len(info.shape) >= 2}
        assert not used & skipped.keys()
        assert set(skipped.values()) <= {"bias"}
        unnamed = {m.parameter for m in checkpoint.matrices if m.group in ("other", "conv")}
        assert {name for name in unnamed if not name.endswith(mixture.others)} == set()
        assert {name for name in mixture.others if not any(p.endswith(name) for p in unnamed)} == set()
        elements = sum(weight.numel() for weight in model.state_dict().values())
        assert weightscope.inspect(tmp_path).parameters == elements
        assert checkpoint.notes == ()


@pytest.mark.parametrize("name", MIXTURES)
def test_names_alone_mean_the_same(tmp_path, name):
    """Without a model_type another family of the same names may be taken, but no other matrices."""
    saved(name, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        expected = {
            (m.group, m.layer, m.expert, m.slices) for m in checkpoint.matrices if m.layer is not None
        }
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": None}))
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        found = {(m.group, m.layer, m.expert, m.slices) for m in checkpoint.matrices if m.layer is not None}
        assert found == expected
        assert "names decided" in " ".join(checkpoint.notes)


def further_tokens(model):
    """As the Hub has it: numbered on from the last layer, with an embedding and a head of its own."""
    tensors = dict(model.state_dict())
    last = {name: value for name, value in tensors.items() if name.startswith("model.layers.2.")}
    further = {name.replace(".layers.2.", ".layers.3."): 2 * value for name, value in last.items()}
    further |= {
        "model.layers.3.eh_proj.weight": torch.randn(HIDDEN, 2 * HIDDEN),
        "model.layers.3.embed_tokens.weight": torch.randn(31, HIDDEN),
        "model.layers.3.shared_head.head.weight": torch.randn(31, HIDDEN),
    }
    return tensors, further


@pytest.mark.parametrize("stated", ["num_hidden_layers", ""])
def test_the_block_of_further_tokens_is_apart(tmp_path, stated):
    _, model = saved("deepseek_v3", tmp_path)
    tensors, further = further_tokens(model)
    config = {key: value for key, value in model.config.to_dict().items() if stated or "layers" not in key}
    folder = write_checkpoint(tmp_path / "further", {**tensors, **further}, config)
    with weightscope.open_checkpoint(folder) as checkpoint:
        apart = {m.parameter for m in checkpoint.matrices if m.stack == "mtp"}
        assert apart == {name for name, value in further.items() if value.dim() >= 2}
        assert {m.layer for m in checkpoint.matrices if m.stack == "mtp"} == {3}
        assert {m.layer for m in checkpoint.matrices if m.stack == "decoder"} == {0, 1, 2}
        for group in ("KV_A", "K_R", "K_B", "V_B", "Q_B"):
            two = (
                checkpoint.matrix(stack="decoder", layer=2, group=group),
                checkpoint.matrix(stack="mtp", layer=3, group=group),
            )
            assert torch.equal(2 * two[0], two[1])
        assert checkpoint.notes == ()
    assert weightscope.inspect(folder).layers == 3


@pytest.mark.parametrize(
    ("stated", "gone", "found"),
    [
        (2, "no tensor", "config.json states 2 layers of stack .decoder., and the tensors have 3"),
        (4, "no tensor", "Layer 3 is missing: config.json states 4 layers of stack 'decoder'"),
        (3, "eh_proj", "config.json states 3 layers, and the tensors have 4"),
    ],
)
def test_a_count_that_the_block_of_further_tokens_contradicts(tmp_path, stated, gone, found):
    _, model = saved("deepseek_v3", tmp_path)
    tensors, further = further_tokens(model)
    left = {name: value for name, value in {**tensors, **further}.items() if gone not in name}
    config = {**model.config.to_dict(), "num_hidden_layers": stated}
    with pytest.raises(FamilyMismatch, match=found):
        weightscope.inspect(write_checkpoint(tmp_path / "further", left, config))


@pytest.mark.parametrize("name", MIXTURES)
def test_live_module_gives_the_same_table(tmp_path, name):
    _, model = saved(name, tmp_path)
    groups = ("Q", "K", "V", "O", "M1", "G", "M2", "Q_A", "K_B", "V_B", "KV_A", "K_R")
    from_disk = weightscope.analyze(tmp_path, groups=groups).table
    from_module = weightscope.analyze(model, groups=groups).table
    key = [
        "stack",
        "layer",
        "group",
        "expert",
        "out_features",
        "in_features",
        "frobenius_norm",
        "spectral_norm",
    ]
    assert from_disk[key].equals(from_module[key])
    experts = from_disk[(from_disk["group"] == "M1") & from_disk["expert"].str.isdecimal()]
    first = experts[experts["layer"] == experts["layer"].min()]
    assert first["expert"].tolist() == [str(number) for number in range(EXPERTS)]  # 10 after 9


def test_dbrx_splits_into_what_attention_multiplies(tmp_path):
    mixture, model = saved("dbrx", tmp_path)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        for layer, block in enumerate(mixture.blocks(model)):
            attention = block.norm_attn_norm.attn
            received = probe.attention_receives(model, attention.Wqkv, attention.out_proj, HIDDEN)
            for group in "KV":
                received[group] = probe.without_copies(received[group], KV_HEADS, HIDDEN // HEADS)
            for group, weight in received.items():
                found = checkpoint.matrix(layer=layer, group=group)
                torch.testing.assert_close(found, weight, rtol=0, atol=0)


def test_queries_are_told_from_the_gates_of_attention(tmp_path):
    _, model = saved("qwen3_next", tmp_path)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        check_gated_queries(checkpoint, model)


def check_gated_queries(checkpoint, model):
    attention = model.model.layers[3].self_attn
    gates = checkpoint.matrix(layer=3, group="other", parameter="model.layers.3.self_attn.q_proj.weight")
    attention.q_norm = attention.k_norm = torch.nn.Identity()
    received = probe.attention_receives(model, attention.q_proj, attention.o_proj, HIDDEN)
    found = checkpoint.matrix(layer=3, group="Q")
    torch.testing.assert_close(found, received["Q"], rtol=0, atol=0)
    assert found.shape == gates.shape
    assert checkpoint.matrix(layer=3, group="QKV").shape[0] == 10 * (HEADS + 2 * KV_HEADS)


@pytest.mark.parametrize("name", ["deepseek_v3", "deepseek_v3_one_query"])
def test_latent_attention_splits_into_what_it_multiplies(tmp_path, name):
    _, model = saved(name, tmp_path)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        for layer in range(LAYERS):
            check_latent_attention(checkpoint, model, layer)


def check_latent_attention(checkpoint, model, layer=0):
    attention = model.model.layers[layer].self_attn
    found = {group: checkpoint.matrix(layer=layer, group=group) for group in ("KV_A", "K_R", "K_B", "V_B")}
    latent, nope = attention.kv_lora_rank, attention.qk_nope_head_dim
    made = {}

    def keep(name):
        return lambda module, args, result=None: made.setdefault(name, args[0] if result is None else result)

    with probe.hooks(attention.kv_a_layernorm.register_forward_pre_hook(keep("latent"))):
        received = probe.attention_receives(model, attention.kv_a_proj_with_mqa, attention.o_proj, HIDDEN)
    torch.testing.assert_close(found["KV_A"], made["latent"].reshape(HIDDEN, latent).T, rtol=0, atol=0)
    # The shared rotary key is the end of every head's key, its rows in another order.
    rotary = received["K"].reshape(HEADS, -1, HIDDEN)[0, nope:]
    assert torch.equal(rotary.sort(dim=0).values, found["K_R"].sort(dim=0).values)

    from_latent = probe.attention_receives(model, attention.kv_b_proj, attention.o_proj, latent)
    keys = from_latent["K"].reshape(HEADS, -1, latent)[:, :nope].reshape(-1, latent)
    torch.testing.assert_close(found["K_B"], keys, rtol=0, atol=0)
    torch.testing.assert_close(found["V_B"], from_latent["V"], rtol=0, atol=0)


def test_consolidated_files_of_mixtral(tmp_path):
    """Mistral's own names, sizes in params.json; the experts compute what transformers' do."""
    mixture, model = saved("mixtral", tmp_path)
    renamed = {
        name.replace("block_sparse_moe.", "feed_forward."): tensor
        for shard in tmp_path.glob("*.safetensors")
        for name, tensor in consolidated(load_file(shard)).items()
    }
    folder = tmp_path / "alone"
    folder.mkdir()
    save_file(renamed, folder / "consolidated.safetensors")
    params = {"n_layers": LAYERS, "n_heads": HEADS, "n_kv_heads": KV_HEADS, "moe": {"num_experts": EXPERTS}}
    (folder / "params.json").write_text(json.dumps(params))
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert checkpoint.detection.spec.name == "consolidated"
        check_experts(checkpoint, model, mixture)
        router = checkpoint.matrix(layer=1, group="router")
        assert torch.equal(router, model.model.layers[1].mlp.gate.weight)
        assert not checkpoint.skipped
        assert {m.parameter for m in checkpoint.matrices if m.group == "other"} == set()


def in_two_halves(rows, counts):
    """All queries, then all gates."""
    return {"Q": (range(rows // 2),), "other": (range(rows // 2, rows),)}


def exchanged(layout, first, second):
    """A layout with two of its parts taken for each other."""

    right = LAYOUTS[layout]

    def wrong(rows, counts):
        parts = dict(right(rows, counts))
        parts[first], parts[second] = parts[second], parts[first]
        return parts

    return wrong


def rotary_first(rows, counts):
    """The rotary key, then the latent."""
    return {"K_R": (range(rows - counts.latent_rows),), "KV_A": (range(rows - counts.latent_rows, rows),)}


@pytest.mark.parametrize(
    ("layout", "wrong"),
    [
        ("query_then_gate_by_head", in_two_halves),
        ("query_then_gate_by_head", exchanged("query_then_gate_by_head", "Q", "other")),
        ("latent_then_rotary", rotary_first),
        ("key_then_value_by_head", exchanged("key_then_value_by_head", "K_B", "V_B")),
    ],
)
def test_another_layout_of_attention_does_not_pass(monkeypatch, tmp_path, layout, wrong):
    name = "qwen3_next" if layout == "query_then_gate_by_head" else "deepseek_v3"
    check = check_gated_queries if name == "qwen3_next" else check_latent_attention
    _, model = saved(name, tmp_path)
    monkeypatch.setitem(LAYOUTS, layout, wrong)
    with weightscope.open_checkpoint(tmp_path) as checkpoint, pytest.raises(AssertionError):
        check(checkpoint, model)


@pytest.mark.parametrize(
    ("name", "layout", "wrong"),
    [
        ("mixtral", "gate_then_up", "alternating_gate_and_up"),
        ("llama4", "gate_then_up", "alternating_gate_and_up"),
        ("gpt_oss", "alternating_gate_and_up", "gate_then_up"),
        ("gpt_oss_square", "alternating_gate_and_up", "gate_then_up"),
    ],
)
def test_another_layout_does_not_pass(monkeypatch, tmp_path, name, layout, wrong):
    mixture, model = saved(name, tmp_path, old=False)
    monkeypatch.setitem(LAYOUTS, layout, LAYOUTS[wrong])
    with weightscope.open_checkpoint(tmp_path) as checkpoint, pytest.raises(AssertionError):
        check_experts(checkpoint, model, mixture)


def test_experts_stored_the_other_way_round_do_not_pass(tmp_path):
    """GPT-OSS as wide as its gates: the weights of another orientation have the same shape."""
    mixture, model = saved("gpt_oss_square", tmp_path)
    with torch.no_grad():
        for block in model.model.layers:
            block.mlp.experts.down_proj.copy_(block.mlp.experts.down_proj.mT.clone())
    with weightscope.open_checkpoint(tmp_path) as checkpoint, pytest.raises(AssertionError):
        check_experts(checkpoint, model, mixture)
