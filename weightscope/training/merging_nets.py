"""`MergingNets`: the nets of the merging experiment side by side, and what is to be seen of them.

They are in one `Descent` for each dimension of inputs: images are padded in one arm and not in the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from weightscope.spectra.batch import batch_norms
from weightscope.training.data import Arm
from weightscope.training.descent import Descent
from weightscope.training.history import History
from weightscope.training.networks import Weights, fit, initial_weights, merged, named, outputs, side_by_side
from weightscope.training.settings import MergingSettings, short
from weightscope.training.task import Task

# Steps between two looks whether all is finite.
_AT_ONCE = 256


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
                    else f"{pair.arm}-decay-{short(pair.decay)}"
                )
                draw = f"draw_{pair.draw}"
                singles = [[layer[i : i + 1] for layer in weights] for i in pair.nets]
                for task, single in enumerate(singles, start=1):
                    tensors = found.setdefault(f"{stem}-task{task}", {})
                    tensors |= named(draw, [layer[0] for layer in single])
                if pair.decay == self._settings.weight_decay:
                    both = merged(*singles, how=self._settings.merge)
                    tensors = found.setdefault(f"{stem}-merged", {})
                    tensors |= named(draw, [layer[0] for layer in both])
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
