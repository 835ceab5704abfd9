"""What the claim checkers say of histories whose truth is known, and their statistics against scipy."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from weightscope.training.claims import (
    bootstrap,
    mean_interval,
    read_claims,
    share_interval,
    shuffled_rows,
    spearman,
    write_claims,
)
from weightscope.training.decay_claims import judge_decay
from weightscope.training.merging_claims import judge_merging
from weightscope.training.settings import DecaySettings, MergingSettings
from weightscope.training.thresholds import DecayThresholds, MergingThresholds

DECAYS = (0.0, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3)
ARM = "frequency 10"


def sweep(value, *, draws=8, decays=DECAYS, error=0.2, left=1.0, noise=0.01, seed=0):
    """A history of Figure 2 whose mean inverse stable rank is `value` of the rank of λ."""
    generator = np.random.default_rng(seed)
    rows = []
    for draw in range(draws):
        own = generator.normal(0, 0.03)  # draws differ more than λ does
        for i, decay in enumerate(decays):
            quantities = {
                "mean_inverse_stable_rank": value(i) + own + noise * generator.normal(),
                "error": error if decay else 0.0,
                "relative_norm": left(decay) if callable(left) else left,
            }
            rows += [
                (draw, ARM, decay, "single", None, 100, None, quantity, number)
                for quantity, number in quantities.items()
            ]
    names = ["draw", "arm", "weight_decay", "net", "task", "step", "layer", "quantity", "value"]
    return pd.DataFrame(rows, columns=names)


def decay_verdicts(history, **settings):
    settings = DecaySettings(frequencies=(10.0,), **settings)
    claims = judge_decay(history, settings, DecayThresholds(), prefix="F2")
    return {claim.id: claim for claim in claims}


def test_a_trend_is_held_and_its_control_is_not():
    found = decay_verdicts(sweep(lambda i: 0.7 + 0.03 * i))
    assert found["F2-trend"].verdict == found["F2-errors"].verdict == "held"
    assert found["F2-trend/frequency-10"].value == pytest.approx(1.0)
    controls = [claim for claim in found.values() if claim.control]
    assert len(controls) == 2
    assert all(claim.verdict == "not_held" for claim in controls)


@pytest.mark.parametrize("seed", range(5))
def test_a_flat_sweep_is_not_held(seed):
    found = decay_verdicts(sweep(lambda _: 0.7, seed=seed))
    assert found["F2-trend"].verdict != "held"
    assert found["F2-errors"].verdict == "not_held"


def test_a_sweep_without_noise_or_slope_is_not_held():
    found = decay_verdicts(sweep(lambda _: 0.7, noise=0.0))
    assert found["F2-trend"].verdict == found["F2-errors"].verdict == "not_held"
    assert found["F2-trend/frequency-10"].value == 0.0


def test_a_reversed_sweep_is_not_held():
    found = decay_verdicts(sweep(lambda i: 0.7 - 0.03 * i))
    assert found["F2-trend"].verdict == found["F2-errors"].verdict == "not_held"
    assert found["F2-trend/frequency-10"].value == pytest.approx(-1.0)


@pytest.mark.parametrize(
    "small",
    [{"draws": 2}, {"decays": DECAYS[:4]}, {"left": lambda decay: 1.0 if decay < 3e-4 else 1e-5}],
    ids=["draws", "decays", "collapsed"],
)
def test_a_sweep_that_is_too_small_is_undecided(small):
    found = decay_verdicts(sweep(lambda i: 0.7 + 0.03 * i, **small))
    assert found["F2-trend"].verdict == found["F2-errors"].verdict == "undecided"
    assert found["F2-trend/frequency-10"].reason


def test_collapsed_nets_are_left_out_and_named():
    # Of a collapsed net the ratio of norms is noise: it may not make a trend, nor hide one.
    value = lambda i: 0.7 + 0.03 * i if i < 5 else 0.1  # noqa: E731
    found = decay_verdicts(sweep(value, left=lambda decay: 1e-5 if decay > 1e-3 else 1.0))
    assert found["F2-trend/frequency-10"].verdict == "held"
    assert found["F2-trend/frequency-10"].detail.endswith("; collapsed and left out: 8 at λ = 0.002 of 8")


def test_errors_need_nets_that_err():
    found = decay_verdicts(sweep(lambda i: 0.7 + 0.03 * i, error=0.05))
    assert found["F2-trend"].verdict == "held"
    assert found["F2-errors"].verdict == "undecided"
    assert "at no λ > 0" in found["F2-errors/frequency-10"].reason


BASE, LEAST = 2e-3, 1e-4


def merging(
    *, different=1.2, conflicting=30.0, identical=2.0, least=8.0, rank=0.2, sums=1.4, draws=8, left=1.0
):
    """A history of Figure 3 with given ratios of merged and single loss, and given ranks."""
    single = {0.0: 1e-5, LEAST: 5e-4, BASE: 7e-3}
    arms = [
        ("different", BASE, different),
        ("conflicting", BASE, conflicting),
        ("identical", BASE, identical),
        ("different", LEAST, least),
        ("different", 0.0, 100.0),
    ]
    generator = np.random.default_rng(0)
    rows = []
    for draw in range(draws):
        for arm, decay, ratio in arms:
            shared = (draw, arm, decay)
            for task in (1, 2):
                loss = single[decay] * math.exp(0.05 * generator.normal())
                rows += [
                    (*shared, "single", task, 5000, None, "loss", loss),
                    (*shared, "merged", task, 5000, None, "loss", ratio * loss),
                    (*shared, "single", task, 5000, None, "relative_norm", left),
                ]
            for layer, gaussian in ((1, 6.339745962155614), (2, 5.020510257216822), (3, 1.0)):
                share = rank if decay else 1.0
                rows += [
                    (*shared, "single", task, 5000, layer, "stable_rank", share * gaussian) for task in (1, 2)
                ]
                rows.append((*shared, "merged", None, 5000, layer, "stable_rank", share * sums * gaussian))
    names = ["draw", "arm", "weight_decay", "net", "task", "step", "layer", "quantity", "value"]
    return pd.DataFrame(rows, columns=names)


def merging_verdicts(history, *, steps=5000):
    settings = MergingSettings(
        widths=(300, 50), weight_decay=BASE, weight_decays=(0.0, LEAST, BASE), steps=steps
    )
    claims = judge_merging(history, settings, MergingThresholds(), prefix="F3", dimension=100)
    return {claim.id: claim for claim in claims}


def test_the_baseline_of_the_histories_is_the_limit_of_gaussian_matrices():
    big = np.random.default_rng(0).standard_normal((3000, 1000))
    ratio = np.linalg.norm(big) / np.linalg.norm(big, 2)
    # The shapes 300×100 and 3000×1000 are alike: √10 between them.
    assert ratio / math.sqrt(10) == pytest.approx(6.339745962155614, rel=0.02)


def test_merging_as_the_paper_says_is_held_and_no_control_is():
    found = merging_verdicts(merging())
    assert {claim.id: claim.verdict for claim in found.values() if not claim.control} == {
        "F3-different": "held",
        "F3-conflicting": "held",
        "F3-conflicting/identical": "not_held",
        "F3-decay": "held",
        "F3-rank": "held",
        "F3-rank-low": "held",
        "F3-rank-merged": "held",
    }
    assert {claim.id for claim in found.values() if claim.control} == {
        "F3-different/no-decay",
        "F3-conflicting/different",
        "F3-decay/shuffled",
        "F3-rank/no-decay",
    }
    assert all(claim.verdict != "held" for claim in found.values() if claim.control)


@pytest.mark.parametrize(
    ("history", "name"),
    [
        (merging(different=4.0), "F3-different"),
        (merging(different=2.9, conflicting=4.0), "F3-conflicting"),
        (merging(conflicting=3.0), "F3-conflicting"),
        (merging(least=2.0), "F3-decay"),
        (merging(least=0.1), "F3-decay"),
        (merging(rank=0.8), "F3-rank"),
        (merging(sums=2.0), "F3-rank"),
        (merging(sums=0.5), "F3-rank-merged"),
    ],
    ids=["ratio", "excess", "times", "no effect", "reversed", "high rank", "sum", "smaller"],
)
def test_what_does_not_hold_is_not_held(history, name):
    assert merging_verdicts(history)[name].verdict == "not_held"


def test_the_ratio_alone_does_not_do():
    """A ratio of 2.9 of a loss that is large is far from 'nearly as well'."""
    history = merging(different=2.9)
    history.loc[history["quantity"] == "loss", "value"] *= 10
    found = merging_verdicts(history)["F3-different"]
    assert found.verdict == "not_held"
    assert found.value == 0.0


@pytest.mark.parametrize(("draws", "steps"), [(3, 5000), (8, 500)])
def test_too_few_draws_or_steps_are_undecided(draws, steps):
    found = merging_verdicts(merging(draws=draws), steps=steps)
    assert {claim.verdict for claim in found.values()} == {"undecided"}


def test_collapsed_nets_count_in_no_verdict():
    found = merging_verdicts(merging(left=1e-5))
    assert found["F3-different"].verdict == found["F3-conflicting"].verdict == "undecided"
    assert found["F3-different"].detail == "draws left out as a net collapsed: 8"
    assert found["F3-different"].draws == 0


@pytest.mark.parametrize("single", [math.log(2), 2.0])
def test_nets_that_lose_no_less_than_a_coin_count_in_no_verdict(single):
    """There e divides by what is nothing, or negative: a merged net would do better the worse it is."""
    history = merging(different=1.2)
    alone = (history["quantity"] == "loss") & (history["net"] == "single")
    history.loc[alone & (history["task"] == 1), "value"] = single
    found = merging_verdicts(history)
    assert found["F3-different"].verdict == found["F3-conflicting"].verdict == "undecided"
    assert found["F3-different"].detail == "draws left out as a single net loses no less than a coin: 8"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("merged", "share"), [(0.0, 1.0), (0.01, 0.0)])
def test_a_loss_of_nothing_makes_no_noise(merged, share):
    history = merging()
    losses = history["quantity"] == "loss"
    history.loc[losses & (history["net"] == "single"), "value"] = 0.0
    history.loc[losses & (history["net"] == "merged"), "value"] = merged
    assert merging_verdicts(history)["F3-different"].value == share


def test_claims_are_json_and_come_back(tmp_path):
    claims = list(merging_verdicts(merging(draws=1)).values())
    write_claims(claims, tmp_path / "claims.json")
    assert read_claims(tmp_path / "claims.json") == claims


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_spearman_is_that_of_scipy(pairs):
    first, second = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert spearman(first, second) == 0.0
    else:
        assert spearman(first, second) == pytest.approx(
            scipy.stats.spearmanr(first, second).statistic, abs=1e-12
        )


def test_intervals_are_those_of_tables():
    # Clopper and Pearson's 95 % interval of 8 in 10.
    assert share_interval(8, 10) == pytest.approx((0.4439045, 0.9747893), abs=1e-6)
    assert share_interval(0, 0) is None
    values = np.array([1.0, 2.0, 4.0, 7.0])
    expected = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert mean_interval(values, level=0.9) == pytest.approx(tuple(expected))


def test_a_bootstrap_covers_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        low, high = bootstrap(generator.normal(size=30), lambda rows: float(rows.mean()), resamples=300)
        covered += low <= 0 <= high
    assert 175 <= covered <= 199
    assert bootstrap(np.ones(1), np.mean) is None


def test_shuffling_keeps_each_draw_together():
    values = np.arange(12.0).reshape(3, 4)
    found = shuffled_rows(values, seed=3)
    assert not np.array_equal(found, values)
    assert np.array_equal(np.sort(found, axis=1), values)
