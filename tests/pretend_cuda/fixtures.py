"""A machine for a test, and the same test on a real GPU where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from tests.pretend_cuda.api import stand_in
from tests.pretend_cuda.kernels import Everywhere
from tests.pretend_cuda.machine import Machine
from tests.pretend_cuda.timeline import Haste
from weightscope.spectra.device_pass import _probes_on


@contextmanager
def pretended(devices: int = 1, haste: Haste = Haste.NONE, total_bytes: int = 2**34) -> Iterator[Machine]:
    """A machine in place of torch.cuda; at the end all is carried out, and nothing may have gone wrong.

    Args:
        devices: How many.
        haste: Which streams run ahead.
        total_bytes: Of each device.
    """
    machine = Machine(devices=devices, haste=haste, total_bytes=total_bytes)
    _probes_on.cache_clear()  # of another machine
    try:
        with pytest.MonkeyPatch.context() as patch, Everywhere(machine):
            stand_in(machine, patch)
            yield machine
            machine.timeline.reach_all()
    finally:
        machine.timeline.drop()
        _probes_on.cache_clear()
    assert not machine.timeline.faults, machine.timeline.faults


_REAL = pytest.param(
    None,
    id="real",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
)


@pytest.fixture(params=[pytest.param(Haste.NONE, id="pretended"), _REAL])
def gpu(request: pytest.FixtureRequest) -> Iterator[Machine | None]:
    """A CUDA device: a pretended one, and with `-m gpu` the real one, for which this is None."""
    yield from _given(request.param)


@pytest.fixture(params=[*(pytest.param(haste, id=haste.value) for haste in Haste), _REAL])
def gpu_in_any_order(request: pytest.FixtureRequest) -> Iterator[Machine | None]:
    """Likewise, with the streams of the pretended one in every order that is allowed."""
    yield from _given(request.param)


_REAL_TWO = pytest.param(
    False,
    id="real",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
    ],
)


@pytest.fixture(params=[pytest.param(True, id="pretended"), _REAL_TWO])
def two_gpus(request: pytest.FixtureRequest) -> Iterator[Machine | None]:
    """Two CUDA devices: pretended ones, and with `-m gpu` real ones."""
    if not request.param:
        yield None
        return
    with pretended(devices=2) as made:
        yield made


def _given(haste: Haste | None) -> Iterator[Machine | None]:
    if haste is None:
        yield None
        return
    with pretended(haste=haste) as made:
        yield made
