"""Recipes that train: a setting of numbers, the sizes it comes in, and where the claims hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from weightscope.recipes.fields import FileStem, Text
from weightscope.recipes.parts import Experiment, Part
from weightscope.training.settings import DecaySettings, MergingSettings
from weightscope.training.thresholds import DecayThresholds, MergingThresholds

PAPER = "paper"
"""The size that a recipe has as it is written."""


def _with_tuples(content: Any) -> Any:
    """YAML has lists only."""
    if not isinstance(content, dict):
        return content
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}


class PictureSpec(Part):
    """The figure."""

    file: FileStem | None = None
    """Name of the pictures without `.png` and `.svg`; the recipe's if left out."""


class _Training(Experiment):
    """What every recipe that trains has."""

    size: Text = PAPER
    """Which of `sizes` was laid over the setting; `paper` for none."""
    device: Text = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1` …"""
    data_dir: Text | None = None
    """Folder of the images; the Hub or its cache if left out."""
    figure: PictureSpec = PictureSpec()
    """What is drawn."""


class MergingRecipe(_Training):
    """Nets trained apart and merged (paper A's Figures 3 and 5)."""

    experiment: Literal["merging"]
    """`merging`."""
    claims: Text = "F3"
    """What the claims' names begin with."""
    setting: Annotated[MergingSettings, BeforeValidator(_with_tuples)] = Field(
        default_factory=MergingSettings
    )
    """The numbers of the experiment."""
    thresholds: Annotated[MergingThresholds, BeforeValidator(_with_tuples)] = MergingThresholds()
    """Where its claims hold."""


class DecayRecipe(_Training):
    """Small nets trained with many weight decays (paper A's Figure 2)."""

    experiment: Literal["decay"]
    """`decay`."""
    claims: Text = "F2"
    """What the claims' names begin with."""
    setting: Annotated[DecaySettings, BeforeValidator(_with_tuples)] = Field(default_factory=DecaySettings)
    """The numbers of the experiment."""
    thresholds: Annotated[DecayThresholds, BeforeValidator(_with_tuples)] = DecayThresholds()
    """Where its claims hold."""


TRAINING: dict[str, type[Part]] = {"merging": MergingRecipe, "decay": DecayRecipe}
"""Each kind that trains by its name."""
