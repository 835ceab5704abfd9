"""What stands in for torch.cuda while a machine is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.pretend_cuda.graphs import Captured, capturing
from tests.pretend_cuda.kernels import Everywhere
from tests.pretend_cuda.machine import Machine
from tests.pretend_cuda.timeline import Line, Moment


class Stream:
    """`torch.cuda.Stream`."""

    def __init__(self, machine: Machine, line: Line) -> None:
        self._machine, self.line = machine, line
        self.device = torch.device("cuda", line.device)

    def wait_event(self, event: Event) -> None:
        """Nothing, for an event that was never recorded."""
        if event.moment is not None:
            self._machine.timeline.wait(self.line, event.moment)

    def wait_stream(self, other: Stream) -> None:
        """For what the other holds now."""
        self._machine.timeline.wait(self.line, self._machine.timeline.now(other.line))

    def record_event(self, event: Event | None = None) -> Event:
        """A new one if none is given."""
        event = event or Event(self._machine)
        event.record(self)
        return event

    def synchronize(self) -> None:
        """The host waits."""
        self._machine.waited("Stream.synchronize")
        self._machine.timeline.reach(self._machine.timeline.now(self.line))

    def query(self) -> bool:
        """Whether all is done; time goes by."""
        self._machine.timeline.step(self.line)
        return not self.line.queue

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.line is other.line

    def __hash__(self) -> int:
        return hash(self.line)


class Event:
    """`torch.cuda.Event`."""

    def __init__(self, machine: Machine, **_: Any) -> None:
        self._machine = machine
        self.moment: Moment | None = None

    def record(self, stream: Stream | None = None) -> None:
        """The moment when all is done that the stream holds now; an earlier one is forgotten."""
        line = stream.line if stream else self._machine.current_line(self._machine.current_device)
        if self.moment is not None and self.moment.line.device != line.device:
            raise RuntimeError("Event device does not match recording stream's device")
        self.moment = self._machine.timeline.now(line)

    def wait(self, stream: Stream) -> None:
        """As `stream.wait_event`."""
        stream.wait_event(self)

    def synchronize(self) -> None:
        """The host waits, but for an event that was never recorded."""
        if self.moment is not None:
            self._machine.waits.append("Event.synchronize")
            self._machine.timeline.reach(self.moment)

    def query(self) -> bool:
        """Whether it is past; time goes by."""
        if self.moment is not None and not self.moment.is_past:
            self._machine.timeline.step(self.moment.line)
        return self.moment is None or self.moment.is_past


@contextmanager
def _on_device(machine: Machine, device: Any) -> Iterator[None]:
    before = machine.current_device
    machine.current_device = machine.index_of(device)
    try:
        yield
    finally:
        machine.current_device = before


@contextmanager
def _on_stream(machine: Machine, stream: Stream) -> Iterator[None]:
    with _on_device(machine, stream.device):
        before = machine.current_line(stream.line.device)
        machine.set_line(stream.line)
        try:
            yield
        finally:
            machine.set_line(before)


def _generators(machine: Machine, original: Any) -> Any:
    """`torch.Generator`, which for a device draws on the CPU."""
    kept = []  # or another would be taken for one of these

    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, original)

        def __call__(cls, device: Any = "cpu") -> torch.Generator:
            device = torch.device(device)
            if device.type != "cuda":
                return original(device)
            made: Any = original("cpu")
            kept.append(made)
            machine.generators[made._cdata] = machine.index_of(device)
            return made

    return Kind("Generator", (), {})


def stand_in(machine: Machine, patch: pytest.MonkeyPatch) -> None:
    """Put a machine in place of torch.cuda, on every thread, until the patch is undone."""
    cuda, here = torch.cuda, machine

    def put(**replaced: Any) -> None:
        for name, value in replaced.items():
            patch.setattr(cuda, name, value)

    def line_of(device: Any = None) -> Line:
        return here.current_line(here.index_of(device))

    def memory(device: Any = None) -> tuple[int, int]:
        return here.total_bytes - here.held[here.index_of(device)], here.total_bytes

    put(
        _lazy_init=lambda: None,
        is_available=lambda: True,
        is_initialized=lambda: True,
        device_count=lambda: here.count,
        current_device=lambda: here.current_device,
        set_device=lambda device: setattr(here, "current_device", here.index_of(device)),
        get_device_name=lambda device=None: f"pretended device {here.index_of(device)}",
        get_device_properties=lambda device=None: SimpleNamespace(
            name=f"pretended device {here.index_of(device)}", total_memory=here.total_bytes
        ),
        mem_get_info=memory,
        max_memory_allocated=lambda device=None: here.most_held[here.index_of(device)],
        memory_allocated=lambda device=None: here.held[here.index_of(device)],
        empty_cache=lambda: None,
        synchronize=lambda device=None: here.timeline.reach_all(here.index_of(device)),
        set_sync_debug_mode=lambda mode: setattr(here, "sync_mode", mode),
        get_sync_debug_mode=lambda: {"default": 0, "warn": 1, "error": 2}.get(here.sync_mode, here.sync_mode),
        Stream=lambda device=None, priority=0: Stream(
            here, here.timeline.line(here.index_of(device), default=False)
        ),
        Event=lambda **options: Event(here, **options),
        current_stream=lambda device=None: Stream(here, line_of(device)),
        default_stream=lambda device=None: Stream(here, here.default_lines[here.index_of(device)]),
        device=lambda device: _on_device(here, device),
        stream=lambda stream: _on_stream(here, stream),
        CUDAGraph=lambda: Captured(here),
        graph=lambda graph, stream=None: capturing(here, graph, stream),
        _sleep=lambda cycles: None,
    )
    patch.setattr(torch, "Generator", _generators(machine, torch.Generator))
    for name in ("tensor", "as_tensor"):
        patch.setattr(torch, name, _made_from(getattr(torch, name)))
    patch.setattr(torch.Tensor, "to", _to(machine, torch.Tensor.to))
    patch.setattr(
        torch.Tensor, "cuda", lambda tensor, device=None: tensor.to(_numbered(machine, "cuda", device))
    )
    run = threading.Thread.run

    def run_with_devices(thread: threading.Thread) -> None:
        with Everywhere(machine):
            run(thread)

    patch.setattr(threading.Thread, "run", run_with_devices)


def _to(machine: Machine, original: Any) -> Any:
    """`Tensor.to`, for which torch asks a CUDA build what is meant by a device without a number."""

    def to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        given = [_numbered(machine, one) for one in args]
        return original(tensor, *given, **{name: _numbered(machine, one) for name, one in kwargs.items()})

    return to


def _numbered(machine: Machine, value: Any, number: Any = None) -> Any:
    if isinstance(value, str):
        value = torch.device(value)
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cuda", machine.index_of(value if number is None else number))
    return value


def _made_from(original: Any) -> Any:
    """A tensor made of numbers: on the host, then copied, as torch does it in C++."""

    def made(data: Any, *, dtype: Any = None, device: Any = None, **options: Any) -> torch.Tensor:
        if device is None or torch.device(device).type != "cuda":
            return original(data, dtype=dtype, device=device, **options)
        host = data if isinstance(data, torch.Tensor) else original(data, dtype=dtype, **options)
        return host.to(device=torch.device(device), dtype=dtype or host.dtype)

    return made
