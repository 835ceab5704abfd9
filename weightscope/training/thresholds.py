"""Where the claims hold: fixed before the first run, and stated in the recipes."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from weightscope.errors import OptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class MergingThresholds:
    """Of Figures 3 and 5."""

    ratio: float = 3.0
    """Merged over single loss of `different`, at most."""
    excess: float = 0.03
    """(merged − single)/(ln 2 − single) of `different`, at most."""
    conflicting_excess: float = 0.05
    """The same of `conflicting`, at least."""
    conflicting_times: float = 5.0
    """And so many times that of `different`, at least."""
    share_of_draws: float = 0.8
    """In how many of the draws this must be so."""
    decay_ratio: float = 3.0
    """How much smaller decay makes merged over single loss, at least."""
    rank: float = 0.5
    """Final stable rank over that of a Gaussian matrix, at most."""
    merged_rank: tuple[float, float] = (0.67, 1.6)
    """Merged over single stable rank lies between these; √2 is what two disjoint parts give."""
    fewest_draws: int = 5
    """Fewer leave a claim undecided."""
    time: float = 9.0
    """ηλt at the end, at least: before, the initial weights have not decayed and nothing can show."""

    def __post_init__(self) -> None:
        """Refuse a share that is none, a range that is empty, and what is no number."""
        _check(self)
        _check_share(self.share_of_draws)
        if not self.merged_rank[0] <= self.merged_rank[1]:
            raise _refused("merged_rank", self.merged_rank, "It is a range, from the smaller to the larger")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecayThresholds:
    """Of Figure 2."""

    correlation: float = 0.8
    """Spearman's ρ of the mean inverse stable rank and λ, at least."""
    error: float = 0.1
    """Classification error of a net that makes many, at least."""
    fewest_decays: int = 5
    """Values of λ at which nets have not collapsed; fewer leave a claim undecided."""
    fewest_draws: int = 5
    """Fewer leave a claim undecided."""

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        _check(self)


def _check(thresholds: MergingThresholds | DecayThresholds) -> None:
    for field in fields(thresholds):
        value = getattr(thresholds, field.name)
        least = 1 if field.name.startswith("fewest_") else 0 if field.name != "correlation" else -1
        for number in value if isinstance(value, tuple) else (value,):
            if not least <= number < math.inf:
                raise _refused(field.name, value, f"It is a number from {least} upwards")


def _refused(name: str, value: object, rule: str) -> OptionError:
    return OptionError(f"The threshold {name}={value} was asked for.", f"{rule}.", "Choose another value.")


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise OptionError(
            f"share_of_draws={share} was asked for.",
            "It is a share of the draws.",
            "Choose a number in (0, 1].",
        )
