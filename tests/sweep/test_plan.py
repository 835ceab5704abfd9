"""The plan: each byte once, in file order, under the budget, a pure function."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import weightscope
from tests.factories import write_checkpoint, write_gpt2
from weightscope.families.spec import DEFAULT_GROUPS
from weightscope.sweep.plan import plan_sweep


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    with weightscope.open_checkpoint(
        write_gpt2(tmp_path_factory.mktemp("gpt2"), layers=4, shards=3)
    ) as opened:
        yield opened


@given(budget=st.integers(1, 100_000))
def test_every_matrix_once_and_every_tensor_once(checkpoint, budget):
    plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=budget)
    assert sorted(m.sort_key for m in plan.matrices) == [m.sort_key for m in checkpoint.matrices]
    read = [info.name for step in plan.steps for info in step.tensors]
    assert len(read) == len(set(read))
    assert plan.read_bytes == sum(checkpoint.tensors[name].nbytes for name in read)
    for step in plan.steps:
        held = {info.name for info in step.tensors}
        used = {part.tensor.name for stack in step.stacks for m in stack.matrices for part in m.slices}
        assert used == held
        assert step.read_bytes <= budget or len({stack.matrices for stack in step.stacks}) == 1


def test_steps_follow_the_file(checkpoint):
    order = list(checkpoint.tensors)
    plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=1)
    firsts = [order.index(step.tensors[0].name) for step in plan.steps]
    assert firsts == sorted(firsts)
    assert len(plan.steps) == 4 * 4 + 2  # c_attn, c_proj, c_fc, c_proj of four layers; wte, wpe


def test_only_selected_tensors_are_read(checkpoint):
    chosen = [m for m in checkpoint.matrices if m.group == "M1" and m.layer == 2]
    plan = plan_sweep(chosen, checkpoint.tensors)
    assert [info.name for step in plan.steps for info in step.tensors] == ["h.2.mlp.c_fc.weight"]


def test_same_inputs_same_plan(checkpoint):
    chosen = [m for m in checkpoint.matrices if m.group in DEFAULT_GROUPS]
    assert plan_sweep(chosen, checkpoint.tensors) == plan_sweep(chosen, checkpoint.tensors)


def test_a_whole_is_stacked_with_its_parts(checkpoint):
    plan = plan_sweep(checkpoint.matrices, checkpoint.tensors)
    stacks = [stack for step in plan.steps for stack in step.stacks]
    wholes = [stack for stack in stacks if stack.whole]
    assert len(wholes) == 4
    assert len(stacks) == 4 * 4 + 2
    for stack in wholes:
        assert [str(matrix.group) for matrix in stack.matrices] == ["Q", "K", "V", "QKV"]


def test_parts_that_do_not_make_up_the_whole_stay_alone(checkpoint):
    chosen = [m for m in checkpoint.matrices if m.layer == 0 and m.group in ("Q", "V", "QKV")]
    (step,) = plan_sweep(chosen, checkpoint.tensors).steps
    assert [(stack.whole, len(stack.parts)) for stack in step.stacks] == [(None, 1)] * 3


def test_separate_tensors_are_stacked_too(tmp_path):
    names = [f"encoder.layer.0.attention.self.{name}.weight" for name in ("query", "key", "value")]
    tensors = {name: torch.randn(6, 8) for name in names}
    with weightscope.open_checkpoint(write_checkpoint(tmp_path, tensors), family="bert") as checkpoint:
        (step,) = plan_sweep(checkpoint.matrices, checkpoint.tensors).steps
        (stack,) = step.stacks
        assert [str(matrix.group) for matrix in stack.matrices] == ["Q", "K", "V", "QKV"]


def test_nothing_selected_is_an_empty_plan(checkpoint):
    plan = plan_sweep([], checkpoint.tensors)
    assert plan.steps == ()
    assert plan.read_bytes == 0
