"""Reading a streamed step block by block: the next one comes while the last is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import torch
from torch import Tensor

from weightscope.checkpoints.header import rows_of
from weightscope.checkpoints.source import Source
from weightscope.spectra.workspace import Workspace
from weightscope.sweep.plan import Step, Stream
from weightscope.sweep.read_ahead import ALIGNMENT, Clock, interrupting
from weightscope.sweep.streaming import Part, blocks_of


def read_blocks(
    step: Step, stream: Stream, source: Source, clock: Clock, device: torch.device
) -> Iterator[tuple[tuple[Part, ...], list[Tensor]]]:
    """Each block's parts, and as many tensors, as stored, good until the next block is asked for.

    Raises:
        CheckpointFormatError: A file changed since its header was read.
    """
    memory = Workspace(torch.device("cpu"))
    blocks = list(blocks_of(step, stream))

    def read(number: int) -> list[Tensor]:
        parts, offsets = blocks[number], [0]
        for part in parts:
            offsets.append(-(-(offsets[-1] + part.nbytes) // ALIGNMENT) * ALIGNMENT)
        buffer = memory.take(f"block{number % 2}", offsets[-1], dtype=torch.uint8)
        tensors = []
        for part, start in zip(parts, offsets, strict=False):
            info, into = part.tensor, buffer[start : start + part.nbytes]
            if part.by_columns:
                tensors.append(source.read_columns(info, part.start, part.stop, into))
            else:
                tensors.append(source.read(rows_of(info, part.start, part.stop), into))
        return tensors

    with ThreadPoolExecutor(max_workers=1) as reader, interrupting(source):
        coming = reader.submit(read, 0)
        for number, parts in enumerate(blocks):
            started = perf_counter()
            tensors = coming.result()
            clock.read += perf_counter() - started
            if number + 1 < len(blocks):
                coming = reader.submit(read, number + 1)
            yield parts, [tensor.to(device) for tensor in tensors]
