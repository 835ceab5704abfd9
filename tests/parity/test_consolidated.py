"""Mistral's second file of the same weights, and Meta's names, which are the same."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import weightscope
from tests.factories import write_checkpoint
from tests.oracles import singular_values
from tests.parity.cases import CASES
from tests.parity.models import HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, build
from tests.parity.remote_code import REFERENCES
from tests.parity.test_families import assert_same_weights
from weightscope.errors import CheckpointFormatError

CASE = next(case for case in CASES if case.name == "mistral_with_head")
NAMES = {
    "model.embed_tokens": "tok_embeddings", "model.norm": "norm", "lm_head": "output",
    "self_attn.": "attention.", "q_proj": "wq", "k_proj": "wk", "v_proj": "wv", "o_proj": "wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2", "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm", "model.layers": "layers",
}  # fmt: skip
PARAMS = REFERENCES["consolidated"].config


def neighbours(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows as Mistral has them: what transformers turns in halves, in neighbouring pairs."""
    return weight.view(heads, 2, HEAD_DIM // 2, HIDDEN).transpose(1, 2).reshape(heads * HEAD_DIM, HIDDEN)


def consolidated(tensors):
    renamed = {}
    for name, tensor in tensors.items():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        if name.endswith(("wq.weight", "wk.weight")):
            tensor = neighbours(tensor, HEADS if "wq" in name else KV_HEADS)
        renamed[name] = tensor
    return renamed


@pytest.fixture
def both(tmp_path):
    """A folder as mistralai/Mistral-7B-v0.3 is: index and shards, and the same weights in one file."""
    model = build(CASE)
    model.save_pretrained(tmp_path, max_shard_size="12KB")
    tensors = {}
    for shard in tmp_path.glob("model-*.safetensors"):
        tensors |= load_file(shard)
    save_file(consolidated(tensors), tmp_path / "consolidated.safetensors")
    (tmp_path / "params.json").write_text(json.dumps(PARAMS))
    return model, tmp_path


def test_both_in_one_folder_are_read_once(both):
    model, folder = both
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert checkpoint.detection.spec.name == "mistral"
        assert checkpoint.notes == ("Also in the folder and not read: consolidated.safetensors.",)
        assert_same_weights(checkpoint, model, CASE)
        assert len({(m.layer, m.group, m.parameter) for m in checkpoint.matrices}) == len(checkpoint.matrices)


@pytest.mark.parametrize("config", [True, False], ids=["with_config", "params_alone"])
def test_alone(both, config):
    """The same spectra; Q and K have the same rows, in another order within each head."""
    model, folder = both
    for path in folder.glob("model*"):
        path.unlink()
    if not config:
        (folder / "config.json").unlink()
    with weightscope.open_checkpoint(folder) as checkpoint:
        assert checkpoint.detection.spec.name == "consolidated"
        assert (checkpoint.sizes.heads, checkpoint.sizes.kv_heads) == (HEADS, KV_HEADS)
        assert checkpoint.sizes.layers == LAYERS
        assert bool(checkpoint.notes) is not config
        for layer in range(LAYERS):
            for group, weight in CASE.weights(model, layer).items():
                found = checkpoint.matrix(layer=layer, group=group)
                if group in ("Q", "K"):
                    assert not torch.equal(found, weight)
                    assert singular_values(found) == pytest.approx(singular_values(weight), rel=1e-9)
                else:
                    assert torch.equal(found, weight)
        assert not {str(m.group) for m in checkpoint.matrices} & {"other", "conv"}


def test_metas_pickles(tmp_path):
    """consolidated.00.pth, with the sizes that the first LLaMA states and a vector of frequencies."""
    tensors = {**REFERENCES["consolidated"].tensors(), "rope.freqs": torch.ones(HEAD_DIM // 2)}
    torch.save(tensors, tmp_path / "consolidated.00.pth")
    stated = {"dim": HIDDEN, "multiple_of": 256, "n_heads": HEADS, "n_layers": LAYERS, "n_kv_heads": KV_HEADS}
    (tmp_path / "params.json").write_text(json.dumps({**stated, "vocab_size": -1}))
    with weightscope.open_checkpoint(tmp_path, allow_pickle=True) as checkpoint:
        assert checkpoint.detection.spec.name == "consolidated"
        assert checkpoint.sizes.kv_heads == KV_HEADS
        assert checkpoint.sizes.vocabulary is None
        assert "params.json" in " ".join(checkpoint.notes)
        assert torch.equal(checkpoint.matrix(layer=1, group="Q"), tensors["layers.1.attention.wq.weight"])
        assert checkpoint.assignment.buffers == {"rope.freqs"}


def test_parts_of_metas_larger_models_are_not_taken_for_the_whole(tmp_path):
    for part in range(2):
        torch.save(REFERENCES["consolidated"].tensors(), tmp_path / f"consolidated.{part:02}.pth")
    with pytest.raises(CheckpointFormatError, match="more than one checkpoint"):
        weightscope.open_checkpoint(tmp_path, allow_pickle=True)


def test_params_of_something_else_are_no_config(tmp_path):
    write_checkpoint(tmp_path, {"fc.weight": torch.randn(3, 4)})
    (tmp_path / "params.json").write_text("{nonsense")
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.config == {}
