"""`run_recipe` and `train_recipe`: the two doors to every kind of experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from weightscope.recipes.inspecting import Comparison, run_inspect
from weightscope.recipes.load import LoadedRecipe
from weightscope.recipes.outcome import Listener, Outcome
from weightscope.recipes.spec import AnalyzeRecipe, InspectRecipe
from weightscope.recipes.training_spec import DecayRecipe, MergingRecipe

if TYPE_CHECKING:
    from weightscope.recipes.joint import Report
    from weightscope.recipes.training import TrainingOutcome


def run_recipe(
    loaded: LoadedRecipe, folder: Path, listener: Listener, *, resume: bool = False
) -> tuple[Outcome, list[Comparison] | list[Report]]:
    """Run a recipe of models into a folder.

    A model that fails does not stop the others; the outcome says which failed and why.

    Args:
        loaded: The recipe.
        folder: Made if it is not there.
        listener: Hears of models, notes and progress.
        resume: Whether finished models are kept and interrupted ones go on.

    Returns:
        What became of it, and its rows: sizes beside the paper's, or each model's numbers.

    Raises:
        DeviceUnavailable: The device is not here.
        OutputError: The folder cannot be written to.
    """
    if isinstance(loaded.recipe, InspectRecipe):
        return run_inspect(loaded, loaded.recipe, folder, listener)
    from weightscope.recipes.analysing import run_analyze  # loads torch, in time

    assert isinstance(loaded.recipe, AnalyzeRecipe)  # noqa: S101 - those that train have a door of their own

    return run_analyze(loaded, loaded.recipe, folder, listener, resume=resume)


def trains(loaded: LoadedRecipe) -> bool:
    """Whether the recipe is one for `train_recipe`."""
    return isinstance(loaded.recipe, (MergingRecipe, DecayRecipe))


def train_recipe(
    loaded: LoadedRecipe, folder: Path, listener: Listener, *, resume: bool = False
) -> TrainingOutcome:
    """Run a recipe that trains into a folder; see `training.run_training`."""
    from weightscope.recipes.training import run_training  # loads torch, in time

    assert isinstance(loaded.recipe, (MergingRecipe, DecayRecipe))  # noqa: S101 - `trains` has been asked
    return run_training(loaded, loaded.recipe, folder, listener, resume=resume)
