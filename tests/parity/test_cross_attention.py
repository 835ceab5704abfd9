"""GPT-2, BERT and its relatives as decoders of an encoder. GPT-2's is judged by what attention receives."""

from types import SimpleNamespace

import pytest
import torch
import transformers as hf

import weightscope
from tests.parity.models import HEADS, HIDDEN, LAYERS, VOCABULARY, build
from weightscope.families.layouts import LAYOUTS

SIZES = {"vocab_size": VOCABULARY, "n_embd": HIDDEN, "n_head": HEADS, "n_inner": 37, "n_layer": LAYERS}
MODELS = {"with_head": hf.GPT2LMHeadModel, "bare": hf.GPT2Model}


@pytest.fixture(params=MODELS)
def model(request):
    settings = hf.GPT2Config(
        **SIZES, n_positions=20, add_cross_attention=True, bos_token_id=0, eos_token_id=0
    )
    return build(SimpleNamespace(build=lambda: MODELS[request.param](settings)))


@torch.no_grad()
def received(model):
    """For each layer and kind of attention what goes into its projections, and Q, K and V by head."""
    found = {}

    def capture(module, query, key, value, *args, **kwargs):
        found[module.layer_idx, module.is_cross_attention]["QKV"] = (query, key, value)
        return torch.zeros_like(query).transpose(1, 2), None

    hf.AttentionInterface.register("capture", capture)
    model.set_attn_implementation("capture")
    for layer, block in enumerate(model.base_model.h):
        for cross, attention in ((False, block.attn), (True, block.crossattention)):
            inputs = found.setdefault((layer, cross), {})
            for name in ("q_attn", "c_attn"):
                if hasattr(attention, name):
                    getattr(attention, name).register_forward_pre_hook(
                        lambda _, args, inputs=inputs, name=name: inputs.__setitem__(name, args[0])
                    )
    generator = torch.Generator().manual_seed(0)
    model(torch.arange(5)[None], encoder_hidden_states=torch.randn(1, 7, HIDDEN, generator=generator))
    return found


def assert_receives(checkpoint, model):
    for (layer, cross), inputs in received(model).items():
        for group, heads in zip("QKV", inputs["QKV"], strict=True):
            kind = "cross" if cross else "self"
            weight = checkpoint.matrix(layer=layer, attention_kind=kind, group=group)
            x = inputs["q_attn" if cross and group == "Q" else "c_attn"]
            by_head = (x @ weight.T).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            torch.testing.assert_close(by_head, heads, rtol=1e-4, atol=1e-4 * float(heads.abs().max()))


def test_both_attentions(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="12KB")
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == "gpt2"
        assert checkpoint.notes == ()
        assert not checkpoint.skipped
        assert_receives(checkpoint, model)
        for layer, block in enumerate(model.base_model.h):
            for kind, attention in (("self", block.attn), ("cross", block.crossattention)):
                found = checkpoint.matrix(layer=layer, attention_kind=kind, group="O")
                assert torch.equal(found, attention.c_proj.weight.T)
            assert torch.equal(checkpoint.matrix(layer=layer, group="M1"), block.mlp.c_fc.weight.T)
        kinds = {(m.attention_kind, str(m.group)) for m in checkpoint.matrices if m.layer is not None}
        attention = {("cross", group) for group in "QKVO"} | {
            ("self", g) for g in ("Q", "K", "V", "O", "QKV")
        }
        assert kinds == attention | {("", "M1"), ("", "M2")}
    from_disk, live = weightscope.analyze(tmp_path).table, weightscope.analyze(model).table
    assert (from_disk["spectral_norm"] == live["spectral_norm"]).all()


def test_names_alone(model, tmp_path):
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == "gpt2"
        assert_receives(checkpoint, model)


def test_inside_a_model_of_no_known_family(model, tmp_path):
    """As beside an encoder of pictures: Q, K and V of the cross attention are guessed."""
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vision-encoder-and-decoder"}')
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == "unknown"
        for layer, block in enumerate(model.base_model.h):
            key, value = block.crossattention.c_attn.weight.T.split(HIDDEN)
            query = block.crossattention.q_attn.weight.T
            for group, weight in (("Q", query), ("K", key), ("V", value)):
                found = checkpoint.matrix(layer=layer, attention_kind="cross", group=group)
                assert torch.equal(found, weight)


def test_value_before_key_does_not_pass(model, tmp_path, monkeypatch):
    right = LAYOUTS["key_then_value"]

    def wrong(rows, counts):
        parts = right(rows, counts)
        return {"K": parts["V"], "V": parts["K"]}

    monkeypatch.setitem(LAYOUTS, "key_then_value", wrong)
    model.save_pretrained(tmp_path)
    with weightscope.open_checkpoint(tmp_path) as checkpoint, pytest.raises(AssertionError):
        assert_receives(checkpoint, model)


SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_attention_heads": HEADS, "intermediate_size": 37,
    "num_hidden_layers": LAYERS, "is_decoder": True, "add_cross_attention": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (hf.BertLMHeadModel, hf.BertConfig),
        (hf.RobertaForCausalLM, hf.RobertaConfig),
        (hf.ElectraForCausalLM, hf.ElectraConfig),
    ],
)
def test_encoders_as_decoders(kind, config, tmp_path):
    model = build(SimpleNamespace(build=lambda: kind(config(**SMALL))))
    model.save_pretrained(tmp_path)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.notes == ()
        for layer, block in enumerate(model.base_model.encoder.layer):
            for attention_kind, attention in (("self", block.attention), ("cross", block.crossattention)):
                parts = {
                    "Q": attention.self.query, "K": attention.self.key, "V": attention.self.value,
                    "O": attention.output.dense,
                }  # fmt: skip
                for group, part in parts.items():
                    found = checkpoint.matrix(layer=layer, attention_kind=attention_kind, group=group)
                    assert torch.equal(found, part.weight)
        of_layers = [m for m in checkpoint.matrices if m.group == "other" and ".layer." in m.parameter]
        assert of_layers == []
