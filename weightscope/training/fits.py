"""Whether a training fits into memory, before it begins."""

from __future__ import annotations

import torch

from weightscope.errors import DeviceMemoryError
from weightscope.sweep.devices import available_bytes


def check_fits(needed: int, device: torch.device) -> None:
    """Refuse what would not fit.

    Args:
        needed: Bytes that the run takes at most.
        device: Where it takes them.

    Raises:
        DeviceMemoryError: There are not so many free.
    """
    there = available_bytes(device)
    if there is not None and needed > there:
        raise DeviceMemoryError(
            f"A training that takes about {needed / 2**30:.1f} GiB on {device} was asked for.",
            f"{there / 2**30:.1f} GiB are free there.",
            "Choose fewer draws, weight decays or samples, or smaller widths, with --set.",
        )
