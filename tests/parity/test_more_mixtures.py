"""Later mixtures and hybrids against transformers' own modules: one test each, by both names they have."""

from types import SimpleNamespace

import pytest
import torch
import transformers as hf

import weightscope
from tests.factories import write_checkpoint
from tests.parity import probe
from tests.parity.mixtures import computed, part, roles
from tests.parity.models import HEADS, HIDDEN, build
from tests.parity.more_mixtures import LINEAR_ATTENTION, MORE_MIXTURES
from tests.parity.more_text_cases import WIDE_HEADS
from tests.parity.test_mixtures import further_tokens, inputs


def assert_computes(checkpoint, activation, layer, expert, module):
    """What the matrices of a feed-forward part compute is what the module does."""
    found = {
        str(m.group): checkpoint.matrix(layer=layer, group=str(m.group), expert=expert)
        for m in checkpoint.matrices
        if (m.layer, m.expert) == (layer, expert) and m.group in ("G", "M1", "M2")
    }
    x = inputs(found["M1"])
    gate = x @ found["G"].T if "G" in found else None
    with torch.no_grad():
        expected = module(x[None])[0]
    got = activation(gate, x @ found["M1"].T) @ found["M2"].T
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def assert_query(checkpoint, model, layer, block):
    """Q of a projection that holds a gate too."""
    projection = block.self_attn.q_proj
    query, _ = projection.weight.detach().unflatten(0, (HEADS, 2, -1)).unbind(1)
    assert torch.equal(checkpoint.matrix(layer=layer, group="Q"), query.flatten(0, 1))
    # In attention it is the query that is normalised, head by head.
    seen = []
    with (
        probe.hooks(block.self_attn.q_norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))),
        probe.hooks(projection.register_forward_pre_hook(lambda *_: (torch.eye(HIDDEN).unsqueeze(1),))),
        torch.no_grad(),
    ):
        model(torch.arange(HIDDEN)[:, None])
    assert torch.equal(seen[0].reshape(HIDDEN, -1).T, query.flatten(0, 1))


@pytest.mark.parametrize("name", MORE_MIXTURES)
def test_a_model_type(name, tmp_path):
    mixture = MORE_MIXTURES[name]
    model = build(mixture)
    for parameter, weight in model.named_parameters():
        if parameter.endswith("_bias"):
            torch.nn.init.zeros_(weight)
    for old in (True, False):
        folder = tmp_path / str(old)
        model.save_pretrained(folder, max_shard_size="20KB", save_original_format=old)
        assert len(list(folder.glob("*.safetensors"))) > 1
        with weightscope.open_checkpoint(folder) as checkpoint:
            assert checkpoint.detection.spec.name == mixture.family
            used = {part.tensor.name for matrix in checkpoint.matrices for part in matrix.slices}
            skipped = {entry.tensor.name: entry.kind for entry in checkpoint.skipped}
            assert used | skipped.keys() == {n for n, i in checkpoint.tensors.items() if len(i.shape) >= 2}
            assert set(skipped.values()) <= {"bias"}
            unnamed = {m.parameter for m in checkpoint.matrices if m.group in ("other", "conv")}
            assert {n for n in unnamed if not n.endswith(mixture.others)} == set()
            assert {end for end in mixture.others if not any(n.endswith(end) for n in unnamed)} == set()
            assert checkpoint.notes == ()
            checked = 0
            for layer, block in enumerate(mixture.blocks(model)):
                there = {(str(m.group), m.expert) for m in checkpoint.matrices if m.layer == layer}
                for group, weight in roles(mixture, block).items():
                    assert torch.equal(checkpoint.matrix(layer=layer, group=group), weight.detach())
                    there -= {(group, "")}
                if ("Q", "") in there:
                    assert_query(checkpoint, model, layer, block)
                experts = part(block, mixture.experts)
                if experts is not None:
                    router = part(block, mixture.router)
                    assert torch.equal(checkpoint.matrix(layer=layer, group="router"), router.weight.detach())
                    for number in range(len(experts.down_proj)):
                        module = lambda x, n=number, e=experts: computed(e, n, x[0])[None]  # noqa: E731
                        assert_computes(checkpoint, mixture.activation, layer, str(number), module)
                        checked += 1
                for path, expert in ((mixture.shared, "shared"), (mixture.dense, "")):
                    if ("M1", expert) in there:
                        assert_computes(checkpoint, mixture.activation, layer, expert, part(block, path))
                        checked += 1
                left = {(group, expert) for group, expert in there if not expert}
                assert left <= {(g, "") for g in ("Q", "QKV", "G", "M1", "M2", "other", "conv", "router")}
            assert checked >= len(mixture.blocks(model)) - (3 if name == "nemotron_h" else 0)


@pytest.mark.parametrize("stem", ["Qwen3_5", "Qwen3_5Moe"])
def test_the_tower_of_vision_beside_a_hybrid(tmp_path, stem):
    """Qwen3.5: its text is judged above, and its tower here."""
    text = {**WIDE_HEADS, **LINEAR_ATTENTION, "layer_types": ["linear_attention"] * 2 + ["full_attention"]}
    vision = {"hidden_size": 16, "depth": 2, "num_heads": 4, "patch_size": 2, "intermediate_size": 41}
    vision |= {"out_hidden_size": HIDDEN, "num_position_embeddings": 16}
    if stem == "Qwen3_5Moe":
        text |= {"num_experts": 3, "moe_intermediate_size": 7, "shared_expert_intermediate_size": 11}
        text |= {"num_experts_per_tok": 2}
    config = getattr(hf, f"{stem}Config")(text_config=text, vision_config=vision)
    kind = getattr(hf, f"{stem}ForConditionalGeneration")
    model = build(SimpleNamespace(build=lambda: kind._from_config(config, attn_implementation="eager")))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == config.model_type
        for layer, block in enumerate(model.model.visual.blocks):
            expected = probe.alone_receives(block.attn, block.attn.qkv)
            expected |= {"O": block.attn.proj.weight}
            expected |= {"M1": block.mlp.linear_fc1.weight, "M2": block.mlp.linear_fc2.weight}
            for group, weight in expected.items():
                assert torch.equal(checkpoint.matrix(stack="vision", layer=layer, group=group), weight)
        last = model.model.language_model.layers[2]
        assert torch.equal(
            checkpoint.matrix(stack="decoder", layer=2, group="K"), last.self_attn.k_proj.weight
        )
        assert checkpoint.notes == ()


def test_the_block_of_further_tokens_is_apart(tmp_path):
    model = build(MORE_MIXTURES["glm4_moe"])
    tensors, further = further_tokens(model)
    folder = write_checkpoint(tmp_path, {**tensors, **further}, model.config.to_dict())
    with weightscope.open_checkpoint(folder) as checkpoint:
        of_layers = {m.parameter for m in checkpoint.matrices if m.stack == "mtp" and m.group != "QKV"}
        assert of_layers == {n for n, tensor in further.items() if tensor.dim() >= 2}
        assert {m.layer for m in checkpoint.matrices if m.stack == "decoder"} == {0, 1, 2}
        assert checkpoint.notes == ()
