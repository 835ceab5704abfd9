"""Copies between host and devices, and between devices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tests.pretend_cuda.blocks import fresh, garbage
from tests.pretend_cuda.machine import Machine
from tests.pretend_cuda.tensor import DeviceTensor
from tests.pretend_cuda.timeline import Line, Moment


def copied(machine: Machine, source: Tensor, target: Tensor, *, non_blocking: bool) -> None:
    """`target.copy_(source)`, where at least one of them is on a device."""
    if not isinstance(target, DeviceTensor):
        assert isinstance(source, DeviceTensor)
        _to_host(machine, source, target, non_blocking=non_blocking)
    elif not isinstance(source, DeviceTensor):
        _from_host(machine, source, target, non_blocking=non_blocking)
    else:
        _between(machine, source, target)


def _to_host(machine: Machine, source: DeviceTensor, target: Tensor, *, non_blocking: bool) -> None:
    line, into, held = machine.current_line(source.block.line.device), target.detach(), source.held
    if not non_blocking:
        machine.waited("copy to the host")
    late = non_blocking and machine.pinned.has(target)
    put(machine, line, lambda: into.copy_(held), source)
    if not late:
        machine.timeline.reach(machine.timeline.now(line))


def _from_host(machine: Machine, source: Tensor, target: DeviceTensor, *, non_blocking: bool) -> None:
    line, held = machine.current_line(target.block.line.device), target.held
    # What is converted or spread goes through other memory first, which is not pinned.
    plain = source.dtype == target.dtype and source.shape == target.shape and source.is_contiguous()
    late = non_blocking and plain and machine.pinned.has(source)
    if line.graph is not None and not late:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
    if not non_blocking:
        machine.waited("copy from the host")
    data = source.detach() if late else source.detach().clone()
    put(machine, line, lambda: held.copy_(data), target)
    if not non_blocking:
        machine.timeline.reach(machine.timeline.now(line))


def _between(machine: Machine, source: DeviceTensor, target: DeviceTensor) -> None:
    here, there = (machine.current_line(one.block.line.device) for one in (source, target))
    into, held = target.held, source.held
    machine.timeline.wait(here, machine.timeline.now(there))
    put(machine, here, lambda: into.copy_(held), source, target)
    machine.timeline.wait(there, machine.timeline.now(here))


def put(machine: Machine, line: Line, run: Callable[[], object], *tensors: DeviceTensor) -> None:
    """Work on some tensors of a device, which their memory remembers."""
    with machine.timeline.lock:
        young = []
        for tensor in tensors:
            block = tensor.block
            if line.graph is not None:
                line.graph.uses(block)
                continue
            block.uses[line] = line.begun + 1  # before: the work may be carried out at once
            if line is not block.line and not block.born.is_past:
                young.append(block.born)
        machine.timeline.put(line, partial(_of_age, machine, line, young, run) if young else run)


def _of_age(machine: Machine, line: Line, young: list[Moment], run: Callable[[], object]) -> None:
    """Run, and note what lies in memory that its own stream may not be done with."""
    for born in young:
        if not born.is_past:
            machine.timeline.faults.append(
                f"the {line} uses memory that the {born.line} may not be done with"
            )
    run()


def converted(
    machine: Machine,
    tensor: Tensor,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    non_blocking: bool = False,
    memory_format: torch.memory_format | None = None,
    **_: Any,
) -> Tensor:
    """`aten._to_copy`: always new memory."""
    dtype, device = dtype or tensor.dtype, device or tensor.device
    held = tensor.held if isinstance(tensor, DeviceTensor) else tensor
    shape = held.detach().to("meta")
    like = torch.empty_like(shape, dtype=dtype, memory_format=memory_format or torch.preserve_format)
    made: Tensor
    if device.type == "cuda":
        made = DeviceTensor(*fresh(machine, machine.index_of(device), like.shape, like.stride(), dtype))
    else:
        made = torch.empty_strided(like.shape, like.stride(), dtype=dtype)
        if non_blocking or pin_memory:  # torch makes it pinned, so that it comes late
            made = machine.pinned.take(made.copy_(garbage(like.shape, like.stride(), dtype)))
    copied(machine, tensor, made, non_blocking=non_blocking)
    return made
