"""The GPU path on a GPU; tests/spectra/test_group_solver.py and its neighbours run its logic on a CPU."""

import pytest
import torch

import weightscope
from tests.factories import write_gpt2
from tests.spectra.test_group_solver import STACKS, assert_same, numbers
from weightscope.spectra.extremal import Bound
from weightscope.spectra.group_solver import GroupSolver
from weightscope.spectra.numbers import SpectralOptions
from weightscope.spectra.workspace import Workspace
from weightscope.sweep.plan import plan_sweep
from weightscope.sweep.run import Seconds, run_sweep
from weightscope.sweep.transfer import lane_of, transfer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("with_spectrum", [False, True])
@pytest.mark.parametrize("bound", list(Bound), ids=str)
def test_same_numbers_as_on_the_cpu(bound, with_spectrum):
    options = SpectralOptions(bound=bound, with_spectrum=with_spectrum)
    there, here = (
        numbers(GroupSolver(options, Workspace(torch.device(name))), STACKS, device=name)
        for name in ("cuda", "cpu")
    )
    assert_same(there, here, sigma_one=1e-9)


@pytest.mark.parametrize("budget", [1, 200_000, 10**9])
def test_tensors_arrive_while_others_are_worked_on(tmp_path, budget):
    with weightscope.open_checkpoint(write_gpt2(tmp_path, layers=6, width=96)) as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=budget)
        copies = []
        for _, tensors in transfer(plan, checkpoint.source, Seconds(), lane_of(torch.device("cuda"))):
            torch.cuda._sleep(10_000_000)  # the work is late
            copies += [(info, tensor.clone()) for info, tensor in tensors.items()]
        for info, copy in copies:
            assert torch.equal(copy.cpu(), checkpoint.source.read(info)), info.name


def test_taking_in_a_stack_waits_for_nothing():
    """The debug mode of torch raises at every synchronisation."""
    solver = GroupSolver(SpectralOptions(), Workspace(torch.device("cuda")))
    matrices = [torch.randn(300, 200, device="cuda") for _ in range(3)]
    solver.add(matrices[:1], None, bf16_valued=False)  # buffers and handles are made
    torch.cuda.set_sync_debug_mode("error")
    try:
        for matrix in matrices[1:]:
            solver.add([matrix], None, bf16_valued=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(list(solver.finish())) == 3


def test_a_live_model_on_the_gpu_is_analysed_there():
    model = {"h.0.mlp.c_fc.weight": torch.randn(64, 256, device="cuda")}
    here = {name: tensor.cpu() for name, tensor in model.items()}
    on_gpu, on_cpu = (
        weightscope.analyze(state, device=device).table["spectral_norm"].tolist()
        for state, device in ((model, "cuda"), (here, "cpu"))
    )
    assert on_gpu == pytest.approx(on_cpu, rel=1e-9)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_several_gpus_give_what_one_gives(tmp_path):
    with weightscope.open_checkpoint(write_gpt2(tmp_path, layers=6, width=160)) as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=1)
        found = [
            {
                matrix.sort_key: row.values["spectral_norm"]
                for matrix, row, _ in run_sweep(
                    plan, checkpoint.source, device=torch.device(name), options=SpectralOptions()
                )
            }
            for name in ("cuda", "cuda:0")
        ]
    assert found[0] == pytest.approx(found[1], rel=1e-9)
