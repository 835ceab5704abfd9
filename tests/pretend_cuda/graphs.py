"""Graphs: what is put on a stream while it is captured, kept, and carried out each time it is replayed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.pretend_cuda.blocks import Block
from tests.pretend_cuda.machine import Machine


class Captured:
    """What `torch.cuda.CUDAGraph` holds."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.device = 0
        self._runs: list[Callable[[], object]] = []
        self._needs: list[weakref.ref[Block]] = []

    def take(self, run: Callable[[], object]) -> None:
        """One thing more; it is not carried out now."""
        self._runs.append(run)

    def uses(self, block: Block) -> None:
        """Memory that must be there at every replay, unless it is the graph's own."""
        if not block.captured:
            self._needs.append(weakref.ref(block))

    def replay(self) -> None:
        """All of it, on the current stream of the device where it was captured."""
        if any(one() is None for one in self._needs):
            self._machine.timeline.faults.append("a graph was replayed that uses memory given back before")
        line = self._machine.current_line(self.device)
        runs = list(self._runs)
        for one in self._needs:
            if (block := one()) is not None:
                block.uses[line] = line.begun + 1
        self._machine.timeline.put(line, lambda: [run() for run in runs])


@contextmanager
def capturing(machine: Machine, graph: Captured, stream: Any = None) -> Iterator[None]:
    """`torch.cuda.graph`: on a stream of the current device."""
    machine.timeline.reach_all(machine.current_device)
    before = machine.current_line(machine.current_device)
    line = machine.timeline.line(machine.current_device, default=False) if stream is None else stream.line
    machine.set_line(line)
    line.graph, graph.device = graph, line.device
    try:
        yield
    finally:
        line.graph = None
        machine.set_line(before)
