"""Model types that came later, against transformers' own modules: one test each."""

from types import SimpleNamespace

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

import weightscope
from tests.factories import write_checkpoint
from tests.parity import probe
from tests.parity.formula import by_formula
from tests.parity.models import HIDDEN, build
from tests.parity.more_cases import MORE
from tests.parity.more_pair_cases import reader
from tests.parity.test_families import assert_same_weights
from weightscope.errors import FamilyMismatch
from weightscope.families.layouts import LAYOUTS, PARTS

ROLES = {"Q", "K", "V", "O", "QKV", "M1", "G", "M2"}


@pytest.mark.parametrize("case", MORE, ids=lambda case: case.name)
def test_a_model_type(case, tmp_path):
    """Every matrix of every layer is the module's; every tensor is accounted for, once."""
    model = build(case)
    model.save_pretrained(tmp_path, max_shard_size="12KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == case.family
        assert_same_weights(checkpoint, model, case)
        used = {part.tensor.name for matrix in checkpoint.matrices for part in matrix.slices}
        skipped = {entry.tensor.name for entry in checkpoint.skipped}
        assert used | skipped == {name for name, info in checkpoint.tensors.items() if len(info.shape) >= 2}
        assert not used & skipped
        assert {entry.kind for entry in checkpoint.skipped} <= {"buffer", "bias"}
        roles = [matrix for matrix in checkpoint.matrices if matrix.group in ROLES]
        assert len(roles) == len(case.expected(model))
        unnamed = {m.parameter for m in checkpoint.matrices if m.group in ("other", "conv")}
        assert {name for name in unnamed if not name.endswith(case.others)} == set()
        assert {name for name in case.others if not any(p.endswith(name) for p in unnamed)} == set()
        assert checkpoint.notes == ()
    with weightscope.open_checkpoint(model) as live:  # by the names it has in memory
        assert live.detection.spec.name == case.family
        assert_same_weights(live, model, case)
        assert live.notes == ()


def exchanged(right):
    """The right layout with its first two parts taken for each other."""

    def layout(rows, counts):
        parts = dict(right(rows, counts))
        one, other, *_ = parts
        parts[one], parts[other] = parts[other], parts[one]
        return parts

    return layout


FUSED = {
    "gpt_neox_japanese": "interleaved_by_head",
    "glm4": "gate_then_up",
    "nomic_bert": "contiguous_thirds",
    "dinov2": "gate_then_up",
    "qwen2_vl": "contiguous_thirds",
    "qwen2_5_vl": "contiguous_thirds",
    "qwen3_vl": "contiguous_thirds",
    "blip": "contiguous_thirds",
}


@pytest.mark.parametrize("family", FUSED)
def test_another_layout_does_not_pass(monkeypatch, tmp_path, family):
    case = [case for case in MORE if case.family == family][-1]
    model = build(case)
    model.save_pretrained(tmp_path)
    right = FUSED[family]
    others = () if right in PARTS else ("interleaved_by_head", "contiguous_thirds")
    for wrong in (exchanged(LAYOUTS[right]), *(LAYOUTS[name] for name in others if name != right)):
        with monkeypatch.context() as patch:
            patch.setitem(LAYOUTS, right, wrong)
            with (
                weightscope.open_checkpoint(tmp_path) as checkpoint,
                pytest.raises((AssertionError, FamilyMismatch)),
            ):
                assert_same_weights(checkpoint, model, case)


def renamed(case_name, folder, *names):
    """A case's model, saved with parts of its names replaced."""
    case = next(case for case in MORE if case.name == case_name)
    model = build(case)
    model.save_pretrained(folder / "new")
    tensors = load_file(folder / "new" / "model.safetensors")
    for old, new in names:
        assert any(old in name for name in tensors)
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    return case, model, write_checkpoint(folder / "old", tensors, model.config.to_dict())


@by_formula("wav2vec2")
def test_the_weight_norm_of_old_files(tmp_path):
    norm = (
        ("parametrizations.weight.original0", "weight_g"),
        ("parametrizations.weight.original1", "weight_v"),
    )
    case, model, folder = renamed("wav2vec2_HubertForCTC", tmp_path, *norm)
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert_same_weights(checkpoint, model, case)
        positions = checkpoint.matrix(parameter="hubert.encoder.pos_conv_embed.conv.weight_v")
        direction = model.hubert.encoder.pos_conv_embed.conv.parametrizations.weight.original1
        assert torch.equal(positions, direction.detach().flatten(1))
        assert [entry.kind for entry in checkpoint.skipped] == ["bias"]
        assert checkpoint.notes == ()


@by_formula("vit_mae")
def test_the_drawing_half_as_the_hub_names_it(tmp_path):
    names = ("decoder.decoder_encoder.layer.", "decoder.decoder_layers.")
    case, model, folder = renamed("vit_mae_ViTMAEForPreTraining", tmp_path, names)
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert_same_weights(checkpoint, model, case)
        assert checkpoint.notes == ()


def test_gpt2_that_writes_about_pictures(tmp_path):
    """Judged as GPT-2 is alone: by what attention receives, and Conv1D turned round."""
    sizes = {"vocab_size": 31, "n_embd": HIDDEN, "n_head": 6, "n_layer": 2, "n_positions": 20, "n_inner": 37}
    case = SimpleNamespace(build=lambda: reader(hf.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)))
    model = build(case)
    model.save_pretrained(tmp_path, max_shard_size="12KB")
    seen = torch.randn(HIDDEN, 1, HIDDEN)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == "vision-encoder-decoder"
        assert checkpoint.notes == ()
        for layer, block in enumerate(model.decoder.transformer.h):
            expected = probe.attention_receives(
                lambda tokens: model.decoder(tokens, encoder_hidden_states=seen),
                block.attn.c_attn,
                block.attn.c_proj,
                HIDDEN,
            )
            linears = {"O": block.attn.c_proj, "M1": block.mlp.c_fc, "M2": block.mlp.c_proj}
            expected |= {group: module.weight.T for group, module in linears.items()}
            place = {"stack": "decoder", "layer": layer}
            for group, weight in expected.items():
                kind = {"attention_kind": "self"} if group in "QKVO" else {}
                found = checkpoint.matrix(**place, **kind, group=group)
                torch.testing.assert_close(found, weight.detach(), rtol=0, atol=0)
            cross = block.crossattention
            expected = dict(zip("KV", cross.c_attn.weight.T.chunk(2), strict=True))
            expected |= {"Q": cross.q_attn.weight.T, "O": cross.c_proj.weight.T}
            for group, weight in expected.items():
                assert torch.equal(checkpoint.matrix(**place, attention_kind="cross", group=group), weight)


@pytest.mark.parametrize("stem", ["XLM", "Flaubert"])
def test_attention_and_feed_forward_parts_in_two_lists(tmp_path, stem):
    sizes = {"emb_dim": HIDDEN, "n_heads": 6, "n_layers": 3, "n_words": 31, "vocab_size": 31}
    sizes |= {"max_position_embeddings": 20, "pad_token_id": 0, "pad_index": 0}
    config = getattr(hf, f"{stem}Config")(**sizes)
    model = build(SimpleNamespace(build=lambda: getattr(hf, f"{stem}WithLMHeadModel")(config)))
    model.save_pretrained(tmp_path, max_shard_size="12KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == "xlm"
        assert checkpoint.notes == checkpoint.skipped == ()
        assert "other" not in {matrix.group for matrix in checkpoint.matrices}
        for layer in range(3):
            attention, part = model.transformer.attentions[layer], model.transformer.ffns[layer]
            expected = {name: getattr(attention, f"{name.lower()}_lin") for name in "QKV"}
            expected |= {"O": attention.out_lin, "M1": part.lin1, "M2": part.lin2}
            for group, module in expected.items():
                assert torch.equal(checkpoint.matrix(layer=layer, group=group), module.weight)
