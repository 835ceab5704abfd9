"""The plan: each byte once, in file order, under the budget, a pure function."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weightscope
from tests.factories import write_gpt2
from weightscope.families.spec import DEFAULT_GROUPS
from weightscope.sweep.plan import FLOAT64_BYTES, batch_bytes, plan_sweep


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
        for batch in step.batches:
            assert len({matrix.shape for matrix in batch}) == 1
            assert {part.tensor.name for matrix in batch for part in matrix.slices} <= held
            assert batch_bytes(batch) <= budget or len(batch) == 1


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


def test_working_memory_is_that_of_the_largest_step(checkpoint):
    plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=1)
    largest = 32 * 8 * FLOAT64_BYTES  # c_fc, larger than any third of c_attn; QKV is 24 x 8
    tensor = 32 * 8 * 4
    assert plan.working_bytes(with_spectrum=False) == tensor + largest
    assert plan.working_bytes(with_spectrum=True) == tensor + 3 * largest


def test_nothing_selected_is_an_empty_plan(checkpoint):
    plan = plan_sweep([], checkpoint.tensors)
    assert plan.steps == ()
    assert plan.read_bytes == plan.working_bytes(with_spectrum=True) == 0
