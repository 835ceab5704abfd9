"""open_clip's names: transformers does not load them. Judged by torch's own attention, run forward."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

import weightscope
from tests.factories import write_checkpoint
from tests.parity.formula import by_formula
from tests.parity.test_wrong_layouts import WRONG
from weightscope.errors import FamilyMismatch
from weightscope.families.layouts import LAYOUTS

WIDTH = {"text": 24, "vision": 28}
HEADS = {"text": 6, "vision": 4}
DEPTH = {"text": 3, "vision": 2}
EMBEDDED = 14


def block(stack):
    """A residual block of CLIP's own code, in its names."""
    width = WIDTH[stack]
    mlp = OrderedDict(c_fc=nn.Linear(width, width + 13), gelu=nn.GELU(), c_proj=nn.Linear(width + 13, width))
    parts = {"attn": nn.MultiheadAttention(width, HEADS[stack], batch_first=True), "mlp": nn.Sequential(mlp)}
    return nn.ModuleDict(parts)


def tower(stack):
    layers = nn.ModuleList(block(stack) for _ in range(DEPTH[stack]))
    return nn.ModuleDict({"transformer": nn.ModuleDict({"resblocks": layers})})


def saved(folder, prefix="", config=None):
    torch.manual_seed(0)
    towers = {"text": tower("text"), "vision": tower("vision")}
    with torch.no_grad():
        for position, weight in enumerate(p for one in towers.values() for p in one.parameters()):
            if weight.dim() == 2:
                weight.copy_(torch.randn_like(weight) * 1.2 ** (position % 7))
                if weight.shape[0] == 3 * weight.shape[1]:  # Q, K and V at scales of their own
                    weight *= torch.tensor([0.2, 0.5, 1.1]).repeat_interleave(weight.shape[1])[:, None]
            else:
                weight.zero_()
    containers = {"text": prefix, "vision": "visual."}
    tensors = {
        f"{containers[stack]}{name}": weight
        for stack, one in towers.items()
        for name, weight in one.state_dict().items()
    }
    rest = {
        f"{prefix}token_embedding.weight": torch.randn(31, 24),
        f"{prefix}positional_embedding": torch.randn(20, 24),
        f"{prefix}text_projection": torch.randn(24, EMBEDDED),
        f"{prefix}attn_mask": torch.ones(20, 20).triu(1),
        "visual.positional_embedding": torch.randn(17, 28),
        "visual.class_embedding": torch.randn(28),
        "visual.conv1.weight": torch.randn(28, 3, 2, 2),
        "visual.proj": torch.randn(28, EMBEDDED),
        "logit_scale": torch.tensor(1.0),
    }
    write_checkpoint(folder, {**tensors, **rest}, config, shards=2)
    return towers, {**tensors, **rest}


def assert_attention_is_torchs(checkpoint, towers):
    """What torch's module answers is what the split matrices answer, head by head."""
    for stack, one in towers.items():
        for layer, parts in enumerate(one["transformer"]["resblocks"]):
            matrices = {
                group: checkpoint.matrix(stack=stack, layer=layer, group=group)
                for group in ("Q", "K", "V", "O", "QKV", "M1", "M2")
            }
            inputs = torch.randn(2, 5, WIDTH[stack], generator=torch.Generator().manual_seed(1))
            with torch.no_grad():
                expected, _ = parts["attn"](inputs, inputs, inputs, need_weights=False)
            query, key, value = (
                (inputs @ matrices[group].T).unflatten(-1, (HEADS[stack], -1)).transpose(1, 2)
                for group in "QKV"
            )
            attended = nn.functional.scaled_dot_product_attention(query, key, value)
            found = attended.transpose(1, 2).flatten(2) @ matrices["O"].T
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
            assert torch.equal(matrices["M1"], parts["mlp"].c_fc.weight)
            assert torch.equal(matrices["M2"], parts["mlp"].c_proj.weight)


CONFIGS = {
    "none": None,
    "without model_type": {"architecture": "ViT-B-32", "logit_scale_init_value": 2.6592},
    "open_clip's": {
        "embed_dim": EMBEDDED,
        "vision_cfg": {"layers": 2, "width": 28, "head_width": 7},
        "text_cfg": {"layers": 3, "heads": 6},
    },
    "transformers'": {
        "model_type": "clip",
        "text_config": {"num_hidden_layers": 3, "num_attention_heads": 6},
        "vision_config": {"num_hidden_layers": 2, "num_attention_heads": 4},
    },
}  # fmt: skip


@by_formula("open_clip")
@pytest.mark.parametrize("prefix", ["", "text."])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_split_is_what_torch_multiplies(tmp_path, config, prefix):
    towers, tensors = saved(tmp_path, prefix, config)
    with weightscope.open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.detection.spec.name == "open_clip"
        assert_attention_is_torchs(checkpoint, towers)
        used = {part.tensor.name for matrix in checkpoint.matrices for part in matrix.slices}
        assert [entry.tensor.name for entry in checkpoint.skipped] == [f"{prefix}attn_mask"]
        assert used == {name for name, weight in tensors.items() if weight.dim() > 1} - {f"{prefix}attn_mask"}
        by_name = {m.parameter: (str(m.group), m.shape) for m in checkpoint.matrices if m.layer is None}
        assert by_name == {
            f"{prefix}token_embedding.weight": ("embedding", (31, 24)),
            f"{prefix}positional_embedding": ("position", (20, 24)),
            f"{prefix}text_projection": ("other", (EMBEDDED, 24)),
            "visual.positional_embedding": ("position", (17, 28)),
            "visual.conv1.weight": ("conv", (28, 12)),
            "visual.proj": ("other", (EMBEDDED, 28)),
        }


@pytest.mark.parametrize("outer", [lambda config: config, lambda config: {"model_cfg": config}])
def test_sizes(tmp_path, outer):
    saved(tmp_path, config=outer(CONFIGS["open_clip's"]))
    text, vision = weightscope.inspect(tmp_path).stacks
    assert (text.heads, vision.heads) == (6, 4)
    assert (text.stack, text.layers, text.model_dimension, text.feed_forward_dimension) == ("text", 3, 24, 37)
    assert (vision.stack, vision.layers, vision.model_dimension) == ("vision", 2, 28)


def test_heads_that_contradict_a_tower(tmp_path):
    saved(tmp_path, config={**CONFIGS["transformers'"], "vision_config": {"num_attention_heads": 5}})
    with (
        weightscope.open_checkpoint(tmp_path) as checkpoint,
        pytest.raises(FamilyMismatch, match=r"visual.*config's 5 heads"),
    ):
        checkpoint.matrices  # noqa: B018


def test_depths_that_contradict_a_tower_are_said(tmp_path):
    saved(tmp_path, config={"model_cfg": {"vision_cfg": {"layers": 3}, "text_cfg": {"layers": 3}}})
    with weightscope.open_checkpoint(tmp_path, partial=True) as checkpoint:
        found = "config.json states 3 layers of stack 'vision', and the tensors have 2."
        assert checkpoint.notes[1:] == (f"Layer 2 is missing: {found}",)


@pytest.mark.parametrize(
    "wrong", [name for name in WRONG if name not in ("contiguous_thirds", "contiguous_qkv")]
)
def test_another_layout_does_not_pass(monkeypatch, tmp_path, wrong):
    towers, _ = saved(tmp_path, config=CONFIGS["transformers'"])
    right = LAYOUTS["contiguous_thirds"]
    monkeypatch.setitem(LAYOUTS, "contiguous_thirds", WRONG[wrong](right))
    with (
        weightscope.open_checkpoint(tmp_path) as checkpoint,
        pytest.raises((AssertionError, FamilyMismatch)),
    ):
        assert_attention_is_torchs(checkpoint, towers)
