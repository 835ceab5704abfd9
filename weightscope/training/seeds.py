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
    _in_range(seed)
    return torch.Generator("cpu").manual_seed((_hashed(purpose) + seed) % _SEEDS)


def draw_seeds(seed: int, draws: int) -> list[int]:
    """The seeds of a run's draws: those of one run have nothing in common with those of another.

    Args:
        seed: Of the run, as in `generator_for`.
        draws: How many. The first ones are the same whatever this is.

    Raises:
        OptionError: The seed is out of its range, or there are no draws.
    """
    _in_range(seed)
    if draws < 1:
        raise OptionError(f"{draws} draws were asked for.", "There must be one at least.", "Ten are usual.")
    return [_hashed(f"draw {draw} of the run {seed}") for draw in range(draws)]


def _hashed(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big")


def _in_range(seed: int) -> None:
    if not 0 <= seed < _SEEDS:
        raise OptionError(
            f"The seed {seed} was asked for.", f"A seed lies between 0 and {_SEEDS - 1:,}.", "The first is 0."
        )
