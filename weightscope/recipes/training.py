"""Recipes that train: the experiment, its claims, its figure and its nets, into one folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from safetensors import torch as safetensors_torch

from weightscope.difference import first_difference
from weightscope.errors import JournalMismatch, TrainingDiverged
from weightscope.plots import save_figure
from weightscope.provenance import provenance_here, versions
from weightscope.publish import check_writable, only_run, refuse_others, remove_if_empty
from weightscope.recipes.load import LoadedRecipe
from weightscope.recipes.outcome import Listener
from weightscope.recipes.results import PROVENANCE_FILE, resolved_digest, write_results
from weightscope.recipes.training_spec import DecayRecipe, MergingRecipe
from weightscope.sweep.devices import resolve_device
from weightscope.table import write_csv
from weightscope.training.claims import Claim, read_claims, write_claims
from weightscope.training.decay_claims import judge_decay
from weightscope.training.decay_figure import decay_figure
from weightscope.training.experiments.decay_sweep import DecayRun, run_decay
from weightscope.training.experiments.merging import MergingRun, run_merging, source_of
from weightscope.training.images import DIGITS, KNOWN, load_images
from weightscope.training.merging_claims import judge_merging
from weightscope.training.merging_figure import merging_figure
from weightscope.training.saved_state import STATE_FILE, check_state, remove_state
from weightscope.training.seeds import draw_seeds

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from torch import Tensor

CLAIMS_FILE = "claims.json"
_CONVENTION = (
    "the value that the optimiser gets: W <- (1 - step_size * weight_decay) W - step_size * gradient"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOutcome:
    """What became of a recipe that trains."""

    claims: tuple[Claim, ...]
    """With their verdicts."""
    files: tuple[Path, ...]
    """What was written; empty if the results were there already."""
    seconds: float
    """What it took; 0 if they were there."""


def run_training(
    loaded: LoadedRecipe,
    recipe: MergingRecipe | DecayRecipe,
    folder: Path,
    listener: Listener,
    *,
    resume: bool,
) -> TrainingOutcome:
    """Train, judge, draw and write.

    Args:
        loaded: The recipe.
        recipe: The same, checked.
        folder: Made if it is not there.
        listener: Hears of notes and progress.
        resume: Whether to keep results that are there, and to go on with what was interrupted.

    Raises:
        TrainingDiverged: A weight is no number any more; the history until then is written.
        WeightscopeError: What `run_merging` and `run_decay` raise; the folder cannot be written to.
    """
    device = resolve_device(recipe.device)
    if resume and (claims := _kept(loaded, recipe, folder)) is not None:
        return TrainingOutcome(claims=tuple(claims), files=(), seconds=0.0)
    is_new = not os.path.lexists(folder)
    check_writable(folder)
    refuse_others(folder, "summary.json", "an analysis")
    try:
        with only_run(folder):
            return _train(loaded, recipe, folder, device, listener, resume=resume)
    finally:
        if is_new:
            remove_if_empty(folder)


def _train(
    loaded: LoadedRecipe,
    recipe: MergingRecipe | DecayRecipe,
    folder: Path,
    device: torch.device,
    listener: Listener,
    *,
    resume: bool,
) -> TrainingOutcome:
    state = folder / STATE_FILE
    check_state(state)
    if state.exists() and not resume:
        listener.notes([f"'{state}', of an interrupted run, is passed over; --resume goes on from it."])
    started = perf_counter()
    try:
        with listener.training(recipe.title) as observe:
            run: MergingRun | DecayRun
            if isinstance(recipe, MergingRecipe):
                run = run_merging(
                    recipe.setting,
                    device=device,
                    data_dir=recipe.data_dir,
                    state=state,
                    resume=resume,
                    observe=observe,
                )
            else:
                run = run_decay(recipe.setting, device=device, state=state, resume=resume, observe=observe)
    except TrainingDiverged as error:
        _write_history(loaded, recipe, folder, device, error, perf_counter() - started)
        raise
    claims = _judge(recipe, run)
    files = _write(loaded, recipe, folder, device, run, claims, perf_counter() - started)
    remove_state(state)
    return TrainingOutcome(claims=tuple(claims), files=files, seconds=perf_counter() - started)


def _judge(recipe: MergingRecipe | DecayRecipe, run: MergingRun | DecayRun) -> list[Claim]:
    if isinstance(recipe, DecayRecipe):
        return judge_decay(run.history, recipe.setting, recipe.thresholds, prefix=recipe.claims)
    assert isinstance(run, MergingRun)  # noqa: S101 - a recipe's run is of its kind
    return judge_merging(
        run.history, recipe.setting, recipe.thresholds, prefix=recipe.claims, dimension=run.dimension
    )


def _kept(loaded: LoadedRecipe, recipe: MergingRecipe | DecayRecipe, folder: Path) -> list[Claim] | None:
    """The claims of a whole run of this very recipe by this version; None if none ended here.

    Raises:
        JournalMismatch: Another run ended here, which going on would replace.
    """
    if (folder / STATE_FILE).exists():
        return None
    try:
        found = json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))
        claims = read_claims(folder / CLAIMS_FILE)
        then = {
            "setting": found["settings"],
            "thresholds": found["thresholds"],
            "versions": found["versions"],
        }
        data = found["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    now = {"setting": asdict(recipe.setting), "thresholds": asdict(recipe.thresholds), "versions": versions()}
    different = first_difference(then, json.loads(json.dumps(now)))
    found_there = ""
    if different:
        name = ".".join(different.path)
        found_there = f"{name} was {different.then} there and is {different.now} now"
    elif found["recipe"]["resolved_sha256"] != resolved_digest(loaded):
        found_there = "its recipe was another"
    elif _other_data(recipe, data):
        found_there = "its images were others"
    if found_there:
        raise JournalMismatch(
            f"The run in '{folder}' was to be gone on with.",
            f"The results there are of another one: {found_there}.",
            "Name another folder with --out, or leave out --resume to replace them.",
        )
    return claims


def _other_data(recipe: MergingRecipe | DecayRecipe, then: Any) -> bool:
    """Whether a folder of images holds others now; what comes from the Hub is not fetched to see."""
    if not isinstance(recipe, MergingRecipe) or recipe.setting.data in ("synthetic", DIGITS):
        return False
    if recipe.setting.data in KNOWN and recipe.data_dir is None:
        return False
    now = source_of(load_images(recipe.setting.data, data_dir=recipe.data_dir))
    return bool(json.loads(json.dumps(now)) != then)


def _figure(recipe: MergingRecipe | DecayRecipe, run: MergingRun | DecayRun) -> Figure:
    title = f"{recipe.setting.numbers}; mean ± standard deviation"
    if isinstance(run, DecayRun):
        return decay_figure(run.history, run.settings, title=title)
    return merging_figure(run.history, run.settings, dimension=run.dimension, title=title)


def _write(
    loaded: LoadedRecipe,
    recipe: MergingRecipe | DecayRecipe,
    folder: Path,
    device: torch.device,
    run: MergingRun | DecayRun,
    claims: list[Claim],
    seconds: float,
) -> tuple[Path, ...]:
    figure = _figure(recipe, run)
    data = run.data if isinstance(run, MergingRun) else {"name": "synthetic"}
    writers: Mapping[str, Callable[[Path], object]] = {
        "history.parquet": lambda path: run.history.to_parquet(path, index=False),
        "history.csv": lambda path: write_csv(run.history, path),
        **{f"nets/{name}.safetensors": partial(_save_net, tensors) for name, tensors in run.nets.items()},
        f"{loaded.file}.png": lambda path: save_figure(figure, path),
        f"{loaded.file}.svg": lambda path: save_figure(figure, path),
        CLAIMS_FILE: lambda path: write_claims(claims, path),
    }
    return write_results(
        folder,
        loaded,
        writers=writers,
        provenance=_provenance(recipe, device, seconds) | {"data": data, "status": "done"},
        optional=[f"nets/{file.name}" for file in (folder / "nets").glob("*.safetensors")],
        advice=f"Make room there and run it again with --resume: it goes on from '{STATE_FILE}'."
        if (folder / STATE_FILE).exists()
        else "Make room there, or choose another folder with --out, and run it again.",
    )


def _write_history(
    loaded: LoadedRecipe,
    recipe: MergingRecipe | DecayRecipe,
    folder: Path,
    device: torch.device,
    error: TrainingDiverged,
    seconds: float,
) -> None:
    """What was seen until training diverged; results of an earlier run that is whole are removed."""
    write_results(
        folder,
        loaded,
        writers={
            "history.parquet": lambda path: error.history.to_parquet(path, index=False),
            "history.csv": lambda path: write_csv(error.history, path),
        },
        provenance=_provenance(recipe, device, seconds) | {"status": "diverged", "error": str(error)},
        optional=[
            CLAIMS_FILE,
            f"{loaded.file}.png",
            f"{loaded.file}.svg",
            *(f"nets/{file.name}" for file in (folder / "nets").glob("*.safetensors")),
        ],
    )


def _provenance(recipe: MergingRecipe | DecayRecipe, device: torch.device, seconds: float) -> dict[str, Any]:
    return {
        **provenance_here(device),
        "settings": asdict(recipe.setting),
        "thresholds": asdict(recipe.thresholds),
        "weight_decay": _CONVENTION,
        "draw_seeds": draw_seeds(recipe.setting.seed, recipe.setting.draws),
        "seconds": {"total": seconds},
    }


def _save_net(tensors: dict[str, Tensor], path: Path) -> None:
    """As an ordinary file of ours, which `save_file` would make readable to its owner alone."""
    path.write_bytes(safetensors_torch.save(tensors, {"format": "pt"}))
