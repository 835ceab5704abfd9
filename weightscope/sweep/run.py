"""Read, cast, solve, emit: a plan carried out in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter

import torch

from weightscope.checkpoints.source import Source
from weightscope.errors import DeviceMemoryError
from weightscope.families.assign import Matrix
from weightscope.families.gather import write_matrix
from weightscope.spectra.numbers import MatrixNumbers, SpectralOptions, matrix_numbers
from weightscope.sweep.devices import require_memory
from weightscope.sweep.plan import Plan


@dataclass(slots=True)
class Seconds:
    """Where the time of a sweep went."""

    read: float = 0.0
    """Reading tensors from their source."""
    cast: float = 0.0
    """Copying to the device, splitting, casting to float64."""
    solve: float = 0.0
    """Computing."""


@dataclass(slots=True)
class Progress:
    """How far a sweep is; handed to the observer after every batch."""

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
    observe: Callable[[Progress], None] | None = None,
) -> Iterator[tuple[Matrix, MatrixNumbers, Progress]]:
    """Carry out a plan and yield each matrix with its numbers, in the plan's order.

    Raises:
        CheckpointFormatError: A file changed since its header was read.
        DeviceMemoryError: A step does not fit.
    """
    require_memory(plan.working_bytes(with_spectrum=options.with_spectrum), device)
    progress = Progress(total_bytes=plan.read_bytes)
    with torch.inference_mode():
        for step in plan.steps:
            started = perf_counter()
            stored = [source.read(info) for info in step.tensors]
            progress.seconds.read += perf_counter() - started
            started = perf_counter()
            tensors = {
                info.name: tensor.to(device) for info, tensor in zip(step.tensors, stored, strict=True)
            }
            del stored
            progress.seconds.cast += perf_counter() - started
            before = progress.done_bytes
            elements = sum(m.shape[0] * m.shape[1] for batch in step.batches for m in batch)
            solved = 0
            for members in step.batches:
                for matrix, numbers in zip(
                    members, _solve(members, tensors, options, progress.seconds), strict=True
                ):
                    yield matrix, numbers, progress
                solved += len(members) * members[0].shape[0] * members[0].shape[1]
                progress.done_bytes = before + step.read_bytes * solved // elements
                if observe:
                    observe(progress)


def _solve(
    members: tuple[Matrix, ...],
    tensors: dict[str, torch.Tensor],
    options: SpectralOptions,
    seconds: Seconds,
) -> list[MatrixNumbers]:
    started = perf_counter()
    device = next(iter(tensors.values())).device
    try:
        batch = torch.empty(len(members), *members[0].shape, dtype=torch.float64, device=device)
        for matrix, out in zip(members, batch, strict=True):
            write_matrix(matrix, tensors, out)
        cast = perf_counter()
        seconds.cast += cast - started
        numbers = matrix_numbers(batch, options)
        seconds.solve += perf_counter() - cast
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_large(members, device) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "out of memory" in str(error):
            raise _too_large(members, device) from error
        raise
    return numbers


def _too_large(members: tuple[Matrix, ...], device: torch.device) -> DeviceMemoryError:
    rows, columns = members[0].shape
    return DeviceMemoryError(
        f"{len(members)} matrices of {rows}x{columns} were to be solved on {device}.",
        "The device ran out of memory.",
        "Select smaller groups with --groups, or use a device with more memory.",
    )
