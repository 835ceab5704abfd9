"""Reading a step's tensors while the one before is solved, into memory that is kept.

Two buffers take turns: one holds the tensors that are being solved, the other those that come. Fresh memory
for each tensor would cost more than reading it from a warm page cache, and the allocator would not give all
of it back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol

import torch

from weightscope.checkpoints.header import TensorInfo
from weightscope.checkpoints.source import Source
from weightscope.spectra.workspace import Workspace
from weightscope.sweep.plan import Plan, Step

# Tensors begin at multiples of this, as torch's own allocations do: sums do not depend on where memory lies.
ALIGNMENT = 64
_BUFFERS = 2


class Clock(Protocol):
    """Takes the seconds that were spent waiting."""

    read: float


def read_ahead(
    plan: Plan, source: Source, clock: Clock
) -> Iterator[tuple[Step, dict[TensorInfo, torch.Tensor]]]:
    """Each step with its tensors, which are good until the next step is asked for.

    Raises:
        CheckpointFormatError: A file changed since its header was read.
    """
    memory = Workspace(torch.device("cpu"))

    def read(number: int, step: Step) -> dict[TensorInfo, torch.Tensor]:
        offsets, end = {}, 0
        for info in in_order_of_use(step):
            offsets[info] = end
            end = -(-(end + info.nbytes) // ALIGNMENT) * ALIGNMENT
        buffer = memory.take(f"step{number % _BUFFERS}", end, dtype=torch.uint8)
        targets = [buffer[offsets[info] : offsets[info] + info.nbytes] for info in step.tensors]
        tensors = source.read_all(step.tensors, targets)
        return dict(zip(step.tensors, tensors, strict=True))

    # As soon as a step is solved its buffer is filled again, whether or not the step after it is there: so
    # a source with several connections never waits for the solver while it is the slower of the two.
    with ThreadPoolExecutor(max_workers=_BUFFERS) as readers, interrupting(source):
        coming: deque[Future[dict[TensorInfo, torch.Tensor]]] = deque()
        for number, step in enumerate(plan.steps):
            for ahead in range(number + len(coming), min(number + _BUFFERS, len(plan.steps))):
                coming.append(readers.submit(read, ahead, plan.steps[ahead]))
            started = perf_counter()
            tensors = coming.popleft().result()
            clock.read += perf_counter() - started
            yield step, tensors


def in_order_of_use(step: Step) -> dict[TensorInfo, None]:
    """A step's tensors, those of a stack one behind the other: then they make up its whole as they lie."""
    used = (part.tensor for stack in step.stacks for matrix in stack.parts for part in matrix.slices)
    return dict.fromkeys([*used, *step.tensors])


@contextmanager
def interrupting(source: Source) -> Iterator[None]:
    """Let reads end soon where the work ends early: the pool they run in waits for its threads."""
    try:
        yield
    except BaseException:
        source.interrupt()
        raise
