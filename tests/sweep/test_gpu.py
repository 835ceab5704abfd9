"""The GPU path, on a pretended GPU always and on a real one with `-m gpu`."""

import pytest
import torch

import weightscope
from tests.factories import write_gpt2
from tests.spectra.test_group_solver import STACKS, assert_same, numbers
from weightscope.spectra.batched_lanczos import _Batch
from weightscope.spectra.extremal import Bound
from weightscope.spectra.group_solver import GroupSolver
from weightscope.spectra.numbers import SpectralOptions
from weightscope.spectra.workspace import Workspace
from weightscope.sweep.plan import plan_sweep
from weightscope.sweep.run import Seconds, run_sweep
from weightscope.sweep.transfer import lane_of, transfer

# For the pretended device, on which a step of Lanczos takes a few milliseconds.
FEW = ["short", "short and grouped", "zero", "small", "row", "column", "number"]
LONGER = ["far scales", "NaN"]


@pytest.mark.parametrize("with_spectrum", [False, True])
@pytest.mark.parametrize("bound", list(Bound), ids=str)
def test_same_numbers_as_on_the_cpu(gpu, bound, with_spectrum):
    options = SpectralOptions(bound=bound, with_spectrum=with_spectrum)
    names = STACKS if gpu is None else FEW if with_spectrum else FEW + LONGER
    there, here = (
        numbers(GroupSolver(options, Workspace(torch.device(name))), names, device=name)
        for name in ("cuda", "cpu")
    )
    assert_same(there, here, sigma_one=1e-9)


@pytest.mark.usefixtures("gpu_in_any_order")
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


@pytest.mark.usefixtures("gpu_in_any_order")
def test_what_the_device_is_busy_with_is_not_written_over(tmp_path):
    """The buffers may lie where memory was given back that is in use until that is done."""
    folder = write_gpt2(tmp_path, layers=2, width=96)
    with weightscope.open_checkpoint(folder) as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=200_000)
        torch.cuda._sleep(10_000_000)
        first = torch.ones(100_000, device="cuda") + 1
        second = first + 1
        del first
        for _ in transfer(plan, checkpoint.source, Seconds(), lane_of(torch.device("cuda"))):
            pass
        assert float(second.min()) == float(second.max()) == 3


@pytest.mark.usefixtures("gpu")
def test_transfers_wait_for_nothing_the_device_does(tmp_path):
    """The debug mode of torch does not mind waiting for an event, and nothing else waits."""
    assert lane_of(torch.device("cuda")).slot(8).host.is_pinned()  # else a copy would, and not say so
    with weightscope.open_checkpoint(write_gpt2(tmp_path, layers=2, width=24)) as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=2000)
        assert len(plan.steps) > 3
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _, tensors in transfer(plan, checkpoint.source, Seconds(), lane_of(torch.device("cuda"))):
                [tensor + 1 for tensor in tensors.values()]
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("gpu")
def test_a_step_of_lanczos_waits_for_nothing():
    grams = torch.eye(40, device="cuda").expand(3, 40, 40).clone()
    batch = _Batch(grams, seed=0, max_steps=40)
    batch.step()  # handles are made
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(38):
            batch.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert batch.coefficients().alphas.shape == (39, 3)


@pytest.mark.usefixtures("gpu")
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


@pytest.mark.usefixtures("gpu")
def test_a_live_model_on_the_gpu_is_analysed_there():
    model = {"h.0.mlp.c_fc.weight": torch.randn(64, 256, device="cuda")}
    here = {name: tensor.cpu() for name, tensor in model.items()}
    on_gpu, on_cpu = (
        weightscope.analyze(state, device=device).table["spectral_norm"].tolist()
        for state, device in ((model, "cuda"), (here, "cpu"))
    )
    assert on_gpu == pytest.approx(on_cpu, rel=1e-9)


@pytest.mark.usefixtures("two_gpus")
def test_several_gpus_give_what_one_gives(tmp_path):
    with weightscope.open_checkpoint(write_gpt2(tmp_path, layers=3, width=24)) as checkpoint:
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
