"""Torch on one thread for a while: of small matrices two threads take longer than one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Give this thread's operations one thread of the CPU, and put back what was set before.

    Args:
        device: Where they run; a GPU's are left as they are.
    """
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if device.type == "cpu":
            torch.set_num_threads(before)
