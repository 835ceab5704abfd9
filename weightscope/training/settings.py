"""The numbers of paper A's experiments: what the paper gives, and what it leaves open.

Defaults are the paper's where it has them; `not in the paper` and `our reading` mark the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from weightscope.errors import OptionError

# What no run comes near: beyond it arithmetic on counts would no longer be exact, or would take all memory.
_MOST, _MOST_LAYERS, _MOST_RECORDS = 10**12, 1000, 10_000
# Labels are signs of a sine of frequency · wᵀx in float64: of higher ones rounding decides.
_MOST_FREQUENCIES, _HIGHEST_FREQUENCY = 20, 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class MergingSettings:
    """Two nets trained apart, their weights added (Figures 3 and 5).

    Raises:
        OptionError: A number out of its range.
    """

    data: str = "synthetic"
    """`synthetic`, `digits`, `mnist`, `fashion_mnist`, `cifar10`, or a folder of images."""
    samples: int = 100
    """n, of each task. Of Figure 3 not in the paper."""
    dimension: int = 100
    """d, of synthetic inputs; that of images is their own, twice it where they are padded."""
    widths: tuple[int, ...] = (1000, 100)
    """Of the hidden layers."""
    step_size: float = 1.0
    """η."""
    steps: int = 100_000
    """Of gradient descent. Of Figure 5 not in the paper."""
    weight_decay: float = 1e-4
    """λ as the optimiser gets it: W ← (1 − ηλ) W − η ∇L."""
    weight_decays: tuple[float, ...] = (0.0, 5e-6, 2.5e-5, 1e-4)
    """The λ of the panel over λ, for as many steps each. Not in the paper."""
    arms: tuple[Literal["different", "conflicting", "identical"], ...] = (
        "different",
        "conflicting",
        "identical",
    )
    """Which of the arms to train; the claims that need another stay undecided."""
    draws: int = 10
    """Of data and initial weights."""
    seed: int = 0
    """Of the draws."""
    merge: Literal["sum", "average"] = "sum"
    """The paper adds the weights."""
    initialisation: Literal["torch", "he", "glorot"] = "torch"
    """Of the weights, see `initial_weights`. Not in the paper."""
    initial_scale: float = 1.0
    """Factor on all initial weights. Not in the paper."""
    label_of: Literal["projected", "drawn"] = "projected"
    """Which x is in sin(wᵀx) of synthetic labels (our reading: the projected input)."""
    shared_inputs: bool | None = None
    """Whether both tasks of `conflicting` have the same inputs. By default images have, as one sample is
    adapted to two tasks, and synthetic data have not (our reading)."""
    balanced: bool = False
    """Whether each task has as many images of both labels. Not in the paper."""
    records: int = 40
    """About how often the nets are looked at."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        _check_common(self)
        if self.merge not in ("sum", "average"):
            raise _refused("merge", self.merge, "It is sum or average")
        if not self.arms or not set(self.arms) <= {"different", "conflicting", "identical"}:
            raise _refused("arms", self.arms, "They are some of different, conflicting and identical")
        object.__setattr__(self, "arms", tuple(dict.fromkeys(self.arms)))
        if self.data == "synthetic" and self.dimension % 2:
            raise _refused("dimension", self.dimension, "Each task has half of it, so it is even")
        if self.weight_decay not in self.weight_decays:
            object.__setattr__(self, "weight_decays", (*self.weight_decays, self.weight_decay))
        object.__setattr__(self, "weight_decays", tuple(sorted(set(self.weight_decays))))

    @property
    def numbers(self) -> str:
        """Those that a reader of a result must know, in a line."""
        data = self.data if self.data == "synthetic" else f"{self.data} images"
        how = "" if self.merge == "sum" else ", merged by averaging"
        return (
            f"{data}, n = {self.samples:,}, widths {_listed(self.widths)}, η = {self.step_size:g}, "
            f"λ = {self.weight_decay:g}, {self.steps:,} steps, {_draws(self.draws)}{how}"
        )

    @property
    def time(self) -> float:
        """ηλt at the end, dimensionless: what is left of the initial weights is e^−ηλt."""
        return self.step_size * self.weight_decay * self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class DecaySettings:
    """Small nets trained with many weight decays (Figure 2).

    Raises:
        OptionError: A number out of its range.
    """

    samples: int = 1000
    """n."""
    dimension: int = 100
    """d."""
    width: int = 10
    """Of each hidden layer."""
    hidden_layers: int = 2
    """K − 1."""
    frequencies: tuple[float, ...] = (10.0, 100.0)
    """Of the labels sign(sin(frequency wᵀx)): left and right plot."""
    epochs: int = 5000
    """Passes over the samples."""
    batch_size: int = 100
    """Of SGD. Not in the paper."""
    step_size: float = 0.1
    """η. Not in the paper."""
    weight_decays: tuple[float, ...] = (0.0, *(float(f"{10 ** (k / 4 - 6):.3g}") for k in range(17)))
    """λ as the optimiser gets it, from no effect to collapse. Not in the paper."""
    draws: int = 10
    """Of data and initial weights. Not in the paper."""
    seed: int = 0
    """Of the draws."""
    initialisation: Literal["torch", "he", "glorot"] = "torch"
    """Of the weights, see `initial_weights`. Not in the paper."""
    initial_scale: float = 1.0
    """Factor on all initial weights. Not in the paper."""
    records: int = 20
    """About how often the nets are looked at."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        _check_common(self)
        if not 1 <= self.batch_size <= self.samples:
            raise _refused("batch_size", self.batch_size, f"It lies between 1 and samples = {self.samples}")
        if not 1 <= len(self.frequencies) <= _MOST_FREQUENCIES:
            rule = f"The figure has a column for each: 1 to {_MOST_FREQUENCIES}"
            raise _refused("frequencies", self.frequencies, rule)
        for frequency in self.frequencies:
            if not 0 < frequency <= _HIGHEST_FREQUENCY:
                rule = f"Each is positive, and at most {_HIGHEST_FREQUENCY:g}"
                raise _refused("frequencies", self.frequencies, rule)
        object.__setattr__(self, "frequencies", tuple(dict.fromkeys(self.frequencies)))
        object.__setattr__(self, "weight_decays", tuple(sorted(set(self.weight_decays))))

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the hidden layers."""
        return (self.width,) * self.hidden_layers

    @property
    def numbers(self) -> str:
        """Those that a reader of a result must know, in a line."""
        return (
            f"n = {self.samples:,}, widths {_listed(self.widths)}, η = {self.step_size:g}, "
            f"batches of {self.batch_size:,}, {self.epochs:,} epochs, {_draws(self.draws)}"
        )


def _listed(widths: tuple[int, ...]) -> str:
    return ", ".join(f"{width:,}" for width in widths)


def _draws(count: int) -> str:
    return f"{count:,} draw{'s' * (count != 1)}"


def short(number: float) -> str:
    """As names of files and arms have it: short where that is all of it, so that no two are alike."""
    text = f"{number:g}"
    return text if float(text) == number else repr(float(number))


def _check_common(settings: MergingSettings | DecaySettings) -> None:
    """What both have: counts are counts, and every step decays."""
    counts = ("samples", "dimension", "steps", "epochs", "draws", "width", "hidden_layers", "batch_size")
    for name in counts:
        most = _MOST_LAYERS if name == "hidden_layers" else _MOST
        if not 1 <= getattr(settings, name, 1) <= most:
            raise _refused(name, getattr(settings, name), f"It is 1 or more, and at most {most:,}")
    if not 1 <= len(settings.widths) <= _MOST_LAYERS:
        raise _refused("widths", settings.widths, f"There are 1 to {_MOST_LAYERS:,} hidden layers")
    if not 1 <= min(settings.widths) <= max(settings.widths) <= _MOST:
        raise _refused("widths", settings.widths, f"Each lies between 1 and {_MOST:,}")
    if not 2 <= settings.records <= _MOST_RECORDS:
        rule = f"The first and the last step are always seen, and all fit into memory: 2 to {_MOST_RECORDS:,}"
        raise _refused("records", settings.records, rule)
    if settings.initialisation not in ("torch", "he", "glorot"):
        raise _refused("initialisation", settings.initialisation, "It is torch, he or glorot")
    for name in ("step_size", "initial_scale"):
        if not 0 < getattr(settings, name) < math.inf:
            raise _refused(name, getattr(settings, name), "It is a positive number")
    if not settings.weight_decays:
        raise _refused("weight_decays", (), "One at least is needed")
    decays = [*settings.weight_decays, getattr(settings, "weight_decay", 0.0)]
    for decay in decays:
        shrink = settings.step_size * decay
        if not (decay >= 0 and shrink < 1):
            raise OptionError(
                f"The weight decay {decay:g} with step size {settings.step_size:g} was asked for.",
                f"A step multiplies the weights by 1 − ηλ = {1 - shrink:g}, and decays only where ηλ lies in "
                "[0, 1).",
                "Choose a smaller step size or weight decay.",
            )


def _refused(name: str, value: object, rule: str) -> OptionError:
    text = str(value)
    shown = text if len(text) <= 80 else f"{text[:79]}…"
    return OptionError(f"{name}={shown} was asked for.", f"{rule}.", "Choose another value.")
