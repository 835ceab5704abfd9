"""Experts of a layer: how many there are, by shape, router and config; and whether all are there."""

import re

import pytest
import torch

import weightscope
from tests.factories import write_checkpoint
from weightscope.errors import FamilyMismatch, SelectionError, UnknownFamily
from weightscope.families.spec import FamilySpec, Group, MatrixPattern

D, INNER, EXPERTS = 8, 5, 3
MIXTRAL = {"model_type": "mixtral", "num_local_experts": EXPERTS}


def attention(layer):
    return {f"{layer}self_attn.{name}_proj.weight": torch.randn(D, D) for name in "qkvo"}


def mixtral(layers=2, experts=EXPERTS):
    """Its names on disk, one Linear an expert."""
    tensors = {}
    for number in range(layers):
        layer = f"model.layers.{number}."
        tensors |= attention(layer)
        tensors[f"{layer}block_sparse_moe.gate.weight"] = torch.randn(experts, D)
        for expert in range(experts):
            name = f"{layer}block_sparse_moe.experts.{expert}."
            tensors |= {f"{name}w{i}.weight": torch.randn(INNER, D) for i in (1, 3)}
            tensors[f"{name}w2.weight"] = torch.randn(D, INNER)
    return tensors


def gpt_oss(experts=EXPERTS, routed=EXPERTS):
    layer = "model.layers.0."
    return {
        **attention(layer),
        f"{layer}mlp.router.weight": torch.randn(routed, D),
        f"{layer}mlp.experts.gate_up_proj": torch.randn(experts, D, 2 * INNER),
        f"{layer}mlp.experts.down_proj": torch.randn(experts, INNER, D),
    }


def dbrx(experts=EXPERTS, *, router=True):
    layer = "transformer.blocks.0."
    tensors = {
        f"{layer}norm_attn_norm.attn.Wqkv.weight": torch.randn(3 * D, D),
        f"{layer}norm_attn_norm.attn.out_proj.weight": torch.randn(D, D),
        **{f"{layer}ffn.experts.mlp.{name}": torch.randn(experts * INNER, D) for name in ("w1", "v1", "w2")},
    }
    return tensors | ({f"{layer}ffn.router.layer.weight": torch.randn(EXPERTS, D)} if router else {})


def without(tensors, *ends):
    return {name: value for name, value in tensors.items() if not name.endswith(ends)}


WRONG = {
    "one expert is missing": (
        without(mixtral(), "1.block_sparse_moe.experts.1.w3.weight"), MIXTRAL,
        "Expert 1 of layer 1 lacks M1, which other experts have",
    ),
    "the last is missing": (
        without(mixtral(), *(f"layers.0.block_sparse_moe.experts.2.w{i}.weight" for i in (1, 2, 3))), MIXTRAL,
        "Layer 0 lacks expert 2 of 3",
    ),
    "the last of one role is missing, and no config": (
        without(mixtral(), "0.block_sparse_moe.experts.2.w2.weight"), {"model_type": "mixtral"},
        "Expert 2 of layer 0 lacks M2, which other experts have",
    ),
    "more than stated": (
        mixtral(), {**MIXTRAL, "num_local_experts": 2}, "It has 3 experts, and the config says 2"
    ),
    "shape against config": (
        gpt_oss(), {"model_type": "gpt_oss", "num_local_experts": 4},
        "contradictory: its shape makes 3, the router chooses among 3, the config says 4",
    ),
    "shape against router": (
        gpt_oss(routed=5), {"model_type": "gpt_oss"}, "its shape makes 3, the router chooses among 5"
    ),
    "neither tells": (
        dbrx(router=False), {"model_type": "dbrx", "n_heads": 2, "n_layers": 1},
        "told neither by the shape, nor by a router, nor by the config",
    ),
    "router against config": (
        dbrx(), {"model_type": "dbrx", "n_heads": 2, "ffn_config": {"moe_num_experts": 5}},
        "the router chooses among 3, the config says 5",
    ),
    "rows do not divide": (
        without(dbrx(), "w1") | {"transformer.blocks.0.ffn.experts.mlp.w1": torch.randn(16, D)},
        {"model_type": "dbrx", "n_heads": 2}, "16 rows do not divide into 3 experts",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tensors", "config", "found"), WRONG.values(), ids=WRONG)
def test_what_is_missing_or_contradictory_is_an_error(tmp_path, tensors, config, found):
    with (
        weightscope.open_checkpoint(write_checkpoint(tmp_path, tensors, config)) as checkpoint,
        pytest.raises(FamilyMismatch, match=re.compile(found, re.DOTALL)),
    ):
        _ = checkpoint.matrices


@pytest.mark.parametrize(
    ("tensors", "config"),
    [
        (gpt_oss(), {"model_type": "gpt_oss"}),
        (dbrx(), {"model_type": "dbrx", "n_heads": 2}),
        (dbrx(router=False), {"model_type": "dbrx", "n_heads": 2, "ffn_config": {"moe_num_experts": 3}}),
        (mixtral(experts=1), {"model_type": "mixtral"}),
        (gpt_oss(experts=1, routed=1), {"model_type": "gpt_oss"}),
    ],
)
def test_one_of_shape_router_and_config_is_enough(tmp_path, tensors, config):
    folder = write_checkpoint(tmp_path, tensors, config)
    with weightscope.open_checkpoint(folder) as checkpoint:
        numbers = [m.expert for m in checkpoint.matrices if m.layer == 0 and m.group == Group.M2]
        assert numbers in (["0"], ["0", "1", "2"])
        parts = [checkpoint.matrix(layer=0, group="M2", expert=number) for number in numbers]
        assert {tuple(part.shape) for part in parts} == {(D, INNER)}


def test_numbers_of_a_made_up_shape_take_no_time():
    """A header may claim any shape; as many matrices are not made."""
    tensors = gpt_oss() | {"model.layers.0.mlp.experts.down_proj": torch.zeros(1, 1, 1).expand(10**9, 1, 1)}
    tensors = without(tensors, "router.weight")
    with (
        weightscope.open_checkpoint(tensors, family="gpt_oss") as checkpoint,
        pytest.raises(FamilyMismatch, match="1,000,000,000 experts are beyond any model"),
    ):
        _ = checkpoint.matrices


def test_parts_of_one_tensor_are_read_alone(tmp_path):
    folder = write_checkpoint(tmp_path, gpt_oss(), {"model_type": "gpt_oss"})
    with weightscope.open_checkpoint(folder) as checkpoint:
        before = checkpoint.source.received_bytes
        checkpoint.matrix(layer=0, group="M2", expert="1")
        assert checkpoint.source.received_bytes - before == 4 * D * INNER


@pytest.mark.parametrize("strided", [False, True])
def test_a_live_tensor_of_any_strides(strided):
    tensors = gpt_oss()
    if strided:
        tensors = {name: value.mT.contiguous().mT for name, value in tensors.items()}
    table = weightscope.analyze(tensors, family="gpt_oss", groups=["M1", "G", "M2"]).table
    stored = tensors["model.layers.0.mlp.experts.gate_up_proj"]
    for row in table.itertuples():
        if row.group == "M2":
            expected = tensors["model.layers.0.mlp.experts.down_proj"][int(row.expert)]
        else:
            expected = stored[int(row.expert)][:, (0 if row.group == "G" else 1) :: 2]
        assert row.frobenius_norm == pytest.approx(float(expected.double().norm()), rel=1e-12)
        assert (row.out_features, row.in_features) == tuple(expected.T.shape)


def test_a_template_with_a_number_holds_no_other_experts():
    with pytest.raises(UnknownFamily, match="two numbers"):
        MatrixPattern(template="h.{layer}.{expert}.w", group=Group.M1, expert="shared")


def test_users_describe_experts_in_a_family(tmp_path):
    spec = FamilySpec(
        name="mine",
        patterns=(
            MatrixPattern(template="l.{layer}.up", group=Group.M1, expert="stacked"),
            MatrixPattern(template="l.{layer}.all.weight", group=Group.M1, expert="shared"),
        ),
    )
    tensors = {"l.0.up": torch.randn(11, 4, 3), "l.0.all.weight": torch.randn(4, 3)}
    folder = write_checkpoint(tmp_path, tensors, None)
    with weightscope.open_checkpoint(folder, family=spec) as checkpoint:
        assert [m.expert for m in checkpoint.matrices] == [*map(str, range(11)), "shared"]
        assert torch.equal(checkpoint.matrix(expert="10"), tensors["l.0.up"][10])


def test_an_expert_by_its_number_or_its_name(tmp_path):
    with weightscope.open_checkpoint(write_checkpoint(tmp_path, mixtral(), MIXTRAL)) as checkpoint:
        key = {"layer": 1, "group": "M1"}
        assert torch.equal(checkpoint.matrix(**key, expert=2), checkpoint.matrix(**key, expert="2"))
        with pytest.raises(SelectionError, match="With the rest of it, expert is 0, 1 and 2"):
            checkpoint.matrix(**key, expert=3)
