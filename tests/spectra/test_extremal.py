"""The largest singular value and its interval against LAPACK, where it is easy and where it is not."""

import math
from functools import cache, lru_cache

import numpy as np
import pytest
import torch

from tests import oracles
from weightscope.spectra import bounds, extremal
from weightscope.spectra.bounds import FAILURE_PROBABILITY
from weightscope.spectra.extremal import Bound, Problem
from weightscope.spectra.lanczos import Lanczos
from weightscope.spectra.workspace import Workspace

# Rounding of ‖Wv‖/‖v‖ in float64 for the sizes here: a few n·eps.
ROUNDING = 1e-13


def largest_singular_value(matrix, *, bf16_valued=False, **options):
    """As the engine is called, with evaluations that are not the engine's own."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    exact = tall.double()
    problem = Problem(
        tall=tall,
        evaluate=lambda vector: float((exact @ vector).square().sum()),
        squares=lambda: float(exact.square().sum()),
        bf16_valued=bf16_valued,
    )
    return extremal.largest_singular_value(problem, workspace=Workspace(torch.device("cpu")), **options)


def with_spectrum(values, rows=None, seed=0):
    """A matrix with these singular values and random singular vectors."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.as_tensor(values, dtype=torch.float64)
    n = len(values)
    rows = rows or n
    left, _ = torch.linalg.qr(torch.randn(rows, n, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return left * values @ right.T


N = 300
SPECTRA = {
    "geometric": [0.9**i for i in range(N)],
    "power law": [(i + 1) ** -0.7 for i in range(N)],
    "flat": [1.0] * N,
    "clustered top": [1 - 1e-7 * i for i in range(20)] + [0.5] * (N - 20),
    "close pair": [1.0, 1 - 1e-9, *([0.1] * (N - 2))],
    "one spike": [100.0] + [1.0] * (N - 1),
    "rank deficient": [1.0, 0.5, 0.25] + [0.0] * (N - 3),
    "uniform": np.linspace(1, 0, N).tolist(),
    "within a thousandth": np.linspace(1.001, 0.999, N).tolist(),
    "Chebyshev edge": [math.cos(i * math.pi / (2 * N)) for i in range(N)],
}


@lru_cache(maxsize=6)  # of one spectrum, which varies slowest below
def stored(name, rows, dtype):
    """One of them as the engine gets it, and its largest singular value: six tests share them."""
    matrix = with_spectrum(SPECTRA[name], rows).to(dtype).to(torch.promote_types(dtype, torch.float32))
    return matrix, oracles.singular_values(matrix)[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bound", ["probable", "audited", "proved"])
@pytest.mark.parametrize("method", ["lanczos", "gram_eigh"])
@pytest.mark.parametrize("name", SPECTRA)
def test_interval_holds_the_norm(name, method, bound, dtype):
    for rows in (N, 4 * N):
        bf16_valued = dtype == torch.bfloat16
        matrix, sigma = stored(name, rows, dtype)
        for view in (matrix, matrix.T):
            found = largest_singular_value(view, method=method, bound=Bound(bound), bf16_valued=bf16_valued)
            assert found.value <= sigma * (1 + ROUNDING)
            assert found.upper >= sigma * (1 - ROUNDING)
            assert found.upper <= found.value * (1 + 1.0001e-6)
            assert found.value == pytest.approx(sigma, rel=1e-6)
            assert found.bound in (bound, Bound.PROVED)


@pytest.mark.parametrize("name", SPECTRA)
def test_some_singular_value_lies_within_the_residual(name):
    sigma = oracles.singular_values(with_spectrum(SPECTRA[name]))
    found = largest_singular_value(with_spectrum(SPECTRA[name]), bound=Bound.RESIDUAL, method="lanczos")
    reach = found.upper - found.value
    assert np.abs(sigma - found.value).min() <= reach * (1 + 1e-6) + ROUNDING
    assert reach <= 2e-6 * found.value


def test_a_small_residual_is_no_reason_to_stop():
    """diag(1+4e-5, 1, …, 1): after one step the residual says 2e-7 and the truth is 4e-5 away."""
    values = torch.ones(2560, dtype=torch.float64)
    values[0] += 4e-5
    for dtype in (torch.float64, torch.float32):
        found = largest_singular_value(torch.diag(values).to(dtype))
        assert found.method == "lanczos"
        assert found.value == pytest.approx(1 + 4e-5, rel=1e-6)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (torch.eye(200), 1.0),
        (3 * torch.eye(400), 3.0),
        (torch.eye(300)[torch.arange(299, -1, -1)], 1.0),
        (torch.diag(torch.tensor([2.0] * 150 + [1.0] * 150)), 2.0),
        (torch.ones(150, 200), math.sqrt(150 * 200)),
        (torch.tensor([[3.0, 4.0]]), 5.0),
        (torch.tensor([[3.0], [4.0]]), 5.0),
        (torch.tensor([[-7.0]]), 7.0),
        (
            torch.outer(torch.arange(1.0, 301), torch.ones(400)),
            math.sqrt(400 * sum(i * i for i in range(1, 301))),
        ),
    ],
    ids=["identity", "scaled identity", "permutation", "two values", "ones", "1xn", "nx1", "1x1", "rank one"],
)
@pytest.mark.parametrize("method", ["auto", "lanczos"])
def test_exact_cases(matrix, expected, method):
    """Also where the Krylov space ends at once, and the next direction is made of rounding alone."""
    found = largest_singular_value(matrix.double(), method=method)
    assert found.value == pytest.approx(expected, rel=1e-14)
    assert found.value <= found.upper <= found.value * (1 + 1.0001e-6)


@cache
def unscaled(name):
    """A matrix for the test below, and its largest singular value."""
    matrix = torch.diag(torch.cat([torch.tensor([1 + 4e-5]), torch.ones(399)]))
    if name == "constant":  # float32 sums of a thousand equal terms are all rounded the same way
        matrix = torch.ones(1500, 1500) + 0.01 * torch.eye(1500)
    return matrix, oracles.singular_values(matrix)[0]


@pytest.mark.parametrize("bound", ["probable", "audited", "proved"])
@pytest.mark.parametrize("exponent", [-31, -30, 0, 29, 30])
@pytest.mark.parametrize("name", ["hidden spike", "constant"])
def test_to_both_ends_of_what_is_not_scaled(name, exponent, bound):
    """Squares of squares of such weights are beyond float32; residuals must be neither lost nor infinite."""
    matrix, sigma = unscaled(name)
    found = largest_singular_value(matrix * 2.0**exponent, bound=Bound(bound), method="lanczos")
    assert found.value * 2.0**-exponent <= sigma * (1 + ROUNDING)
    assert found.upper * 2.0**-exponent >= sigma * (1 - ROUNDING)
    assert found.upper <= found.value * (1 + 1.0001e-6)


@pytest.mark.parametrize("bound", ["probable", "audited"])
def test_a_float32_run_that_says_it_has_ended_is_not_trusted(monkeypatch, bound):
    """After the first step the Ritz value is 4e-5 too low and only the lost residual would tell."""

    class Ending(Lanczos):
        def step(self, operator):
            super().step(operator)
            if self.basis.dtype == torch.float32:
                self.betas[-1] = 0.0

    monkeypatch.setattr(extremal, "Lanczos", Ending)
    matrix = torch.eye(400)
    matrix[0, 0] += 4e-5
    found = largest_singular_value(matrix, bound=Bound(bound))
    assert found.upper >= oracles.singular_values(matrix)[0] * (1 - ROUNDING)


def test_nothing_is_proved_within_rounding():
    """Where the factorisation succeeds or fails by chance: the margin decides, and it is wider than that."""
    for seed in range(20):
        matrix = with_spectrum(SPECTRA["flat"], seed=seed)
        gram, squares = matrix.T @ matrix, float(matrix.square().sum())
        for bound, expected in ((1 - 1e-14, False), (1 + 1e-12, False), (1 + 3e-11, True)):
            workspace = Workspace(torch.device("cpu"))
            options = {"squares": squares, "rows": N, "workspace": workspace}
            assert extremal.proves_upper_bound(gram, bound, **options) == expected


def test_the_narrowest_interval_that_can_be_proved_is_taken(monkeypatch):
    """One of rtol before a wider one, if rtol lies between the widths that are tried."""
    least = (1 + 2e-9) ** 2
    monkeypatch.setattr(extremal, "proves_upper_bound", lambda gram, bound, **_: bound >= least)
    found = largest_singular_value(torch.eye(5, dtype=torch.float64), rtol=3e-9)
    assert found.upper == pytest.approx(1 + 3e-9, rel=1e-12)


def test_orthogonal_matrix():
    matrix, _ = torch.linalg.qr(
        torch.randn(500, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )
    assert largest_singular_value(matrix).value == pytest.approx(1.0, rel=1e-12)


def test_falls_back_where_lanczos_does_not_converge(monkeypatch):
    monkeypatch.setattr(extremal, "MAX_STEPS", 5)
    matrix = with_spectrum(SPECTRA["uniform"])
    found = largest_singular_value(matrix)
    assert found.method == "gram_eigh"
    assert found.value == pytest.approx(1.0, rel=1e-13)


def test_tighter_tolerance_takes_more_steps_and_is_kept():
    matrix = with_spectrum(SPECTRA["power law"])
    loose, tight = (largest_singular_value(matrix, rtol=rtol) for rtol in (1e-2, 1e-10))
    assert loose.steps < tight.steps
    assert tight.upper - tight.value <= 1.0001e-10 * tight.value


def test_the_start_depends_on_seed_and_size_alone():
    matrix = with_spectrum(SPECTRA["uniform"])
    first, again, other = (largest_singular_value(matrix, seed=seed) for seed in (0, 0, 1))
    assert (first.value, first.upper, first.steps) == (again.value, again.upper, again.steps)
    assert first.upper != other.upper


@pytest.mark.parametrize("delta", [0.1, 0.01])
def test_failure_rate_of_the_bound_is_below_delta(monkeypatch, delta):
    """Stop when the bound with failure probability delta is narrow, and count how often it is wrong.

    With 400 starts the count is binomial; three standard deviations above delta would be a broken bound.
    """
    monkeypatch.setattr(bounds, "FAILURE_PROBABILITY", delta)
    starts, n = 400, 60
    matrix = with_spectrum(np.linspace(1, 0, n))
    failures = 0
    for seed in range(starts):
        found = largest_singular_value(matrix, rtol=1e-3, seed=seed, method="lanczos")
        failures += found.upper < 1 - ROUNDING
    assert failures <= starts * delta + 3 * math.sqrt(starts * delta)
    assert FAILURE_PROBABILITY == 1e-9
