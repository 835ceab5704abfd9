"""Mamba: no attention and no feed-forward part, and that is said."""

import json
from operator import attrgetter
from types import SimpleNamespace

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file
from typer.testing import CliRunner

import weightscope
from tests.factories import write_checkpoint
from tests.parity.models import FEED_FORWARD, HIDDEN, LAYERS, VOCABULARY, build
from weightscope.cli.app import app

SIZES = {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS}
SIZES |= {
    "intermediate_size": FEED_FORWARD,
    "state_size": 5,
    "time_step_rank": 3,
    "tie_word_embeddings": False,
}
MODELS = {
    "with_head": (hf.MambaForCausalLM, hf.MambaConfig),
    "bare": (hf.MambaModel, hf.MambaConfig),
    "falcon_with_head": (hf.FalconMambaForCausalLM, hf.FalconMambaConfig),
}


@pytest.fixture(params=MODELS)
def saved(request, tmp_path):
    kind, config = MODELS[request.param]
    model = build(SimpleNamespace(build=lambda: kind(config(**SIZES))))
    model.save_pretrained(tmp_path, max_shard_size="12KB")
    return model, tmp_path


def assert_the_modules_weights(checkpoint, model):
    for layer, block in enumerate(model.base_model.layers):
        linears = {
            name: getattr(block.mixer, name).weight for name in ("in_proj", "x_proj", "dt_proj", "out_proj")
        }
        expected = {f"{name}.weight": ("other", weight) for name, weight in linears.items()}
        expected["A_log"] = ("other", block.mixer.A_log)
        expected["conv1d.weight"] = ("conv", block.mixer.conv1d.weight.flatten(1))
        found = {m.parameter.split("mixer.")[1]: m for m in checkpoint.matrices if m.layer == layer}
        assert found.keys() == expected.keys()
        for name, (group, weight) in expected.items():
            assert (str(found[name].group), found[name].attention_kind) == (group, "")
            assert torch.equal(checkpoint.matrix(parameter=found[name].parameter), weight)


def test_matrices_are_the_modules_weights(saved):
    model, folder = saved
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert checkpoint.detection.spec.name == "mamba"
        assert_the_modules_weights(checkpoint, model)
        assert not checkpoint.skipped
        assert len(checkpoint.notes) == 1
        assert "no attention" in checkpoint.notes[0]
        ends = {str(m.group) for m in checkpoint.matrices if m.layer is None}
        assert ends <= {"embedding", "unembedding"}
    from_disk, live = (weightscope.analyze(source, groups="all").table for source in (folder, model))
    assert (from_disk["spectral_norm"] == live["spectral_norm"]).all()
    assert (from_disk["layer"].dropna() == live["layer"].dropna()).all()


@pytest.mark.parametrize("options", [[], ["--groups", "all"]], ids=["default", "all"])
def test_analyze_exits_0_and_says_so(saved, options, tmp_path):
    _, folder = saved
    result = CliRunner().invoke(app, ["analyze", str(folder), "--out", str(tmp_path / "report"), *options])
    assert result.exit_code == 0
    assert "no attention" in " ".join(result.output.split())
    assert "over :" not in result.output


def test_names_of_the_first_files(tmp_path):
    """They say embedding, their config has no model_type, and names decide."""
    model = build(SimpleNamespace(build=lambda: hf.MambaForCausalLM(hf.MambaConfig(**SIZES))))
    state = {name.replace("embeddings", "embedding"): w for name, w in model.state_dict().items()}
    write_checkpoint(tmp_path, state, {"d_model": HIDDEN, "n_layer": LAYERS, "vocab_size": VOCABULARY})
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == "mamba"
        assert_the_modules_weights(checkpoint, model)


OTHERS = {
    "mamba2": (
        hf.Mamba2ForCausalLM,
        hf.Mamba2Config(**SIZES, num_heads=6, head_dim=8, n_groups=1),
        ("mixer.in_proj", "mixer.out_proj", "mixer.conv1d"),
        "mamba",
    ),
    "rwkv": (
        hf.RwkvForCausalLM,
        hf.RwkvConfig(
            vocab_size=VOCABULARY,
            hidden_size=HIDDEN,
            attention_hidden_size=20,
            intermediate_size=FEED_FORWARD,
            num_hidden_layers=LAYERS,
            context_length=20,
        ),
        (
            *(f"attention.{name}" for name in ("receptance", "key", "value", "output")),
            *(f"feed_forward.{name}" for name in ("receptance", "key", "value")),
        ),
        "rwkv",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_have_no_attention_either(name, tmp_path):
    kind, config, paths, family = OTHERS[name]
    model = build(SimpleNamespace(build=lambda: kind(config)))
    model.save_pretrained(tmp_path, max_shard_size="12KB")
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == family
        assert len(checkpoint.notes) == 1
        assert "no attention" in checkpoint.notes[0]
        assert {entry.kind for entry in checkpoint.skipped} <= {"bias"}
        for layer, block in enumerate(getattr(model.base_model, "blocks", None) or model.base_model.layers):
            found = [m for m in checkpoint.matrices if m.layer == layer]
            assert {str(m.group) for m in found} <= {"other", "conv"}
            assert len(found) == len(paths)
            for path in paths:
                (matrix,) = (m for m in found if m.parameter.endswith(f"{path}.weight"))
                weight = attrgetter(path)(block).weight.flatten(1)
                assert torch.equal(checkpoint.matrix(parameter=matrix.parameter), weight)


def test_a_state_space_model_that_is_not_known_has_no_attention_either(tmp_path):
    config = hf.Mamba2Config(**SIZES, num_heads=6, head_dim=8, n_groups=1)
    hf.Mamba2ForCausalLM(config).save_pretrained(tmp_path / "known")
    stated = json.loads((tmp_path / "known" / "config.json").read_text())
    tensors = load_file(tmp_path / "known" / "model.safetensors")
    write_checkpoint(tmp_path, tensors, {**stated, "model_type": "mamba9"})
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == "unknown"
        groups = {str(matrix.group) for matrix in checkpoint.matrices}
        assert groups == {"embedding", "unembedding", "conv", "other"}
