"""Read, cast, solve, emit: a plan carried out in bounded memory, reading ahead while it solves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import torch

from weightscope.checkpoints.header import TensorInfo
from weightscope.checkpoints.source import Source
from weightscope.errors import DeviceMemoryError
from weightscope.families.matrix import Matrix
from weightscope.spectra.group_solver import DEFAULT_GROUP_BYTES, GroupSolver
from weightscope.spectra.numbers import MatrixNumbers, SpectralOptions
from weightscope.spectra.solver import StackSolver
from weightscope.spectra.workspace import Workspace
from weightscope.sweep.devices import available_bytes, every
from weightscope.sweep.exact import exact_values
from weightscope.sweep.plan import Plan, Stack, Step
from weightscope.sweep.read_ahead import read_ahead
from weightscope.sweep.several import run_on_several
from weightscope.sweep.streamed import solve_streamed
from weightscope.sweep.transfer import lane_of, transfer


@dataclass(slots=True)
class Seconds:
    """Where the time of a sweep went."""

    read: float = 0.0
    """Waiting for tensors to be read from their source."""
    cast: float = 0.0
    """Copying to the device, splitting, upcasting."""
    solve: float = 0.0
    """Computing."""


@dataclass(slots=True)
class Progress:
    """How far a sweep is; handed to the observer after every stack."""

    total_bytes: int
    """Bytes of weights that will be read."""
    done_bytes: int = 0
    """Bytes of weights whose matrices are done, in proportion."""
    seconds: Seconds = field(default_factory=Seconds)
    """Where the time went so far."""


def run_sweep(
    plan: Plan,
    source: Source,
    *,
    device: torch.device,
    options: SpectralOptions,
    side_by_side: int | None = None,
    spare_bytes: int | None = None,
    done_bytes: int = 0,
    observe: Callable[[Progress], None] | None = None,
) -> Iterator[tuple[Matrix, MatrixNumbers, Progress]]:
    """Carry out a plan and yield each matrix with its numbers, in the plan's order.

    Args:
        plan: What to do.
        source: Where the tensors are.
        device: Where to compute.
        options: What to compute.
        side_by_side: How many spectra to compute at once; as many as the device is good for if None.
        spare_bytes: On a GPU, what the matrices in flight and solving them may take beside one step and
            stack; a quarter of what is free if None.
        done_bytes: Of an earlier run whose rest this is, for the observer.
        observe: Called after every stack.

    Raises:
        CheckpointFormatError: A file changed since its header was read.
        DeviceMemoryError: A step does not fit.
    """
    devices = every(device)
    if len(devices) > 1:
        yield from _on_several(plan, source, devices, options, spare_bytes, done_bytes, observe)
        return
    progress = Progress(total_bytes=done_bytes + plan.read_bytes, done_bytes=done_bytes)

    def advance(done: int) -> None:
        progress.done_bytes = done
        if observe:
            observe(progress)

    if observe:
        observe(progress)  # what there is to do, before the first of it is done
    with torch.inference_mode():
        for segment in plan.segments:
            # Each begins with nothing of the memory that the one before took.
            if segment.steps[0].stream:
                found = _streamed(segment.steps[0], source, device, options, progress, advance)
            else:
                workspace = Workspace(device)
                solver = _solver(options, workspace, side_by_side, spare_bytes)
                found = _held(segment, source, workspace, solver, progress, advance)
                del workspace, solver
            for matrix, numbers in zip(segment.matrices, found, strict=True):
                yield matrix, numbers, progress


def _held(
    plan: Plan,
    source: Source,
    workspace: Workspace,
    solver: StackSolver | GroupSolver,
    progress: Progress,
    advance: Callable[[int], None],
) -> Iterator[MatrixNumbers]:
    """Steps whose tensors are in memory at once, in the plan's order."""
    stack = None
    for step, tensors in _arriving(plan, source, progress.seconds, workspace.device):
        before = progress.done_bytes
        # Once: a step may have thousands of experts.
        solved, elements, read_bytes = 0, step.elements, step.read_bytes
        for stack in step.stacks:
            yield from _solve(stack, tensors, solver, workspace, progress.seconds)
            solved += stack.elements
            advance(before + read_bytes * solved // elements)
    started = perf_counter()
    with _memory_errors(stack, workspace.device):
        last = list(solver.finish())
    progress.seconds.solve += perf_counter() - started
    yield from last


def _streamed(
    step: Step,
    source: Source,
    device: torch.device,
    options: SpectralOptions,
    progress: Progress,
    advance: Callable[[int], None],
) -> Iterator[MatrixNumbers]:
    """A step that is read in blocks."""
    assert step.stream is not None  # noqa: S101 - the caller looked
    before = progress.done_bytes
    if device.type == "cuda":  # torch keeps what was given back, in pieces that may be too small
        torch.cuda.empty_cache()
    with _memory_errors(step.stacks[-1], device):
        numbers = solve_streamed(
            step,
            step.stream,
            source,
            options=options,
            device=device,
            clock=progress.seconds,
            on_block=lambda nbytes: advance(progress.done_bytes + nbytes),
        )
    advance(before + step.read_bytes)
    yield from numbers


def _on_several(
    plan: Plan,
    source: Source,
    devices: Sequence[torch.device],
    options: SpectralOptions,
    spare_bytes: int | None,
    done_bytes: int,
    observe: Callable[[Progress], None] | None,
) -> Iterator[tuple[Matrix, MatrixNumbers, Progress]]:
    """One plan on several devices; the seconds are those of the device that took longest."""
    progress = Progress(total_bytes=done_bytes + plan.read_bytes, done_bytes=done_bytes)
    shares: dict[int, Progress] = {}

    def run(
        share: Plan, number: int, tick: Callable[[], None]
    ) -> Iterator[tuple[Matrix, MatrixNumbers, Progress]]:
        def note(state: Progress) -> None:
            shares[number] = state
            tick()

        return run_sweep(
            share,
            source,
            device=devices[number],
            options=options,
            spare_bytes=spare_bytes,
            observe=note,
        )

    def update() -> None:
        states = list(shares.values())
        progress.done_bytes = done_bytes + sum(state.done_bytes for state in states)
        for name in ("read", "cast", "solve"):
            longest = max((getattr(state.seconds, name) for state in states), default=0.0)
            setattr(progress.seconds, name, longest)
        if observe:
            observe(progress)

    for matrix, numbers, _ in run_on_several(plan, devices, run, update):
        yield matrix, numbers, progress


def _solver(
    options: SpectralOptions, workspace: Workspace, side_by_side: int | None, spare_bytes: int | None
) -> StackSolver | GroupSolver:
    """One matrix after the other on a CPU, many in flight on a GPU."""
    if workspace.device.type == "cpu":
        return StackSolver(options, workspace, side_by_side=side_by_side)
    if spare_bytes is None:
        spare_bytes = (available_bytes(workspace.device) or 0) // 4
    # Solving a group takes as much again.
    return GroupSolver(options, workspace, group_bytes=min(DEFAULT_GROUP_BYTES, spare_bytes // 2))


def _arriving(
    plan: Plan, source: Source, seconds: Seconds, device: torch.device
) -> Iterator[tuple[Step, dict[TensorInfo, torch.Tensor]]]:
    """Each step with its tensors: on the host for a CPU, on the device itself for a GPU."""
    if device.type == "cpu":
        return read_ahead(plan, source, seconds)
    return transfer(plan, source, seconds, lane_of(device))


def _solve(
    stack: Stack,
    tensors: dict[TensorInfo, torch.Tensor],
    solver: StackSolver | GroupSolver,
    workspace: Workspace,
    seconds: Seconds,
) -> list[MatrixNumbers]:
    started = perf_counter()
    with _memory_errors(stack, workspace.device):
        values = exact_values(stack, tensors, workspace)
        cast = perf_counter()
        seconds.cast += cast - started
        solver.add(values.parts, values.whole, bf16_valued=values.bf16_valued)
        numbers = list(solver.results())
        seconds.solve += perf_counter() - cast
    return numbers


@contextmanager
def _memory_errors(stack: Stack | None, device: torch.device) -> Iterator[None]:
    """Say what was too large, whichever way torch puts it."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_large(stack, device) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "out of memory" in str(error):
            raise _too_large(stack, device) from error
        raise


def _too_large(stack: Stack | None, device: torch.device) -> DeviceMemoryError:
    size = "x".join(map(str, stack.matrices[-1].shape)) if stack else "some size"
    return DeviceMemoryError(
        f"A matrix of {size} was to be solved on {device}.",
        "The device ran out of memory.",
        "Select smaller groups with --groups, or use a device with more memory.",
    )
