"""Reading a step's tensors while the one before is solved, into memory that is kept.

Two buffers take turns: one holds the tensors that are being solved, the other those that come. Fresh memory
for each tensor would cost more than reading it from a warm page cache, and the allocator would not give all
of it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from time import perf_counter
from typing import Protocol

import torch

from weightscope.checkpoints.source import Source
from weightscope.spectra.workspace import Workspace
from weightscope.sweep.plan import Plan, Step

# Tensors begin at multiples of this, as torch's own allocations do: sums do not depend on where memory lies.
ALIGNMENT = 64


class Clock(Protocol):
    """Takes the seconds that were spent waiting."""

    read: float


def read_ahead(plan: Plan, source: Source, clock: Clock) -> Iterator[tuple[Step, dict[str, torch.Tensor]]]:
    """Each step with its tensors, which are good until the next step is asked for.

    Raises:
        CheckpointFormatError: A file changed since its header was read.
    """
    memory = Workspace(torch.device("cpu"))

    def read(number: int, step: Step) -> dict[str, torch.Tensor]:
        offsets = [0]
        for info in step.tensors:
            offsets.append(-(-(offsets[-1] + info.nbytes) // ALIGNMENT) * ALIGNMENT)
        buffer = memory.take(f"step{number % 2}", offsets[-1], dtype=torch.uint8)
        return {
            info.name: source.read(info, buffer[start : start + info.nbytes])
            for info, (start, _) in zip(step.tensors, pairwise(offsets), strict=True)
        }

    with ThreadPoolExecutor(max_workers=1) as reader:
        coming: Future[dict[str, torch.Tensor]] | None = None
        for number, step in enumerate(plan.steps):
            started = perf_counter()
            coming = coming or reader.submit(read, number, step)
            tensors = coming.result()
            clock.read += perf_counter() - started
            following = plan.steps[number + 1 : number + 2]
            coming = reader.submit(read, number + 1, following[0]) if following else None
            yield step, tensors
