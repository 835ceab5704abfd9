"""The merging experiment: its nets against torch's modules and optimiser, its records, its resume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.sets import bytes_of_weights
from weightscope.errors import DeviceMemoryError, JournalMismatch, OptionError, TrainingDiverged
from weightscope.spectra.measures import gaussian_stable_rank
from weightscope.training import follow as following
from weightscope.training.data import merging_tasks
from weightscope.training.experiments.merging import run_merging
from weightscope.training.history import COLUMNS, final
from weightscope.training.images import load_images
from weightscope.training.networks import initial_weights
from weightscope.training.seeds import draw_seeds, generator_for
from weightscope.training.settings import MergingSettings

SMALL = MergingSettings(
    samples=6,
    dimension=10,
    widths=(12, 5),
    step_size=0.5,
    steps=200,
    weight_decay=2e-2,
    weight_decays=(0.0, 2e-3, 2e-2),
    draws=2,
    records=6,
)


@pytest.fixture(scope="module")
def run():
    return run_merging(SMALL)


def value(history, quantity, **where):
    rows = final(history, quantity)
    for name, wanted in where.items():
        rows = rows[rows[name] == wanted]
    assert len(rows) == 1
    return rows["value"].item()


def module(weights):
    layers = []
    for number, weight in enumerate(weights):
        linear = torch.nn.Linear(weight.shape[-1], weight.shape[-2], bias=False)
        linear.weight.data.copy_(weight.reshape(linear.weight.shape))
        layers += [linear, torch.nn.ReLU()] if number < len(weights) - 1 else [linear]
    return torch.nn.Sequential(*layers)


def by_torch(settings, draw, arm, task, decay):
    """One net of the experiment, by torch's modules, autograd and optimiser, from the seeds alone."""
    seed = draw_seeds(settings.seed, settings.draws)[draw]
    data = merging_tasks(
        generator_for(seed, "data"), samples=settings.samples, dimension=settings.dimension, arm=arm
    )[task - 1]
    generator = generator_for(seed, "initial weights")
    widths = (settings.dimension, *settings.widths, 1)
    starts = [initial_weights(generator, widths) for _ in range(2)]
    net = module(starts[task - 1])
    optimiser = torch.optim.SGD(net.parameters(), lr=settings.step_size, weight_decay=decay)
    for _ in range(settings.steps):
        optimiser.zero_grad()
        torch.nn.functional.softplus(-data.labels * net(data.inputs).squeeze(-1)).mean().backward()
        optimiser.step()
    return net, data


def loss_of(net, data):
    with torch.no_grad():
        return torch.nn.functional.softplus(-data.labels * net(data.inputs).squeeze(-1)).mean().item()


@pytest.mark.parametrize("arm", ["different", "conflicting", "identical"])
def test_nets_and_their_sums_are_those_of_torch(run, arm):
    nets = [by_torch(SMALL, 1, arm, task, SMALL.weight_decay) for task in (1, 2)]
    summed = module([sum(pair) for pair in zip(*(net.parameters() for net, _ in nets), strict=True)])
    for task, (net, data) in enumerate(nets, start=1):
        at = {"arm": arm, "draw": 1, "task": task, "weight_decay": SMALL.weight_decay}
        assert value(run.history, "loss", net="single", **at) == pytest.approx(loss_of(net, data), rel=1e-4)
        assert value(run.history, "loss", net="merged", **at) == pytest.approx(
            loss_of(summed, data), rel=1e-4
        )
        for number, layer in enumerate(net.parameters()):
            saved = run.nets[f"{arm}-task{task}"][f"draw_1.layers.{number}.weight"]
            torch.testing.assert_close(saved, layer.detach(), rtol=1e-3, atol=1e-5)
            found = value(run.history, "stable_rank", net="single", layer=number + 1, **at)
            exact = np.linalg.norm(saved.double()) / np.linalg.norm(saved.double(), 2)
            assert found == pytest.approx(exact, rel=1e-5)
    for number, layer in enumerate(summed.parameters()):
        saved = run.nets[f"{arm}-merged"][f"draw_1.layers.{number}.weight"]
        torch.testing.assert_close(saved, layer.detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 2e-3])
def test_the_other_decays_too(run, decay):
    net, data = by_torch(SMALL, 0, "different", 2, decay)
    found = value(run.history, "loss", net="single", arm="different", draw=0, task=2, weight_decay=decay)
    assert found == pytest.approx(loss_of(net, data), rel=1e-4)


def test_the_history_is_long_and_whole(run):
    history = run.history
    assert tuple(history.columns) == COLUMNS
    assert history["value"].notna().all()
    assert history["step"].min() == 0
    assert history["step"].max() == SMALL.steps
    assert not history.duplicated(list(COLUMNS[:-1])).any()
    # At the beginning: losses near ln 2, all of the norm there, ranks those of uniform matrices.
    start = history[history["step"] == 0]
    assert start.loc[start["quantity"] == "relative_norm", "value"].eq(1.0).all()
    ranks = start[(start["quantity"] == "stable_rank") & (start["layer"] == 1) & (start["net"] == "single")]
    assert ranks["value"].mean() == pytest.approx(gaussian_stable_rank(12, 10), rel=0.2)
    decays = history[history["arm"] == "different"]["weight_decay"].unique()
    assert set(decays) == {0.0, 2e-3, 2e-2}
    assert set(history[history["arm"] != "different"]["weight_decay"].unique()) == {2e-2}


def test_the_first_task_is_one_in_all_arms(run):
    for number in range(3):
        name = f"draw_0.layers.{number}.weight"
        assert torch.equal(run.nets["different-task1"][name], run.nets["conflicting-task1"][name])
        assert not torch.equal(run.nets["different-task2"][name], run.nets["conflicting-task2"][name])


def test_averaging_is_not_adding(run):
    averaged = run_merging(replace(SMALL, merge="average"))
    name = "draw_0.layers.0.weight"
    torch.testing.assert_close(
        2 * averaged.nets["different-merged"][name], run.nets["different-merged"][name]
    )
    at = {"arm": "different", "net": "merged", "draw": 0, "task": 1, "weight_decay": SMALL.weight_decay}
    assert value(averaged.history, "loss", **at) > value(run.history, "loss", **at)


def test_draws_do_not_depend_on_their_number(run):
    fewer = run_merging(replace(SMALL, draws=1))
    mine = run.history[run.history["draw"] == 0].reset_index(drop=True)
    assert np.allclose(mine["value"], fewer.history["value"], rtol=1e-4)
    assert draw_seeds(0, 3) != draw_seeds(1, 3)


def test_images_padded_and_not():
    settings = replace(SMALL, data="digits", samples=10, steps=60, weight_decays=(2e-2,))
    found = run_merging(settings)
    pixels = load_images("digits").pixels
    assert found.dimension == 2 * pixels
    assert found.nets["different-task1"]["draw_0.layers.0.weight"].shape == (12, 2 * pixels)
    assert found.nets["conflicting-task1"]["draw_0.layers.0.weight"].shape == (12, pixels)
    # One sample, labels inverted: of any net the mean of the two losses is at least ln 2.
    rows = final(found.history, "loss")
    merged = rows[(rows["arm"] == "conflicting") & (rows["net"] == "merged")]
    assert (merged.groupby("draw")["value"].mean() >= np.log(2) - 1e-6).all()


class Stopped(Exception):
    pass


@pytest.mark.parametrize("data", ["synthetic", "digits"])
def test_a_resumed_run_is_the_undisturbed_one(tmp_path, monkeypatch, data):
    settings = replace(SMALL, data=data)
    monkeypatch.setattr("weightscope.training.merging_nets.MergingNets.at_once", 16)
    whole = run_merging(settings)
    monkeypatch.setattr(following, "_BETWEEN_STATES", 0.0)
    state = tmp_path / "training.state"

    def stop(progress):
        if progress.done > 120:
            raise Stopped

    with pytest.raises(Stopped):
        run_merging(settings, state=state, observe=stop)
    seen = []
    resumed = run_merging(settings, state=state, resume=True, observe=lambda p: seen.append(p.done))
    assert 0 < min(seen) - 16 <= 120
    assert resumed.history.equals(whole.history)
    assert bytes_of_weights(resumed.nets) == bytes_of_weights(whole.nets)


def test_a_state_of_another_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(following, "_BETWEEN_STATES", 0.0)
    state = tmp_path / "training.state"
    run_merging(SMALL, state=state)
    with pytest.raises(JournalMismatch, match=r"settings\.steps was 200 there and is 300 now"):
        run_merging(replace(SMALL, steps=300), state=state, resume=True)
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(JournalMismatch, match="damaged"):
        run_merging(SMALL, state=state, resume=True)
    run_merging(SMALL, state=state)  # begins anew


def test_divergence_stops_says_when_and_keeps_the_history():
    with pytest.raises(TrainingDiverged, match=r"at step \d+ all were finite") as caught:
        run_merging(replace(SMALL, initial_scale=1e13, steps=2000))
    assert caught.value.history["step"].max() < 2000
    assert len(caught.value.history) > 0


def test_what_does_not_fit_is_refused_at_once():
    with pytest.raises(DeviceMemoryError, match="GiB are free"):
        run_merging(replace(SMALL, widths=(2_000_000, 100_000)))


@pytest.mark.parametrize(
    "change",
    [
        {"weight_decay": 2.0},
        {"weight_decays": (0.0, 3.0)},
        {"step_size": 0.0},
        {"step_size": float("nan")},
        {"weight_decay": -1e-3},
        {"steps": 0},
        {"draws": 0},
        {"widths": ()},
        {"widths": (3, 0)},
        {"dimension": 9},
        {"merge": "mean"},
        {"arms": ()},
        {"records": 1},
        {"initialisation": "zeros"},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(change):
    with pytest.raises(OptionError) as caught:
        replace(SMALL, **change)
    assert all((caught.value.asked, caught.value.found, caught.value.advice))
