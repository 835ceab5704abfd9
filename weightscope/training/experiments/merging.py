"""Paper A's Figures 3 and 5: two nets are trained apart, and their weights are added.

Each draw has data for two tasks and two initial nets. Three arms tell what merging takes: in `different` the
inputs of the tasks are orthogonal; in `conflicting` they have one law and two labellings; in `identical` one
law and one labelling. The arms differ in the second task only, so where their inputs have one dimension the
first net is trained once for all. Every net of every draw, task, arm and λ is trained at the same time.

Source: Kuzborskij and Abbasi Yadkori, "Low-rank bias, weight decay, and model merging in neural networks"
(2025), section 6.2 and Appendix C.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from weightscope.provenance import provenance_here
from weightscope.training.data import Arm, image_tasks, merging_tasks
from weightscope.training.fits import check_fits
from weightscope.training.follow import Observer, follow
from weightscope.training.history import recorded_steps
from weightscope.training.images import load_images
from weightscope.training.merging_nets import MergingNets
from weightscope.training.saved_state import SavedState
from weightscope.training.seeds import draw_seeds, generator_for
from weightscope.training.settings import MergingSettings
from weightscope.training.task import Task

if TYPE_CHECKING:
    import pandas as pd

    from weightscope.training.image_set import ImageSet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MergingRun:
    """What came out of the experiment."""

    settings: MergingSettings
    """Of the run."""
    history: pd.DataFrame
    """What was seen, see `history.COLUMNS`."""
    nets: dict[str, dict[str, Tensor]]
    """Name of a file to its tensors: the nets of all draws; at the settings' λ the merged ones too."""
    dimension: int
    """Of the inputs of `different`."""
    data: dict[str, Any]
    """Where the data came from."""


def run_merging(
    settings: MergingSettings,
    *,
    device: torch.device | str = "cpu",
    data_dir: str | Path | None = None,
    state: Path | None = None,
    resume: bool = False,
    observe: Observer | None = None,
) -> MergingRun:
    """Draw, train, merge and measure.

    Args:
        settings: The numbers.
        device: Where to train; what is drawn is drawn on the CPU.
        data_dir: Folder of the image set; None for the Hub or its cache.
        state: File for what is needed to go on after a kill; None for none.
        resume: Whether to go on from it.
        observe: Told how far the run is.

    Raises:
        DataNotFound, DataFormatError: The images are not there, or not what they should be.
        OptionError: More samples than there are images.
        DeviceMemoryError: The nets do not fit.
        TrainingDiverged: A weight is no number any more.
        JournalMismatch: The state is of another run.
        OutputError: The state could not be written.
    """
    images = None if settings.data == "synthetic" else load_images(settings.data, data_dir=data_dir)
    source = source_of(images)
    device = torch.device(device)
    check_fits(merging_bytes(settings, images), device)
    ensemble = MergingNets(settings, draws_of(settings, images), device)
    saved = None if state is None else SavedState(state, _identity(settings, source, device), resume=resume)
    history = follow(ensemble, recorded_steps(settings.steps, settings.records), saved=saved, observe=observe)
    dimension = settings.dimension if images is None else 2 * images.pixels
    return MergingRun(
        settings=settings,
        history=history.table(),
        nets=ensemble.named(),
        dimension=dimension,
        data=source,
    )


def source_of(images: ImageSet | None) -> dict[str, Any]:
    """Where the data came from, with the digests of its files."""
    return {"name": "synthetic"} if images is None else {"name": images.name, **asdict(images.source)}


def draws_of(
    settings: MergingSettings, images: ImageSet | None
) -> Iterator[tuple[Mapping[Arm, tuple[Task, Task]], torch.Generator]]:
    """Of each draw the tasks of every arm, and the generator of its initial weights."""
    for seed in draw_seeds(settings.seed, settings.draws):
        tasks: dict[Arm, tuple[Task, Task]] = {}
        for arm in settings.arms:
            generator = generator_for(seed, "data")  # the same numbers for every arm
            if images is None:
                tasks[arm] = merging_tasks(
                    generator,
                    samples=settings.samples,
                    dimension=settings.dimension,
                    arm=arm,
                    label_of=settings.label_of,
                    shared_inputs=bool(settings.shared_inputs) and arm == "conflicting",
                )
            else:
                tasks[arm] = image_tasks(
                    generator,
                    images,
                    samples=settings.samples,
                    arm=arm,
                    balanced=settings.balanced,
                    shared_images=settings.shared_inputs is not False,
                )
        yield tasks, generator_for(seed, "initial weights")


def _identity(settings: MergingSettings, source: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """All that the numbers depend on: where this is equal, so are they, bit for bit."""
    here = provenance_here(device)
    return {
        "experiment": "merging",
        "settings": asdict(settings),
        "data": source,
        **{name: here[name] for name in ("versions", "device", "threads")},
    }


def merging_bytes(settings: MergingSettings, images: ImageSet | None) -> int:
    """Bytes that the run takes at most: the nets with what they began as, merged copies, inputs, a step."""
    padded = settings.dimension if images is None else 2 * images.pixels
    nets = settings.draws * (2 * len(settings.weight_decays) + 3)
    weights = 0
    for columns, rows in zip((padded, *settings.widths), (*settings.widths, 1), strict=True):
        weights += columns * rows
    activations = settings.samples * sum(settings.widths)
    return nets * 4 * (5 * weights + 2 * settings.samples * padded + 4 * activations)
