"""Training with `device="cuda"`, and what looks at the nets, on a pretended GPU and on a real one."""

from dataclasses import replace

import pytest
import torch

from tests.pretend_cuda.fixtures import pretended
from tests.training.test_decay_sweep import SMALL as DECAY
from tests.training.test_merging import SMALL as MERGING
from weightscope.spectra.batch import batch_norms
from weightscope.training import follow
from weightscope.training.experiments.decay_sweep import run_decay
from weightscope.training.experiments.merging import run_merging

EXPERIMENTS = {"merging": (run_merging, replace(MERGING, steps=100)), "decay": (run_decay, DECAY)}


@pytest.mark.usefixtures("gpu_in_any_order")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_same_as_on_the_cpu(name):
    run, settings = EXPERIMENTS[name]
    there, here = (run(settings, device=device) for device in ("cuda", "cpu"))
    assert there.history.drop(columns="value").equals(here.history.drop(columns="value"))
    assert there.history["value"].tolist() == pytest.approx(
        here.history["value"].tolist(), rel=1e-3, abs=1e-4
    )
    for file, tensors in here.nets.items():
        for key, tensor in tensors.items():
            torch.testing.assert_close(there.nets[file][key], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_training_goes_on_from_its_state(tmp_path, monkeypatch, name):
    """The state is read into memory of the host; what it is put back into lies on the device."""
    monkeypatch.setattr(follow, "_BETWEEN_STATES", -1.0)
    run, settings = EXPERIMENTS[name]
    state = tmp_path / "state"

    def stop(progress):
        if state.exists() and 2 * progress.done > progress.total:
            raise KeyboardInterrupt

    whole = run(settings, device="cuda")
    with pytest.raises(KeyboardInterrupt):
        run(settings, device="cuda", state=state, observe=stop)
    parts = run(settings, device="cuda", state=state, resume=True)
    assert whole.history["value"].tolist() == pytest.approx(
        parts.history["value"].tolist(), rel=1e-4, abs=1e-5
    )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_second_gpu_alone_is_used(name):
    run, settings = EXPERIMENTS[name]
    with pretended(devices=2) as machine:
        there = run(settings, device="cuda:1")
    assert machine.most_held[0] == 0 < machine.most_held[1]
    here = run(settings, device="cpu")
    assert there.history["value"].tolist() == pytest.approx(
        here.history["value"].tolist(), rel=1e-3, abs=1e-4
    )


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(7, 30, 20), (7, 20, 30), (3, 1, 9)], ids=str)
def test_norms_of_many(dtype, shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=dtype)
    matrices[0, 0, 3] = torch.nan
    matrices[1] = 0
    matrices[2] *= 1e-30
    there, here = batch_norms(matrices.cuda()), batch_norms(matrices)
    for one, other in zip((*there, there.stable_ranks), (*here, here.stable_ranks), strict=True):
        assert one.is_cuda
        torch.testing.assert_close(one.cpu(), other, rtol=1e-12, atol=0, equal_nan=True)
