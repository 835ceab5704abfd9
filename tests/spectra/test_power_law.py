"""The power-law fit against the `powerlaw` package and against tails whose exponent is known."""

import contextlib
import io
import math
import warnings

import numpy as np
import pytest
import torch

from tests.spectra.test_extremal import with_spectrum
from weightscope.spectra.power_law import MIN_TAIL, fit_power_law

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import powerlaw


def theirs(values, **options):
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return powerlaw.Fit(values.numpy(), verbose=False, **options)


def gaussian_eigenvalues(seed, shape=(200, 300)):
    matrix = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.svdvals(matrix).square()


EIGENVALUES = {
    "gaussian": gaussian_eigenvalues(0),
    "another": gaussian_eigenvalues(2, (150, 150)),
    "heavy tail": torch.linalg.svdvals(with_spectrum((np.arange(200) + 1.0) ** -0.6)).square(),
    "pareto": torch.from_numpy(np.random.default_rng(0).pareto(1.7, 500) + 1),
}


@pytest.mark.parametrize("name", EIGENVALUES)
def test_at_their_xmin_alpha_is_theirs(name):
    values = EIGENVALUES[name]
    expected = theirs(values)
    tail = values[values >= expected.xmin]
    found = fit_power_law(values)
    if len(tail) >= MIN_TAIL:
        assert found.xmin == pytest.approx(expected.xmin, rel=1e-12)
        assert found.alpha == pytest.approx(expected.alpha, rel=1e-9)
        assert found.ks_distance == pytest.approx(expected.D, rel=1e-9)
    assert len(values[values >= found.xmin]) >= MIN_TAIL


def test_a_pareto_tail_has_its_exponent():
    """Density x^-(a+1): with 100,000 values the estimate is within 3 (alpha-1)/√n of a + 1."""
    values = torch.from_numpy(np.random.default_rng(1).pareto(1.5, 4000) + 1)
    found = fit_power_law(values)
    tail = len(values[values >= found.xmin])
    assert abs(found.alpha - 2.5) < 4 * 1.5 / math.sqrt(tail)


def test_blocks_change_nothing(monkeypatch):
    values = EIGENVALUES["heavy tail"]
    whole = fit_power_law(values)
    monkeypatch.setattr("weightscope.spectra.power_law._BLOCK_ELEMENTS", 1000)
    assert fit_power_law(values) == whole


def test_scale_and_order_do_not_matter():
    values = EIGENVALUES["pareto"]
    found = fit_power_law(values)
    scaled = fit_power_law(values.flip(0) * 8)
    assert (scaled.alpha, scaled.xmin, scaled.ks_distance) == pytest.approx(
        (found.alpha, 8 * found.xmin, found.ks_distance), rel=1e-12
    )


@pytest.mark.parametrize(
    "values",
    [torch.ones(50), torch.arange(1.0, 10.0), torch.tensor([]), torch.zeros(20), torch.tensor([1.0])],
    ids=["all equal", "nine values", "none", "zeros", "one"],
)
def test_too_little_to_fit_is_undefined(values):
    found = fit_power_law(values.double())
    assert math.isnan(found.alpha)
    assert math.isnan(found.xmin)
    assert math.isnan(found.ks_distance)


def test_repeated_values_are_one_candidate():
    values = torch.cat([torch.full((30,), 2.0), torch.linspace(3, 9, 40)]).double()
    expected, found = theirs(values), fit_power_law(values)
    assert len(values[values >= expected.xmin]) >= MIN_TAIL, "their choice must be one of ours"
    assert (found.alpha, found.xmin, found.ks_distance) == pytest.approx(
        (expected.alpha, expected.xmin, expected.D), rel=1e-9
    )


@pytest.mark.parametrize("seed", range(40))
def test_the_shortlist_in_float32_misses_nothing(seed):
    """Against every candidate in float64, one after the other: heavy, narrow, repeated and huge ranges."""
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(MIN_TAIL, 300, (1,), generator=generator))
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    values = [
        uniform, uniform**-0.6, (8 * uniform).round() + 1, torch.exp(60 * uniform - 30), 1 + 1e-7 * uniform,
    ][seed % 5]  # fmt: skip
    ascending = np.sort(values.numpy())
    best = (math.inf, math.nan)
    for first in range(count - MIN_TAIL + 1):
        tail = ascending[first:]
        excess = np.log(tail / tail[0]).sum()
        if excess <= 1e-12 * len(tail) or (first and ascending[first - 1] == tail[0]):
            continue
        below = np.searchsorted(tail, tail) / len(tail)
        distance = np.abs(1 - (tail / tail[0]) ** (-len(tail) / excess) - below).max()
        best = min(best, (distance, tail[0]))
    found = fit_power_law(values)
    assert found.ks_distance == pytest.approx(best[0], rel=1e-7)
    assert found.xmin == pytest.approx(best[1], rel=1e-12)


@pytest.mark.parametrize("name", EIGENVALUES)
def test_shorter_tails_are_tried_when_asked_for(name):
    """With tails of two values and more the package and we have the same candidates."""
    values = EIGENVALUES[name]
    expected, found = theirs(values), fit_power_law(values, min_tail=2)
    assert (found.alpha, found.xmin, found.ks_distance) == pytest.approx(
        (expected.alpha, expected.xmin, expected.D), rel=1e-9
    )


@pytest.mark.parametrize(("correction", "factor"), [(0, 13 / 11), (1, 12 / 11), (2, 1)])
def test_a_short_tail_and_what_is_taken_off(correction, factor):
    """Pareto samples of 12 above x_min, which is the thirteenth value; within 4 standard errors."""
    rng = np.random.default_rng(2)
    samples = [torch.from_numpy(np.concatenate([[1.0], rng.pareto(1.5, 12) + 1])) for _ in range(4000)]
    alphas = [fit_power_law(values, min_tail=13, correction=correction).alpha for values in samples]
    error = np.std(alphas) / math.sqrt(len(alphas))
    assert abs(np.mean(alphas) - 1 - 1.5 * factor) < 4 * error < 0.05
