"""`Machine`: the devices, what each thread has as its current device and streams, and how often it waited."""

from __future__ import annotations

import threading
from typing import Any

import torch

from tests.pretend_cuda.blocks import PinnedMemory
from tests.pretend_cuda.timeline import Haste, Line, Timeline


class Machine:
    """Devices that are none.

    Attributes:
        timeline: Their streams.
        pinned: Memory of the host.
        total_bytes: Of each device.
        held, most_held: Bytes taken of each, now and at most.
        waits: Every synchronisation so far, in words.
        sync_mode: As in `torch.cuda.set_sync_debug_mode`.
        generators: The device of each random generator that is on one.
    """

    def __init__(self, *, devices: int = 1, haste: Haste = Haste.NONE, total_bytes: int = 2**34) -> None:
        self.timeline = Timeline(haste)
        self.pinned = PinnedMemory()
        self.total_bytes = total_bytes
        self.held, self.most_held = [0] * devices, [0] * devices
        self.waits: list[str] = []
        self.sync_mode: Any = "default"
        self.generators: dict[int, int] = {}
        self.default_lines = [self.timeline.line(number, default=True) for number in range(devices)]
        self._here = threading.local()

    @property
    def count(self) -> int:
        """How many devices."""
        return len(self.held)

    @property
    def current_device(self) -> int:
        """This thread's."""
        return getattr(self._here, "device", 0)

    @current_device.setter
    def current_device(self, number: int) -> None:
        self._here.device = self.index_of(number)

    def current_line(self, device: int) -> Line:
        """This thread's stream of a device."""
        return self._lines().get(device, self.default_lines[device])

    def set_line(self, line: Line) -> None:
        """From now on, on this thread."""
        self._lines()[line.device] = line

    def _lines(self) -> dict[int, Line]:
        if not hasattr(self._here, "lines"):
            self._here.lines = {}
        return self._here.lines

    def index_of(self, device: Any) -> int:
        """The number of `cuda:1`, `1`, a `torch.device` or None; the current one where there is none."""
        if isinstance(device, str):
            device = torch.device(device)
        number = device.index if isinstance(device, torch.device) else device
        number = self.current_device if number is None else number
        if not 0 <= number < self.count:
            raise RuntimeError("CUDA error: invalid device ordinal")
        return number

    def waited(self, what: str) -> None:
        """The host is about to wait, where torch's debug mode sees it.

        Raises:
            RuntimeError: It was told not to.
        """
        self.waits.append(what)
        if self.sync_mode in ("error", 2):
            raise RuntimeError(f"called a synchronizing CUDA operation: {what}")

    def catch_up(self, device: int, what: str) -> None:
        """The host waits for the current stream of a device."""
        self.waited(what)
        self.timeline.reach(self.timeline.now(self.current_line(device)))
