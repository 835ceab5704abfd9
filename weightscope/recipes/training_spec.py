"""Recipes that train: a setting of numbers, the sizes it comes in, and where the claims hold."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from pydantic import ConfigDict, PlainValidator, create_model

from weightscope.recipes.fields import FileStem, Text
from weightscope.recipes.parts import Experiment, Part
from weightscope.training.settings import DecaySettings, MergingSettings
from weightscope.training.thresholds import DecayThresholds, MergingThresholds

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PAPER = "paper"
"""The size that a recipe has as it is written."""


def _mapping_of(kind: type[DataclassInstance]) -> PlainValidator:
    """A mapping becomes such an object: exact types, no unknown key, and then the checks of its own."""
    hints = get_type_hints(kind)
    every: dict[str, Any] = {field.name: (hints[field.name], field.default) for field in fields(kind)}
    model = create_model(kind.__name__, __config__=ConfigDict(extra="forbid", strict=True), **every)

    def build(content: Any) -> Any:
        if isinstance(content, kind):
            return content
        if isinstance(content, dict):  # YAML has lists only, and nothing stands for the default of a key
            given = {n: value for n, value in content.items() if value is not None or n not in every}
            content = {n: tuple(value) if isinstance(value, list) else value for n, value in given.items()}
        return kind(**dict(model.model_validate(content)))

    return PlainValidator(build)


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
    setting: Annotated[MergingSettings, _mapping_of(MergingSettings)] = MergingSettings()
    """The numbers of the experiment."""
    thresholds: Annotated[MergingThresholds, _mapping_of(MergingThresholds)] = MergingThresholds()
    """Where its claims hold."""


class DecayRecipe(_Training):
    """Small nets trained with many weight decays (paper A's Figure 2)."""

    experiment: Literal["decay"]
    """`decay`."""
    claims: Text = "F2"
    """What the claims' names begin with."""
    setting: Annotated[DecaySettings, _mapping_of(DecaySettings)] = DecaySettings()
    """The numbers of the experiment."""
    thresholds: Annotated[DecayThresholds, _mapping_of(DecayThresholds)] = DecayThresholds()
    """Where its claims hold."""


TRAINING: dict[str, type[Part]] = {"merging": MergingRecipe, "decay": DecayRecipe}
"""Each kind that trains by its name."""


def setting_keys(experiment: str) -> list[str]:
    """The keys of such an experiment's `setting`."""
    kind = MergingSettings if experiment == "merging" else DecaySettings
    return [field.name for field in fields(kind)]
