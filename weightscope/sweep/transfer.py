"""Reading a step's tensors and copying them to a GPU while the steps before are solved there.

Two slots take turns, each a pinned buffer on the host and one of the same size on the device, kept for the
whole sweep. Threads fill a pinned buffer from the files (a single one would not keep up with the bus), then
a stream beside the one that computes copies it in one piece. Events keep the order: a pinned buffer is
filled again when its copy is done, and a device buffer is overwritten when the work on it is done; the host
waits for neither unless it is that far ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor

from weightscope.checkpoints.header import TensorInfo
from weightscope.checkpoints.source import Source
from weightscope.sweep.plan import Plan, Step
from weightscope.sweep.read_ahead import Clock, interrupting

# Tensors begin at multiples of this, as CUDA's own allocations do.
_ALIGNMENT = 256
_READERS, _SLOTS = 4, 2


@dataclass(slots=True, eq=False)
class Slot:
    """Memory for the tensors of one step, here and there."""

    host: Tensor
    """uint8, pinned."""
    device: Tensor
    """uint8, of the same size."""
    copied: Any = None
    """The event after its last copy."""
    used: Any = None
    """The event after the last work on it."""


class Lane(Protocol):
    """One device's way in. The methods are called in the order `wait`, `copy`, `arrive`, `leave`."""

    def slot(self, nbytes: int) -> Slot:
        """Memory."""

    def wait(self, slot: Slot) -> None:
        """Until the pinned buffer may be written to. On the thread that reads."""

    def copy(self, slot: Slot, nbytes: int) -> None:
        """Begin to copy, once what still works on the device buffer is done. On the thread that reads."""

    def arrive(self, slot: Slot) -> None:
        """What is computed from now on comes after the copy. On the thread that computes."""

    def leave(self, slot: Slot) -> None:
        """Everything that works on the device buffer has been begun. On the thread that computes."""


class CudaLane:
    """A stream beside the one that computes, and events between them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def slot(self, nbytes: int) -> Slot:
        """Pinned memory, and as much on the device.

        torch gives out a device's memory in the order of one stream, here of the one that computes: what lay
        there before may be in use until that one is done with what it holds now, and what is given back after
        an error is its own again at once. So the first copy waits too, as if the work before were a step's,
        and the memory is kept until the copies are done.
        """
        slot = Slot(
            host=torch.empty(nbytes, dtype=torch.uint8, pin_memory=True),
            device=torch.empty(nbytes, dtype=torch.uint8, device=self._device),
            copied=torch.cuda.Event(),  # type: ignore[no-untyped-call]
            used=torch.cuda.Event(),  # type: ignore[no-untyped-call]
        )
        self.leave(slot)
        slot.device.record_stream(self._stream)
        return slot

    def wait(self, slot: Slot) -> None:
        """Until its last copy is done."""
        slot.copied.synchronize()

    def copy(self, slot: Slot, nbytes: int) -> None:
        """On the stream for copies."""
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(slot.used)
            slot.device[:nbytes].copy_(slot.host[:nbytes], non_blocking=True)
            slot.copied.record(self._stream)

    def arrive(self, slot: Slot) -> None:
        """The computing stream waits for the copy; the host does not."""
        torch.cuda.current_stream(self._device).wait_event(slot.copied)

    def leave(self, slot: Slot) -> None:
        """Marks the computing stream."""
        slot.used.record(torch.cuda.current_stream(self._device))


class HostLane:
    """Copies at once: for a device that computes when it is told to, which is what tests have."""

    def slot(self, nbytes: int) -> Slot:
        """Two pieces of ordinary memory."""
        return Slot(
            host=torch.empty(nbytes, dtype=torch.uint8), device=torch.empty(nbytes, dtype=torch.uint8)
        )

    def wait(self, slot: Slot) -> None:
        """Nothing to wait for."""

    def copy(self, slot: Slot, nbytes: int) -> None:
        """Now."""
        slot.device[:nbytes].copy_(slot.host[:nbytes])

    def arrive(self, slot: Slot) -> None:
        """It is there."""

    def leave(self, slot: Slot) -> None:
        """It is done."""


def lane_of(device: torch.device) -> Lane:
    """The way into a device."""
    return CudaLane(device) if device.type == "cuda" else HostLane()


def transfer(
    plan: Plan, source: Source, clock: Clock, lane: Lane
) -> Iterator[tuple[Step, dict[TensorInfo, Tensor]]]:
    """Each step with its tensors on the device, which are good until the next step is asked for.

    What the source has in memory already is handed on as it is.

    Raises:
        CheckpointFormatError: A file changed since its header was read.
    """
    if not plan.steps:
        return
    size = max(_offsets(step)[-1] for step in plan.steps)
    slots = [lane.slot(size) for _ in plan.steps[:_SLOTS]]

    with ThreadPoolExecutor(1) as mover, interrupting(source):

        def move(number: int) -> dict[TensorInfo, Tensor]:
            """Read a step and begin its copy; the tensors as they will be on the device."""
            step, slot = plan.steps[number], slots[number % _SLOTS]
            lane.wait(slot)
            offsets = _offsets(step)
            pieces = [
                slice(start, start + info.nbytes) for info, start in zip(step.tensors, offsets, strict=False)
            ]
            with torch.inference_mode():
                targets = [slot.host[piece] for piece in pieces]
                read = source.read_all(step.tensors, targets, threads=_READERS)
                lane.copy(slot, offsets[-1])
                return {
                    info: slot.device[piece].view(tensor.dtype).view(tensor.shape)
                    if tensor.data_ptr() == target.data_ptr()
                    else tensor  # it lay in memory already
                    for info, piece, target, tensor in zip(step.tensors, pieces, targets, read, strict=True)
                }

        coming = mover.submit(move, 0)
        for number, step in enumerate(plan.steps):
            started = perf_counter()
            tensors = coming.result()
            clock.read += perf_counter() - started
            slot = slots[number % _SLOTS]
            lane.arrive(slot)
            if number + 1 < len(plan.steps):
                coming = mover.submit(move, number + 1)
            yield step, tensors
            lane.leave(slot)


def _offsets(step: Step) -> list[int]:
    """Where each tensor of a step begins, then where the last one ends."""
    sizes = (-(-info.nbytes // _ALIGNMENT) * _ALIGNMENT for info in step.tensors)
    return list(accumulate(sizes, initial=0))
