"""Paper A's Figure 2: the stronger the weight decay, the lower the stable ranks.

Small nets with two hidden layers learn the sign of sin(10 wᵀx) or sin(100 wᵀx) by SGD with weight decay. Of
every draw the nets of all frequencies and all λ begin alike and see the same samples in the same order; every
net of every draw is trained at the same time.

Source: Kuzborskij and Abbasi Yadkori, "Low-rank bias, weight decay, and model merging in neural networks"
(2025), section 6.1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from weightscope.provenance import provenance_here
from weightscope.spectra.batch import batch_norms
from weightscope.spectra.threads import one_thread
from weightscope.training.bounds import everywhere_bound, pull
from weightscope.training.data import decay_task
from weightscope.training.fits import check_fits
from weightscope.training.follow import Observer, follow
from weightscope.training.history import History, recorded_steps
from weightscope.training.networks import fit, initial_weights, named, side_by_side
from weightscope.training.saved_state import SavedState
from weightscope.training.seeds import draw_seeds, generator_for
from weightscope.training.settings import DecaySettings, short
from weightscope.training.stochastic import StochasticDescent
from weightscope.training.task import Task, stack

if TYPE_CHECKING:
    import pandas as pd

# What float32 weights and float64 sums of a thousand samples may be off by, with room.
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecayRun:
    """What came out of the experiment."""

    settings: DecaySettings
    """Of the run."""
    history: pd.DataFrame
    """What was seen, see `history.COLUMNS`; steps are epochs."""
    nets: dict[str, dict[str, Tensor]]
    """Name of a file to its tensors: for each frequency the trained nets of all draws and λ."""


def run_decay(
    settings: DecaySettings,
    *,
    device: torch.device | str = "cpu",
    state: Path | None = None,
    resume: bool = False,
    observe: Observer | None = None,
) -> DecayRun:
    """Draw, train and measure.

    Args:
        settings: The numbers.
        device: Where to train; what is drawn is drawn on the CPU.
        state: File for what is needed to go on after a kill; None for none.
        resume: Whether to go on from it.
        observe: Told how far the run is.

    Raises:
        DeviceMemoryError: The nets do not fit.
        TrainingDiverged: A weight is no number any more.
        JournalMismatch: The state is of another run.
        OutputError: The state could not be written.
        ArithmeticError: Lemma 4 does not hold somewhere, which would be a mistake of ours.
    """
    device = torch.device(device)
    check_fits(decay_bytes(settings), device)
    here = provenance_here(device)
    run = {
        "experiment": "decay",
        "settings": asdict(settings),
        "versions": here["versions"],
        "device": here["device"],
    }
    saved = None if state is None else SavedState(state, run, resume=resume)
    with one_thread(device):
        ensemble = DecayNets(settings, device)
        at = recorded_steps(settings.epochs, settings.records)
        history = follow(ensemble, at, saved=saved, observe=observe)
    return DecayRun(settings=settings, history=history.table(), nets=ensemble.named())


def frequency_arm(frequency: float) -> str:
    """What the nets of a frequency are called in the column `arm`."""
    return f"frequency {short(frequency)}"


class DecayNets:
    """The nets of the experiment; of a draw the members are frequencies × λ.

    Attributes:
        unit, at_once: See `follow.Ensemble`.
    """

    unit = "epochs"
    at_once = 5

    def __init__(self, settings: DecaySettings, device: torch.device) -> None:
        import pandas as pd

        self._settings = settings
        seeds = draw_seeds(settings.seed, settings.draws)
        self._members = list(product(settings.frequencies, settings.weight_decays))
        tasks = stack([stack(self._tasks(seed)) for seed in seeds])
        widths = (settings.dimension, *settings.widths, 1)
        starts = [
            initial_weights(
                generator_for(seed, "initial weights"),
                widths,
                initialisation=settings.initialisation,
                scale=settings.initial_scale,
            )
            for seed in seeds
            for _ in self._members
        ]
        each = len(settings.weight_decays)
        self._labels = tasks.labels.repeat_interleave(each, dim=1).to(device)
        self.descent = StochasticDescent(
            [layer.to(device) for layer in side_by_side(starts)],
            tasks.inputs[:, 0].to(device),  # the same at every frequency
            self._labels,
            step_size=settings.step_size,
            # As the nets, whatever torch's default is here: a seed means the same.
            weight_decay=torch.tensor(
                [decay for _, decay in self._members] * settings.draws, dtype=torch.float32
            ),
            batch_size=settings.batch_size,
            seeds=seeds,
        )
        keys = [
            (draw, frequency_arm(frequency), decay, "single", pd.NA)
            for draw in range(settings.draws)
            for frequency, decay in self._members
        ]
        self._keys = pd.DataFrame(keys, columns=["draw", "arm", "weight_decay", "net", "task"])
        self._start = self._norms().frobenius

    def _tasks(self, seed: int) -> list[Task]:
        settings = self._settings
        return [
            decay_task(
                generator_for(seed, "data"),  # the same inputs and w for each
                samples=settings.samples,
                dimension=settings.dimension,
                frequency=frequency,
            )
            for frequency in settings.frequencies
        ]

    @property
    def steps(self) -> int:
        """Epochs so far."""
        return self.descent.epochs

    def advance(self, count: int) -> None:
        """Take passes over the samples."""
        self.descent.epoch(count)

    def finite(self) -> bool:
        """Whether every weight is a number."""
        return bool(torch.stack([layer.isfinite().all() for layer in self.descent.weights()]).all())

    def state(self) -> dict[str, Tensor]:
        """See `StochasticDescent.state`."""
        return self.descent.state()

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """See `StochasticDescent.load`."""
        self.descent.load(state)

    def _norms(self) -> _Norms:
        found = [batch_norms(layer) for layer in self.descent.weights()]
        return _Norms(
            frobenius=torch.stack([norms.frobenius for norms in found]),
            inverse=torch.stack([1 / norms.stable_ranks for norms in found]),
        )

    def record(self, history: History, *, last: bool) -> None:
        """Ranks, errors, loss, and the bound that holds everywhere.

        Raises:
            ArithmeticError: It does not hold.
        """
        step, norms, labels = self.steps, self._norms(), self._labels.flatten(0, 1)
        scores = self.descent.scores()
        mean = norms.inverse.mean(dim=0)
        bound = everywhere_bound(pull(scores, labels), norms.frobenius)
        if bool((bound > mean * (1 + _ROUNDING)).any()):
            raise ArithmeticError(f"Lemma 4's bound is above the mean inverse stable rank at epoch {step}")
        whole = torch.linalg.vector_norm(norms.frobenius, dim=0)
        values = {
            **fit(scores, labels)._asdict(),
            "mean_inverse_stable_rank": mean,
            "lower_bound": bound,
            "relative_norm": whole / torch.linalg.vector_norm(self._start, dim=0),
        }
        for quantity, found in values.items():
            history.add(self._keys, step=step, quantity=quantity, values=found)
        for layer, found in enumerate(norms.inverse, start=1):
            history.add(self._keys, step=step, layer=layer, quantity="inverse_stable_rank", values=found)

    def named(self) -> dict[str, dict[str, Tensor]]:
        """The nets by the names of their files."""
        found: dict[str, dict[str, Tensor]] = {}
        weights = [layer.cpu() for layer in self.descent.weights()]
        for net, (draw, (frequency, decay)) in enumerate(product(range(self._settings.draws), self._members)):
            tensors = found.setdefault(f"frequency-{short(frequency)}-decay-{short(decay)}", {})
            tensors |= named(f"draw_{draw}", [layer[net] for layer in weights])
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Norms:
    """Of each layer and net."""

    frobenius: Tensor
    inverse: Tensor


def decay_bytes(settings: DecaySettings) -> int:
    """Bytes that the run takes at most: the nets, an epoch's inputs and labels, the scores of all."""
    nets = settings.draws * len(settings.frequencies) * len(settings.weight_decays)
    widths = (settings.dimension, *settings.widths, 1)
    weights = sum(columns * rows for columns, rows in pairwise(widths))
    values = nets * (8 * weights + settings.samples * (8 + 2 * sum(widths[1:])))
    return 4 * (values + 3 * settings.draws * settings.samples * settings.dimension)
