"""Which family: by config, by names, by wish, by guess."""

import pytest
import torch

import weightscope
from tests.factories import gpt2_tensors, write_checkpoint
from tests.families.made_up import llama
from weightscope.errors import FamilyMismatch


def opened(folder, tensors, config=None, **options):
    return weightscope.open_checkpoint(write_checkpoint(folder, tensors, config), **options)


def llama_tensors():
    names = {
        "self_attn.q_proj": (8, 8), "self_attn.k_proj": (4, 8), "self_attn.v_proj": (4, 8),
        "self_attn.o_proj": (8, 8), "mlp.gate_proj": (12, 8), "mlp.up_proj": (12, 8),
        "mlp.down_proj": (8, 12),
    }  # fmt: skip
    layers = {
        f"model.layers.{i}.{name}.weight": torch.randn(*s) for i in range(2) for name, s in names.items()
    }
    return {"model.embed_tokens.weight": torch.randn(11, 8), **layers, "lm_head.weight": torch.randn(11, 8)}


def test_config_decides(tmp_path):
    with opened(tmp_path, gpt2_tensors(), {"model_type": "gpt2", "n_layer": 2}) as checkpoint:
        assert checkpoint.detection.spec.name == "gpt2"
        assert checkpoint.notes == ()


def test_kimi_k2_is_deepseek_under_a_model_type_of_its_own(tmp_path):
    attention = {
        "q_a_proj": (5, 8), "q_b_proj": (10, 5), "kv_a_proj_with_mqa": (6, 8), "kv_b_proj": (14, 4),
        "o_proj": (8, 8),
    }  # fmt: skip
    tensors = {f"model.layers.0.self_attn.{name}.weight": torch.randn(*s) for name, s in attention.items()}
    config = {"model_type": "kimi_k2", "num_attention_heads": 2, "num_hidden_layers": 1}
    with opened(tmp_path, tensors, config) as checkpoint:
        assert checkpoint.detection.spec.name == "deepseek_v3"
        groups = {str(matrix.group) for matrix in checkpoint.matrices}
    assert groups == {"Q_A", "Q_B", "KV_A", "K_R", "K_B", "V_B", "O"}


def test_names_decide_without_a_config_and_it_is_said(tmp_path):
    with opened(tmp_path, gpt2_tensors()) as checkpoint:
        assert checkpoint.detection.spec.name == "gpt2"
        assert "no config.json" in " ".join(checkpoint.notes)


def fused(shape, name):
    """One layer of BLOOM's and Falcon's names, or of GPT-2's and GPT-BigCode's."""
    names = {"c_attn": ("h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_fc", "h.0.mlp.c_proj"),
             "query_key_value": ("h.0.self_attention.query_key_value", "h.0.self_attention.dense",
                                 "h.0.mlp.dense_h_to_4h", "h.0.mlp.dense_4h_to_h")}  # fmt: skip
    shapes = (shape, (12, 12), (20, 12), (12, 20))
    return {f"transformer.{n}.weight": torch.randn(*s) for n, s in zip(names[name], shapes, strict=True)}


@pytest.mark.parametrize(
    ("name", "shape", "families"),
    [("query_key_value", (18, 12), "bloom and falcon"), ("c_attn", (18, 12), "openai-gpt and gpt_bigcode")],
)
def test_names_of_several_families_that_need_a_config(tmp_path, name, shape, families):
    """None of them is blamed for what only one of them could have been told."""
    with pytest.raises(FamilyMismatch) as error:
        opened(tmp_path, fused(shape, name))
    assert families in error.value.found
    assert "How many heads there are is not known" in error.value.found
    assert "config.json beside the weights" in error.value.advice


def test_layers_of_two_families_without_a_config(tmp_path):
    """Names that several families share do not hide that one layer is another's."""
    tensors = {**llama(0, 1), **phi3_layer(2)}
    with pytest.raises(FamilyMismatch, match=r"names of family 'phi3', such as 'model\.layers\.2"):
        opened(tmp_path, tensors)


def phi3_layer(layer):
    shapes = {
        "self_attn.qkv_proj": (16, 8), "self_attn.o_proj": (8, 8), "mlp.gate_up_proj": (24, 8),
        "mlp.down_proj": (8, 12),
    }  # fmt: skip
    return {f"model.layers.{layer}.{name}.weight": torch.randn(*shape) for name, shape in shapes.items()}


def test_names_do_not_overrule_an_unregistered_model_type(tmp_path):
    """Others have GPT-2's names and store plain Linears: taken for GPT-2 they would be transposed."""
    with opened(tmp_path, gpt2_tensors(), {"model_type": "newer"}) as checkpoint:
        assert checkpoint.detection.spec.name == "unknown"
        assert "'newer' is not registered" in " ".join(checkpoint.notes)


def test_a_known_model_type_with_foreign_names_is_unknown(tmp_path):
    with opened(tmp_path, llama_tensors(), {"model_type": "gpt2"}) as checkpoint:
        assert checkpoint.detection.spec.name == "unknown"
        assert "no tensor has that family's names" in " ".join(checkpoint.notes)


def test_unknown_family_still_works_and_lists_each_guess(tmp_path):
    with opened(tmp_path, llama_tensors(), {"model_type": "new"}) as checkpoint:
        found = {(m.layer, str(m.group)) for m in checkpoint.matrices}
        groups = ["Q", "K", "V", "O", "QKV", "G", "M1", "M2"]
        expected = {(layer, group) for layer in range(2) for group in groups}
        assert found == expected | {(None, "embedding"), (None, "unembedding")}
        assert "model.layers.{layer}.mlp.gate_proj.weight -> G" in checkpoint.detection.guesses
        assert len(checkpoint.detection.guesses) == 9


def test_unknown_conv1d_is_turned_round(tmp_path):
    with opened(tmp_path, gpt2_tensors(), {"model_type": "new"}) as checkpoint:
        assert checkpoint.find(layer=0, group="QKV").shape == (24, 8)
        assert checkpoint.find(layer=0, group="M1").shape == (32, 8)
        assert [entry.reason for entry in checkpoint.skipped] == ["by its name a mask or bias buffer"] * 2


def test_nothing_in_layers_is_other(tmp_path):
    with opened(tmp_path, {"0.weight": torch.randn(3, 4), "2.weight": torch.randn(2, 3)}, {}) as checkpoint:
        assert [str(matrix.group) for matrix in checkpoint.matrices] == ["other", "other"]


def test_a_family_by_wish(tmp_path):
    with opened(tmp_path, gpt2_tensors(), {"model_type": "new"}, family="gpt2") as checkpoint:
        assert checkpoint.detection.spec.name == "gpt2"


def test_a_wish_that_fits_nothing(tmp_path):
    with pytest.raises(FamilyMismatch, match="None of its layer templates matches"):
        opened(tmp_path, gpt2_tensors(), family="bert")


def test_cross_attention_is_guessed_apart_and_not_stacked(tmp_path):
    names = {
        "decoder.block.0.layer.0.SelfAttention": "qkvo",
        "decoder.block.0.layer.1.EncDecAttention": "qkvo",
    }
    tensors = {
        f"{path}.{leaf}.weight": torch.randn(8, 8) for path, leaves in names.items() for leaf in leaves
    }
    with opened(tmp_path, tensors, {"model_type": "new"}) as checkpoint:
        kinds = {(m.attention_kind, str(m.group)) for m in checkpoint.matrices}
        assert ("self", "QKV") in kinds
        assert ("cross", "QKV") not in kinds
        assert {("cross", group) for group in "QKV"} <= kinds


def test_two_guesses_for_one_place_leave_the_second_as_other(tmp_path):
    tensors = {f"layers.0.{path}.q_proj.weight": torch.randn(4, 4) for path in ("one", "two")}
    with opened(tmp_path, tensors, {"model_type": "new"}) as checkpoint:
        assert [(m.layer, str(m.group)) for m in checkpoint.matrices] == [(0, "Q"), (None, "other")]


def test_what_is_not_guessed_is_said(tmp_path):
    tensors = {**llama_tensors(), "model.layers.0.extra.weight": torch.randn(3, 4)}
    with opened(tmp_path, tensors, {"model_type": "new"}) as checkpoint:
        assert (
            "No role was guessed for 1 tensor, such as 'model.layers.0.extra.weight'" in checkpoint.notes[-1]
        )


def test_the_first_names_of_llama_are_guessed_where_all_three_fit(tmp_path):
    def layers(**shapes):
        return {
            f"net.layers.{i}.ffn.{n}.weight": torch.randn(*s) for i in range(2) for n, s in shapes.items()
        }

    with opened(tmp_path / "three", layers(w1=(12, 8), w2=(8, 12), w3=(12, 8))) as checkpoint:
        assert [str(m.group) for m in checkpoint.matrices] == ["M1", "G", "M2"] * 2
        assert checkpoint.find(layer=1, group="G").parameter == "net.layers.1.ffn.w1.weight"
    with opened(tmp_path / "two", layers(w1=(12, 8), w2=(12, 8))) as checkpoint:
        assert {str(m.group) for m in checkpoint.matrices} == {"other"}
    with opened(tmp_path / "no gate", layers(w1=(12, 8), w2=(8, 12), w3=(8, 8))) as checkpoint:
        assert {str(m.group) for m in checkpoint.matrices} == {"other"}


def test_a_family_whose_names_they_are_is_named(tmp_path):
    """Others may store other things under these names: a hint, no more."""
    with opened(tmp_path, llama(0, 1), {"model_type": "llamo"}) as checkpoint:
        assert checkpoint.detection.spec.name == "unknown"
        assert "names are those of family 'llama': --family llama reads them so" in checkpoint.notes[0]


def test_adapters_that_are_not_merged_hide_nothing(tmp_path):
    """Peft puts what it adapts one level deeper."""
    tensors = {
        f"base_model.model.{n.replace('q_proj.', 'q_proj.base_layer.')}": t for n, t in llama(0, 1).items()
    }
    tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"] = torch.randn(2, 8)
    with opened(tmp_path, tensors, {"model_type": "llama"}) as checkpoint:
        assert checkpoint.find(layer=1, group="Q").shape == (8, 8)
        assert checkpoint.notes == ()
