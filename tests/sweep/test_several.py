"""Several devices: shares by bytes, the same numbers in the same order, and no thread left behind."""

import threading
from types import SimpleNamespace

import pytest
import torch

import weightscope
from tests.factories import write_gpt2
from weightscope.spectra.group_solver import GroupSolver
from weightscope.spectra.numbers import SpectralOptions
from weightscope.sweep import devices, run
from weightscope.sweep.plan import Plan, plan_sweep
from weightscope.sweep.several import run_on_several, share_out
from weightscope.sweep.transfer import HostLane, transfer

CPU = torch.device("cpu")


def sizes(*read_bytes):
    return SimpleNamespace(steps=tuple(SimpleNamespace(read_bytes=size) for size in read_bytes))


def test_shares_are_by_bytes_and_not_by_count():
    assert share_out(sizes(100, 10, 10, 10, 70), 2) == (0, 1, 1, 1, 1)
    assert share_out(sizes(5, 5, 5, 5), 2) == (0, 1, 0, 1)
    assert share_out(sizes(3, 2, 1), 1) == (0, 0, 0)
    assert share_out(sizes(), 3) == ()
    draw = torch.randint(1, 1000, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = share_out(sizes(*draw), 3)
    loads = [sum(size for size, device in zip(draw, chosen, strict=True) if device == i) for i in range(3)]
    assert max(loads) - min(loads) <= max(draw)


@pytest.fixture
def two_gpus(monkeypatch):
    """Two devices that compute like GPUs, on the CPU."""
    monkeypatch.setattr(run, "every", lambda device: [CPU, CPU] if device.type == "meta" else [device])
    monkeypatch.setattr(run, "_solver", lambda options, workspace, *_: GroupSolver(options, workspace))
    monkeypatch.setattr(
        run, "_arriving", lambda plan, source, seconds, _: transfer(plan, source, seconds, HostLane())
    )
    return torch.device("meta")


@pytest.mark.parametrize("budget", [1, 5000, 10**9])
def test_two_devices_give_the_same_in_the_same_order(tmp_path, two_gpus, budget):
    options = SpectralOptions(with_spectrum=True)
    with weightscope.open_checkpoint(write_gpt2(tmp_path, layers=5, width=24)) as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=budget)
        seen = []

        def numbers(device):
            found = run.run_sweep(
                plan,
                checkpoint.source,
                device=device,
                options=options,
                done_bytes=11,
                observe=lambda state: seen.append((state.done_bytes, state.total_bytes)),
            )
            return [(matrix, found.values) for matrix, found, _ in found]

        expected = numbers(CPU)
        seen.clear()
        together = numbers(two_gpus)
    assert [matrix for matrix, _ in together] == [matrix for matrix, _ in expected] == list(plan.matrices)
    for (_, one), (_, other) in zip(together, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-12, nan_ok=True)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (11 + plan.read_bytes,) * 2


def test_a_failure_on_one_device_ends_the_run(tmp_path, two_gpus, monkeypatch):
    with weightscope.open_checkpoint(write_gpt2(tmp_path, layers=5)) as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=1)

        def broken(*_, **__):
            raise RuntimeError("a bug")

        monkeypatch.setattr(GroupSolver, "add", broken)
        with pytest.raises(RuntimeError, match="a bug"):
            list(run.run_sweep(plan, checkpoint.source, device=two_gpus, options=SpectralOptions()))
    assert not [thread for thread in threading.enumerate() if "weightscope-device" in thread.name]


def test_leaving_early_stops_every_device(tmp_path, two_gpus):
    with weightscope.open_checkpoint(write_gpt2(tmp_path, layers=5)) as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=1)
        results = run.run_sweep(plan, checkpoint.source, device=two_gpus, options=SpectralOptions())
        assert next(results)[0] == next(plan.matrices)
        results.close()
    assert not [thread for thread in threading.enumerate() if "weightscope-device" in thread.name]


def test_settings_are_left_as_they_were(two_gpus):
    before = torch.backends.cuda.matmul.allow_tf32
    assert list(run_on_several(Plan(steps=()), [CPU, CPU], lambda *_: iter(()))) == []
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_cuda_without_a_number_means_every_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    names = ["cuda:0", "cuda:1", "cuda:2"]
    assert [str(one) for one in devices.every(torch.device("cuda"))] == names
    assert devices.every(torch.device("cuda:1")) == [torch.device("cuda:1")]
    assert devices.every(CPU) == [CPU]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices.every(torch.device("cuda")) == [torch.device("cuda")]
