"""Paper A's Figures 3 and 5: two nets are trained apart, and their weights are added.

Each draw has data for two tasks and two initial nets. Three arms tell what merging takes: in `different` the
inputs of the tasks are orthogonal; in `conflicting` they have one law and two labellings; in `identical` one
law and one labelling. The arms differ in the second task only, so where their inputs have one dimension the
first net is trained once for all. Every net of every draw, task, arm and λ is trained at the same time.

Source: Kuzborskij and Abbasi Yadkori, "Low-rank bias, weight decay, and model merging in neural networks"
(2025), section 6.2 and Appendix C.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from weightscope.provenance import provenance_here
from weightscope.spectra.batch import batch_norms
from weightscope.training.data import Arm, image_tasks, merging_tasks
from weightscope.training.descent import Descent
from weightscope.training.fits import check_fits
from weightscope.training.follow import Observer, follow
from weightscope.training.history import History, recorded_steps
from weightscope.training.images import load_images
from weightscope.training.networks import Weights, fit, initial_weights, merged, outputs, side_by_side
from weightscope.training.saved_state import SavedState
from weightscope.training.seeds import draw_seeds, generator_for
from weightscope.training.settings import MergingSettings, short
from weightscope.training.task import Task

if TYPE_CHECKING:
    import pandas as pd

    from weightscope.training.image_set import ImageSet

# Steps between two looks whether all is finite.
_AT_ONCE = 256


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


def trained_with(settings: MergingSettings, arm: Arm) -> tuple[float, ...]:
    """The λ of an arm: all of them where tasks differ, which the paper shows, else its own."""
    return settings.weight_decays if arm == "different" else (settings.weight_decay,)


class MergingNets:
    """The nets of the experiment, in one `Descent` for each dimension of inputs.

    Attributes:
        unit, at_once: See `follow.Ensemble`.
    """

    unit = "steps"
    at_once = _AT_ONCE

    def __init__(
        self,
        settings: MergingSettings,
        draws: Iterator[tuple[Mapping[Arm, tuple[Task, Task]], torch.Generator]],
        device: torch.device,
    ) -> None:
        self._settings = settings
        self._groups: dict[int, _Group] = {}
        for draw, (tasks, generator) in enumerate(draws):
            starts: dict[int, list[Weights]] = {}
            for arm in settings.arms:
                first, second = tasks[arm]
                dimension = first.inputs.shape[-1]
                if dimension not in starts:  # the arms of one dimension begin alike
                    widths = (dimension, *settings.widths, 1)
                    starts[dimension] = [_initial(generator, widths, settings) for _ in range(2)]
                group = self._groups.setdefault(dimension, _Group())
                for decay in trained_with(settings, arm):
                    group.add_pair(draw, arm, decay, (first, second), starts[dimension])
        for group in self._groups.values():
            group.start(settings, device)
        self._norms = [group.parameter_norms() for group in self._groups.values()]

    @property
    def steps(self) -> int:
        """Taken so far."""
        return next(iter(self._groups.values())).descent.steps

    def advance(self, count: int) -> None:
        """Take steps."""
        for group in self._groups.values():
            group.descent.step(count)

    def finite(self) -> bool:
        """Whether every weight is a number."""
        return all(group.descent.finite() for group in self._groups.values())

    def state(self) -> dict[str, Tensor]:
        """See `Descent.state`."""
        return {
            f"{dimension}.{name}": tensor
            for dimension, group in self._groups.items()
            for name, tensor in group.descent.state().items()
        }

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """See `Descent.load`."""
        for dimension, group in self._groups.items():
            mine = f"{dimension}."
            group.descent.load(
                {name.removeprefix(mine): t for name, t in state.items() if name.startswith(mine)}, steps
            )

    def record(self, history: History, *, last: bool) -> None:
        """How single and merged nets fit, and stable ranks at the settings' λ, at last at every λ."""
        for group, norms in zip(self._groups.values(), self._norms, strict=True):
            group.record(history, self._settings, norms, last=last)

    def named(self) -> dict[str, dict[str, Tensor]]:
        """The nets by the names of their files."""
        found: dict[str, dict[str, Tensor]] = {}
        for group in self._groups.values():
            weights = [layer.cpu() for layer in group.descent.weights()]
            for pair in group.pairs:
                stem = (
                    pair.arm
                    if pair.decay == self._settings.weight_decay
                    else f"{pair.arm}-{short(pair.decay)}"
                )
                singles = [[layer[i : i + 1] for layer in weights] for i in pair.nets]
                for task, single in enumerate(singles, start=1):
                    _name(found.setdefault(f"{stem}-task{task}", {}), pair.draw, single)
                if pair.decay == self._settings.weight_decay:
                    both = merged(*singles, how=self._settings.merge)
                    _name(found.setdefault(f"{stem}-merged", {}), pair.draw, both)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Two nets that are merged."""

    draw: int
    arm: Arm
    decay: float
    nets: tuple[int, int]
    """Where they lie in their group."""


class _Group:
    """Nets with inputs of one dimension."""

    def __init__(self) -> None:
        self.pairs: list[_Pair] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._starts: list[Weights] = []
        self._tasks: list[Task] = []
        self._decays: list[float] = []

    def add_pair(
        self, draw: int, arm: Arm, decay: float, tasks: tuple[Task, Task], starts: Sequence[Weights]
    ) -> None:
        """Two nets, of which the first may be there already."""
        nets = tuple(
            self._index((draw, decay, arm if number else "first"), task, start, decay)
            for number, (task, start) in enumerate(zip(tasks, starts, strict=True))
        )
        self.pairs.append(_Pair(draw=draw, arm=arm, decay=decay, nets=(nets[0], nets[1])))

    def _index(self, key: tuple[Any, ...], task: Task, start: Weights, decay: float) -> int:
        if key not in self._known:
            self._known[key] = len(self._tasks)
            self._tasks.append(task)
            self._starts.append(start)
            self._decays.append(decay)
        return self._known[key]

    def start(self, settings: MergingSettings, device: torch.device) -> None:
        """Bring everything to the device."""
        import pandas as pd

        self.inputs = torch.stack([task.inputs for task in self._tasks]).to(device)
        self.labels = torch.stack([task.labels for task in self._tasks]).to(device)
        self.descent = Descent(
            [layer.to(device) for layer in side_by_side(self._starts)],
            self.inputs,
            self.labels,
            step_size=settings.step_size,
            weight_decay=torch.tensor(self._decays, dtype=torch.float64),
        )
        self._nets = torch.tensor([pair.nets for pair in self.pairs], device=device).T
        keys = [(pair.draw, pair.arm, pair.decay) for pair in self.pairs]
        self._keys = {
            (net, task): pd.DataFrame(keys, columns=["draw", "arm", "weight_decay"]).assign(
                net=net, task=task
            )
            for net, task in (*product(("single", "merged"), (1, 2)), ("merged", None))
        }
        shown = [i for i, pair in enumerate(self.pairs) if pair.decay == settings.weight_decay]
        self._shown = torch.tensor(shown, device=device)
        self._shown_keys = {key: keys.iloc[shown] for key, keys in self._keys.items()}
        del self._starts, self._tasks

    def parameter_norms(self) -> Tensor:
        """‖θ‖ of each net."""
        return _norms(self.descent.weights())

    def record(self, history: History, settings: MergingSettings, start: Tensor, *, last: bool) -> None:
        """See `MergingNets.record`."""
        step, weights = self.descent.steps, self.descent.weights()
        first, second = self._nets
        both = merged(
            [layer[first] for layer in weights], [layer[second] for layer in weights], how=settings.merge
        )
        single = fit(outputs(weights, self.inputs), self.labels)
        left = _norms(weights) / start
        for task, nets in enumerate(self._nets, start=1):
            apart, together = self._keys["single", task], self._keys["merged", task]
            joint = fit(outputs(both, self.inputs[nets]), self.labels[nets])
            for quantity, alone, added in zip(single._fields, single, joint, strict=True):
                history.add(apart, step=step, quantity=quantity, values=alone[nets])
                history.add(together, step=step, quantity=quantity, values=added)
            history.add(apart, step=step, quantity="relative_norm", values=left[nets])
        self._record_ranks(history, weights, both, step, every=last)

    def _record_ranks(
        self, history: History, weights: Weights, both: Weights, step: int, *, every: bool
    ) -> None:
        """Stable ranks, which cost most, of the pairs that are shown by step; at last of every pair."""
        keys = self._keys if every else self._shown_keys
        rows = torch.arange(len(self.pairs), device=self._nets.device) if every else self._shown
        needed, where = torch.unique(self._nets[:, rows], return_inverse=True)
        for layer, (values, sums) in enumerate(zip(weights, both, strict=True), start=1):
            alone = batch_norms(values[needed]).stable_ranks
            for task in (1, 2):
                found = alone[where[task - 1]]
                history.add(
                    keys["single", task], step=step, layer=layer, quantity="stable_rank", values=found
                )
            found = batch_norms(sums[rows]).stable_ranks
            history.add(keys["merged", None], step=step, layer=layer, quantity="stable_rank", values=found)


def _initial(generator: torch.Generator, widths: Sequence[int], settings: MergingSettings) -> Weights:
    return initial_weights(
        generator, widths, initialisation=settings.initialisation, scale=settings.initial_scale
    )


def _norms(weights: Weights) -> Tensor:
    norms = [torch.linalg.vector_norm(layer, dim=(1, 2), dtype=torch.float64) for layer in weights]
    found: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    return found


def _name(tensors: dict[str, Tensor], draw: int, weights: Weights) -> None:
    for number, layer in enumerate(weights):
        tensors[f"draw_{draw}.layers.{number}.weight"] = layer[0].clone()


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
