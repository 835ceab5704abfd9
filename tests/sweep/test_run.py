"""The run: same numbers however it is batched, sharded or stored; memory refused in time."""

import pandas as pd
import pytest
import torch

import weightscope
from tests.factories import gpt2_tensors, write_checkpoint, write_gpt2
from weightscope.errors import DeviceMemoryError, DeviceUnavailable, OptionError
from weightscope.spectra.numbers import SpectralOptions
from weightscope.sweep import run
from weightscope.sweep.devices import available_bytes, resolve_device
from weightscope.sweep.plan import plan_sweep

CPU = torch.device("cpu")


def values(folder, **options):
    table = weightscope.analyze(folder, **options).table
    return table.drop(columns=["checkpoint", "parameter"])


def test_sharded_is_unsharded(tmp_path):
    one = values(write_gpt2(tmp_path / "one", layers=3), spectrum=True)
    three = values(write_gpt2(tmp_path / "three", layers=3, shards=3), spectrum=True)
    assert one.equals(three)


@pytest.mark.parametrize("budget", [1, 3000, 10**9])
def test_budget_changes_no_number(tmp_path, budget):
    with weightscope.open_checkpoint(write_gpt2(tmp_path, layers=3)) as checkpoint:

        def numbers(bytes_):
            plan = plan_sweep(checkpoint.matrices, checkpoint.tensors, budget=bytes_)
            found = run.run_sweep(
                plan, checkpoint.source, device=CPU, options=SpectralOptions(with_spectrum=True)
            )
            return {matrix.sort_key: numbers.values for matrix, numbers, _ in found}

        expected = numbers(50_000)
        for key, found in numbers(budget).items():
            assert found == pytest.approx(expected[key], rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_every_stored_type_is_upcast_exactly(tmp_path, dtype):
    stored = {name: tensor.to(dtype) for name, tensor in gpt2_tensors(layers=1).items()}
    exact = {name: tensor.to(torch.float64) for name, tensor in stored.items()}
    narrow = values(write_checkpoint(tmp_path / "narrow", stored, {"model_type": "gpt2"}))
    wide = values(write_checkpoint(tmp_path / "wide", exact, {"model_type": "gpt2"}))
    # Sums in another order: the last digits may differ, and no more.
    pd.testing.assert_frame_equal(
        narrow.drop(columns="dtype"), wide.drop(columns="dtype"), rtol=1e-14, atol=0, check_exact=False
    )
    assert set(wide["dtype"]) == {"F64"}


def test_progress_reaches_the_end_in_order(tmp_path):
    seen = []
    analysis = weightscope.analyze(
        write_gpt2(tmp_path, layers=3),
        progress=lambda state: seen.append((state.done_bytes, state.total_bytes)),
    )
    done = [pair[0] for pair in seen]
    assert done == sorted(done)
    assert seen[-1] == (analysis.provenance["bytes"]["selected"],) * 2


def test_a_sweep_that_cannot_fit_is_refused_before_it_starts(monkeypatch, tmp_path):
    monkeypatch.setattr("weightscope.sweep.devices.available_bytes", lambda device: 1000)
    with pytest.raises(DeviceMemoryError, match=r"needs .* MiB: .*, exact"):
        weightscope.analyze(write_gpt2(tmp_path))


@pytest.mark.parametrize("method", ["add", "finish"])
def test_running_out_of_memory_on_the_way_is_said(monkeypatch, tmp_path, method):
    def exhausted(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run.StackSolver, method, exhausted)
    with pytest.raises(DeviceMemoryError, match="ran out of memory"):
        weightscope.analyze(write_gpt2(tmp_path))


def test_other_runtime_errors_are_not_disguised(monkeypatch, tmp_path):
    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(run.StackSolver, "add", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        weightscope.analyze(write_gpt2(tmp_path))


def test_devices():
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert available_bytes(CPU) is None or available_bytes(CPU) > 0
    for nonsense in ("", "gpu", "cuda:", "cuda:x", "cpu:0"):
        with pytest.raises(OptionError, match="Devices are"):
            resolve_device(nonsense)
    with pytest.raises(DeviceUnavailable, match="float64"):
        resolve_device("mps")
    with pytest.raises(DeviceUnavailable, match="CUDA devices"):
        resolve_device("cuda:99")


def settings():
    backends = (torch.backends.mkldnn.matmul, torch.backends.cuda.matmul)
    return (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        *(getattr(backend, "fp32_precision", None) for backend in backends),
    )


PRECISIONS = {
    "highest": lambda: torch.set_float32_matmul_precision("highest"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "tf32": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
}
if hasattr(torch.backends.mkldnn, "matmul"):
    PRECISIONS["bf16 on this backend"] = lambda: setattr(
        torch.backends.mkldnn.matmul, "fp32_precision", "bf16"
    )


@pytest.mark.parametrize("name", PRECISIONS)
def test_settings_change_no_number_and_are_left_as_found(tmp_path, name):
    folder = write_gpt2(tmp_path, layers=1, width=160)  # beyond the size that is solved directly
    try:
        torch.set_float32_matmul_precision("highest")
        expected = values(folder, spectrum=True)
        PRECISIONS[name]()
        before = settings()
        found = values(folder, spectrum=True)
        assert settings() == before
    finally:
        torch.set_float32_matmul_precision("highest")
    for column in expected.columns:
        if expected[column].dtype.kind == "f":
            assert found[column].tolist() == pytest.approx(
                expected[column].tolist(), rel=1e-12, nan_ok=True
            ), column


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_is_cpu(tmp_path):
    folder = write_gpt2(tmp_path, layers=2, width=192)
    cpu, gpu = (values(folder, device=device, spectrum=True) for device in ("cpu", "cuda"))
    for name in cpu.columns:
        if cpu[name].dtype.kind == "f":
            assert torch.allclose(
                torch.tensor(cpu[name]), torch.tensor(gpu[name]), rtol=2e-6, equal_nan=True
            ), name
