"""One sweep on several devices of one machine: steps shared out by bytes, results in the plan's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from queue import SimpleQueue
from threading import Event
from typing import TypeVar

import torch

from weightscope.spectra.precision import float32_products
from weightscope.sweep.plan import Plan

Result = TypeVar("Result")
Runner = Callable[[Plan, int, Callable[[], None]], Iterator[Result]]
"""Carries out the plan of the device with this number, one result a matrix in the plan's order; may call its
third argument whenever there is progress."""

_FAILED, _TICK = object(), object()


class _Stopped(Exception):
    """Nobody waits for this device's results any more."""


def share_out(plan: Plan, count: int) -> tuple[int, ...]:
    """Which of `count` devices takes each step: in the plan's order, the one with the fewest bytes so far.

    So the shares differ by no more than the largest step, and every device is at work from the start.
    """
    bytes_of = [0] * count
    chosen = []
    for step in plan.steps:
        device = bytes_of.index(min(bytes_of))
        bytes_of[device] += step.read_bytes
        chosen.append(device)
    return tuple(chosen)


def run_on_several(
    plan: Plan,
    devices: Sequence[torch.device],
    run: Runner[Result],
    observe: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """Carry out a plan with a thread for each device; every result in the plan's order.

    Args:
        plan: What to do.
        devices: Where.
        run: Carries out one device's share, on that device's thread.
        observe: Called on the caller's thread when a device says that there is progress.

    Raises:
        Exception: Whatever a device's run raised; the others stop at their next sign of progress.
    """
    chosen = share_out(plan, len(devices))
    queues: list[SimpleQueue[object]] = [SimpleQueue() for _ in devices]
    stop = Event()

    def put(number: int, found: object) -> None:
        if stop.is_set():
            raise _Stopped
        queues[number].put(found)

    def work(number: int) -> None:
        steps = tuple(step for step, device in zip(plan.steps, chosen, strict=True) if device == number)
        device = devices[number]
        try:
            with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
                for result in run(Plan(steps=steps), number, lambda: put(number, _TICK)):
                    put(number, result)
        except _Stopped:
            pass
        except BaseException as error:
            queues[number].put((_FAILED, error))

    # The setting is the process'. Were it left to the threads, one would put back what another still needs.
    with float32_products("exact"), ThreadPoolExecutor(len(devices), "weightscope-device") as pool:
        for number in range(len(devices)):
            pool.submit(work, number)
        try:
            for step, number in zip(plan.steps, chosen, strict=True):
                left = sum(len(stack.matrices) for stack in step.stacks)
                while left:
                    found = queues[number].get()
                    if found is _TICK:
                        observe()
                    elif isinstance(found, tuple) and found and found[0] is _FAILED:
                        raise found[1]
                    else:
                        left -= 1
                        yield found  # type: ignore[misc]  # ticks and failures are handled above
        finally:
            stop.set()
    observe()  # what was said after the last result
