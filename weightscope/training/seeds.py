"""From a seed to the generator of one purpose, on the CPU, so that it means the same on every device."""

from __future__ import annotations

from hashlib import sha256

import torch

from weightscope.errors import OptionError

# torch's Mersenne Twister takes 32 bits and drops the others.
_SEEDS = 2**32


def generator_for(seed: int, purpose: str) -> torch.Generator:
    """A fresh generator on the CPU.

    Two purposes of one seed have nothing in common. With one generator for all, or the same seed for each, a
    task's target vector could be the first row of the initial weights.

    Args:
        seed: Of the draw, in [0, 2³²). No two of one purpose are alike.
        purpose: `data`, `initial weights` …

    Raises:
        OptionError: The seed is out of its range.
    """
    if not 0 <= seed < _SEEDS:
        raise OptionError(
            f"The seed {seed} was asked for.", f"A seed lies between 0 and {_SEEDS - 1:,}.", "The first is 0."
        )
    start = int.from_bytes(sha256(purpose.encode()).digest()[:4], "big")
    return torch.Generator("cpu").manual_seed((start + seed) % _SEEDS)
