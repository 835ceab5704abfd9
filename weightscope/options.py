"""What to analyse and how, checked before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weightscope.errors import OptionError
from weightscope.families.spec import DEFAULT_GROUPS, Group

DEFAULT_EPSILON = (1e-3, 1e-2)
# As in `weightscope.spectra`, which to import would load torch.
BOUNDS = ("residual", "probable", "audited", "proved")
SPECTRUM_METHODS = ("auto", "svdvals", "gram")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to analyse and how, checked.

    Raises:
        OptionError: A value out of its range.
        SelectionError: A name that is no group, or layers that are none.
    """

    groups: tuple[Group, ...] = DEFAULT_GROUPS
    """Roles to analyse."""
    layers: tuple[int, ...] | None = None
    """Layers to analyse; None for all, and for what lies outside the layers."""
    spectrum: bool = False
    """Whether to compute every singular value."""
    epsilon: tuple[float, ...] = (1e-3, 1e-2)
    """Thresholds of the ε-ranks, each in (0, 1)."""
    spectrum_method: str = "auto"
    """How to compute them: `svdvals`, `gram`, or `auto` by size and type."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`."""
    rtol: float = 1e-6
    """Relative width of the interval around the spectral norm, in [1e-12, 1e-2]."""
    bound: str = "probable"
    """What stands behind its upper end: `residual`, `probable`, `audited` or `proved`."""
    memory: int | None = None
    """Bytes that tensors and solvers may take; None for three quarters of what is free."""
    seed: int = 0
    """Of the random start."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 1e-12 <= self.rtol <= 1e-2:
            raise OptionError(
                f"The relative tolerance {self.rtol:g} was asked for.",
                "It must lie between 1e-12 (float64's rounding) and 1e-2.",
                "The default is 1e-6.",
            )
        _one_of("bound", self.bound, "bounds", BOUNDS)
        _one_of("spectrum method", self.spectrum_method, "spectrum methods", SPECTRUM_METHODS)
        for epsilon in self.epsilon:
            if not 0 < epsilon < 1:
                raise OptionError(
                    f"The threshold epsilon {epsilon:g} was asked for.",
                    "It is compared with σ/σ₁ and must lie between 0 and 1.",
                    "Write for example 1e-3,1e-2.",
                )
        if not self.groups:
            raise OptionError(
                "No group was asked for.", "Nothing would be analysed.", "Leave groups out for the default."
            )

    def as_dict(self) -> dict[str, Any]:
        """For the provenance."""
        return {
            "groups": [str(group) for group in self.groups],
            "layers": None if self.layers is None else list(self.layers),
            "spectrum": self.spectrum,
            "epsilon": list(self.epsilon),
            "spectrum_method": self.spectrum_method,
            "bound": self.bound,
            "device": self.device,
            "memory": self.memory,
        }


def _one_of(noun: str, value: str, nouns: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise OptionError(
            f"The {noun} {value!r} was asked for.",
            f"The {nouns} are: {', '.join(allowed)}.",
            "Use one of these.",
        )
