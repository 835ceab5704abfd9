"""A stack's values: views where the parts lie one behind the other, which reading sees to; else a copy."""

import pytest
import torch

import weightscope
from tests.factories import GPT2_CONFIG, gpt2_tensors, write_checkpoint
from weightscope.spectra import compiled
from weightscope.spectra.workspace import Workspace
from weightscope.sweep.exact import exact_values
from weightscope.sweep.plan import plan_sweep
from weightscope.sweep.read_ahead import read_ahead
from weightscope.sweep.run import Seconds

CONFIG = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}


def llama(order, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    prefix = "model.layers.0.self_attn."
    return {
        f"{prefix}{letter}_proj.weight": torch.randn(32, 32, generator=generator).to(dtype)
        for letter in order
    }


def stacks(source, workspace, **options):
    """Each stack with its values, and the matrices as the checkpoint gives them."""
    with weightscope.open_checkpoint(source) as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, **options)
        for step, tensors in read_ahead(plan, checkpoint.source, Seconds()):
            for stack in step.stacks:
                expected = [checkpoint.matrix(layer=one.layer, group=one.group) for one in stack.matrices]
                yield stack, exact_values(stack, tensors, workspace), expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("order", ["qkv", "kqv", "vkq"])
def test_parts_are_the_matrices_and_the_whole_has_their_rows(tmp_path, order, dtype):
    folder = write_checkpoint(tmp_path, llama(order, dtype), CONFIG)
    workspace, seen = Workspace(torch.device("cpu")), 0
    for stack, values, expected in stacks(folder, workspace):
        for part, matrix in zip(values.parts, expected, strict=False):
            assert torch.equal(part.double(), matrix.double())
        if stack.whole:
            assert torch.equal(values.whole.double(), expected[-1].double())
            for part in values.parts:  # the whole and the parts are the same memory
                part.fill_(7)
            assert bool((values.whole == 7).all())
        as_stored = dtype in (torch.float32, torch.float64) or (
            dtype == torch.bfloat16 and compiled.available()
        )
        assert workspace.holds(values.parts[0]) != as_stored
        seen += 1
    assert seen


def test_a_fused_tensor_that_is_stored_transposed_is_a_view_too(tmp_path):
    folder = write_checkpoint(tmp_path, gpt2_tensors(layers=1), {**GPT2_CONFIG, "n_layer": 1})
    workspace = Workspace(torch.device("cpu"))
    for stack, values, expected in stacks(folder, workspace):
        assert not workspace.holds(values.parts[0])
        if stack.whole:
            assert values.whole.stride(0) == 1
            assert torch.equal(values.whole, expected[-1])


def test_tensors_apart_in_memory_are_copied_together():
    state = llama("qkv")
    workspace = Workspace(torch.device("cpu"))
    for stack, values, expected in stacks(state, workspace):
        assert workspace.holds(values.parts[0]) == (stack.whole is not None)
        for part, matrix in zip(values.parts, expected, strict=False):
            assert torch.equal(part, matrix)


def test_heads_of_a_fused_tensor_that_lie_apart_are_copied_together(tmp_path):
    """Bloom's rows go Q, K, V within each head."""
    config = {"model_type": "bloom", "hidden_size": 32, "n_head": 4, "n_layer": 1}
    fused = torch.randn(96, 32, generator=torch.Generator().manual_seed(0))
    folder = write_checkpoint(tmp_path, {"h.0.self_attention.query_key_value.weight": fused}, config)
    for stack, values, expected in stacks(folder, Workspace(torch.device("cpu"))):
        for part, matrix in zip(values.parts, expected, strict=False):
            assert torch.equal(part, matrix)
        assert sorted(values.whole.tolist()) == sorted(fused.tolist())
        assert stack.whole
