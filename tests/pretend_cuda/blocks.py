"""Memory: of the devices, counted and given back in the order of a stream, and pinned memory of the host."""

from __future__ import annotations

import math
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tests.pretend_cuda.timeline import Line, quietly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.pretend_cuda.machine import Machine

_GARBAGE = 127  # where there is no NaN


class Block:
    """Memory of a device, for as long as a tensor lies in it.

    Attributes:
        line: The stream on which it was taken, and to whose later work it is given back.
        born: What that stream held then. Others have to wait for it: the memory may be in use until then.
        uses: The last place in each stream at which something works on it.
        kept_for: Streams for which it is kept after it is given back, as `record_stream` asks.
        captured: Whether it belongs to a graph.
    """

    def __init__(self, machine: Machine, line: Line, nbytes: int) -> None:
        self.machine, self.line, self.nbytes = machine, line, nbytes
        self.born = machine.timeline.now(line)
        self.uses: dict[Line, int] = {}
        self.kept_for: set[Line] = set()
        self.captured = line.graph is not None

    def __del__(self) -> None:
        quietly(self._give_back)

    def _give_back(self) -> None:
        self.machine.held[self.line.device] -= self.nbytes
        uses = [(line, at) for line, at in self.uses.items() if line not in (self.line, *self.kept_for)]
        if not uses or self.captured:
            return
        timeline, owner, nbytes = self.machine.timeline, self.line, self.nbytes

        def reused() -> None:
            for line, at in uses:
                if line.done < at:
                    timeline.faults.append(
                        f"{nbytes} bytes are the {owner}'s again while the {line} still has to use them"
                    )

        if owner.graph is None:
            timeline.put(owner, reused)


def fresh(
    machine: Machine, device: int, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype
) -> tuple[Tensor, Block]:
    """Memory of the current stream of a device, holding garbage.

    Raises:
        OutOfMemoryError: There is not so much.
    """
    length = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if prod(shape) else 0
    nbytes = length * dtype.itemsize
    if machine.held[device] + nbytes > machine.total_bytes:
        raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {nbytes} bytes.")
    machine.held[device] += nbytes
    machine.most_held[device] = max(machine.most_held[device], machine.held[device])
    return garbage(shape, strides, dtype), Block(machine, machine.current_line(device), nbytes)


def garbage(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor on the host of which nothing was written yet."""
    with torch.inference_mode():
        made = torch.empty_strided(tuple(shape), tuple(strides), dtype=dtype)
        return made.fill_(math.nan if dtype.is_floating_point else dtype == torch.bool or _GARBAGE)


class PinnedMemory:
    """Which memory of the host is pinned. None of it is given back, so that no other memory looks pinned."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def take(self, tensor: Tensor) -> Tensor:
        """This tensor's memory from now on."""
        self._kept.append(tensor)
        return tensor

    def has(self, tensor: Tensor) -> bool:
        """Whether a tensor lies in it."""
        at = tensor.data_ptr()
        return any(
            one.data_ptr() <= at < one.data_ptr() + max(1, one.numel() * one.element_size())
            for one in self._kept
        )
