"""Figure 2's experiment: its nets against torch's modules and optimiser, its records, its resume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.sets import bytes_of_weights
from weightscope.errors import DeviceMemoryError, TrainingDiverged
from weightscope.training import follow as following
from weightscope.training.bounds import everywhere_bound
from weightscope.training.data import decay_task
from weightscope.training.experiments import decay_sweep
from weightscope.training.experiments.decay_sweep import run_decay
from weightscope.training.history import COLUMNS, final, recorded_steps
from weightscope.training.networks import initial_weights
from weightscope.training.seeds import draw_seeds, generator_for
from weightscope.training.settings import DecaySettings
from weightscope.training.stochastic import epoch_order

SMALL = DecaySettings(
    samples=20,
    dimension=8,
    width=5,
    epochs=12,
    batch_size=6,
    step_size=0.3,
    weight_decays=(0.0, 1e-3, 0.5),
    draws=2,
    records=4,
)


@pytest.fixture(scope="module")
def run():
    return run_decay(SMALL)


def by_torch(draw, frequency, decay):
    """One net of the experiment, by torch's modules, autograd and optimiser, from the seeds alone."""
    seed = draw_seeds(SMALL.seed, SMALL.draws)[draw]
    data = decay_task(
        generator_for(seed, "data"), samples=SMALL.samples, dimension=SMALL.dimension, frequency=frequency
    )
    layers = []
    for weight in initial_weights(generator_for(seed, "initial weights"), (8, 5, 5, 1)):
        linear = torch.nn.Linear(weight.shape[2], weight.shape[1], bias=False)
        linear.weight.data.copy_(weight[0])
        layers += [linear, torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    optimiser = torch.optim.SGD(net.parameters(), lr=SMALL.step_size, weight_decay=decay)
    for epoch in range(SMALL.epochs):
        for rows in epoch_order([seed], epoch, SMALL.samples)[0].split(SMALL.batch_size):
            optimiser.zero_grad()
            margins = data.labels[rows] * net(data.inputs[rows]).squeeze(-1)
            torch.nn.functional.softplus(-margins).mean().backward()
            optimiser.step()
    with torch.no_grad():
        return net, data.labels * net(data.inputs).squeeze(-1)


@pytest.mark.parametrize("frequency", [10.0, 100.0])
@pytest.mark.parametrize("decay", [0.0, 1e-3])
def test_nets_are_those_of_torch(run, frequency, decay):
    net, margins = by_torch(1, frequency, decay)
    rows = run.history[run.history["step"] == SMALL.epochs]
    rows = rows[
        (rows["draw"] == 1) & (rows["arm"] == f"frequency {frequency:g}") & (rows["weight_decay"] == decay)
    ]
    found = {
        (row.quantity, None if row.layer is None or row.layer != row.layer else row.layer): row.value
        for row in rows.astype({"layer": "float"}).itertuples()
    }
    assert found["loss", None] == pytest.approx(
        torch.nn.functional.softplus(-margins).mean().item(), rel=1e-4
    )
    assert found["error", None] == (margins <= 0).double().mean().item()
    assert found["margin_error", None] == (margins < 1).double().mean().item()
    inverse = []
    for number, layer in enumerate(net.parameters()):
        saved = run.nets[f"frequency-{frequency:g}-decay-{decay:g}"][f"draw_1.layers.{number}.weight"]
        torch.testing.assert_close(saved, layer.detach(), rtol=1e-3, atol=1e-5)
        exact = saved.double().numpy()
        inverse.append(np.linalg.norm(exact, 2) / np.linalg.norm(exact))
        assert found["inverse_stable_rank", number + 1] == pytest.approx(inverse[-1], rel=1e-6)
    assert found["mean_inverse_stable_rank", None] == pytest.approx(np.mean(inverse), rel=1e-6)
    assert found["inverse_stable_rank", 3] == pytest.approx(1.0)  # a vector's


def test_frequencies_share_all_but_the_labels(run):
    start = run.history[run.history["step"] == 0]
    ranks = start[start["quantity"] == "mean_inverse_stable_rank"].groupby("draw")["value"]
    assert (ranks.nunique() == 1).all()
    losses = start[(start["quantity"] == "loss") & (start["draw"] == 0)]
    assert losses.groupby("arm")["value"].first().nunique() == 2


def test_lemma_4_is_below_everywhere_and_decay_collapses(run):
    table = run.history.pivot_table(
        index=["draw", "arm", "weight_decay", "step"], columns="quantity", values="value"
    )
    assert (table["lower_bound"] <= table["mean_inverse_stable_rank"] * (1 + 1e-5)).all()
    left = final(run.history, "relative_norm")
    assert (left[left["weight_decay"] == 0.5]["value"] < 1e-2).all()


def test_a_bound_that_does_not_hold_fails_the_run(monkeypatch):
    monkeypatch.setattr(decay_sweep, "everywhere_bound", lambda *a: 3 * everywhere_bound(*a) + 1)
    with pytest.raises(ArithmeticError, match="Lemma 4"):
        run_decay(SMALL)


def test_a_resumed_run_is_the_undisturbed_one(run, tmp_path, monkeypatch):
    monkeypatch.setattr(decay_sweep.DecayNets, "at_once", 1)
    monkeypatch.setattr(following, "_BETWEEN_STATES", 0.0)

    def stop(progress):
        if progress.done > 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_decay(SMALL, state=tmp_path / "state", observe=stop)
    resumed = run_decay(SMALL, state=tmp_path / "state", resume=True)
    assert resumed.history.equals(run.history)
    assert bytes_of_weights(resumed.nets) == bytes_of_weights(run.nets)


def test_threads_are_put_back():
    before = torch.get_num_threads()
    run_decay(replace(SMALL, epochs=1, draws=1))
    assert torch.get_num_threads() == before


def test_divergence_and_what_does_not_fit():
    with pytest.raises(TrainingDiverged, match="at epoch"):
        run_decay(replace(SMALL, initial_scale=1e13, weight_decays=(0.0,)))
    with pytest.raises(DeviceMemoryError):
        run_decay(replace(SMALL, width=1_000_000))


def test_the_history_is_long_and_whole(run):
    assert tuple(run.history.columns) == COLUMNS
    assert run.history["value"].notna().all()
    assert not run.history.duplicated(list(COLUMNS[:-1])).any()


@pytest.mark.parametrize("steps", [1, 2, 7, 1000, 100_000])
@pytest.mark.parametrize("records", [2, 5, 40])
def test_what_is_recorded_has_both_ends_and_is_ascending(steps, records):
    found = recorded_steps(steps, records)
    assert found[0] == 0
    assert found[-1] == steps
    assert found == sorted(set(found))
    assert len(found) <= records + 4
    if steps >= 1000 and records == 40:
        gaps = np.diff(found)
        assert gaps.max() <= steps / 19  # in even steps to the end
        assert sum(step <= steps / 30 for step in found) >= 8  # and in ratios at the beginning
