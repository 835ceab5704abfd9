"""Batches of tridiagonal matrices against LAPACK, and the bounds against their scalar form."""

from types import SimpleNamespace

import numpy as np
import pytest

from weightscope.spectra import bounds
from weightscope.spectra.tridiagonal import Tridiagonals


def dense(alphas, betas):
    return np.diag(alphas) + np.diag(betas[:-1], -1) + np.diag(betas[:-1], 1)


def coefficients(steps, members=7, seed=0):
    draw = np.random.default_rng(seed)
    return draw.uniform(0.1, 1, (members, steps)), draw.uniform(1e-3, 0.5, (members, steps))


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 40, 150])
@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e18])
def test_largest_is_that_of_lapack(steps, scale):
    alphas, betas = coefficients(steps)
    found = Tridiagonals.of(scale * alphas, scale * betas)
    theta, vectors = found.largest()
    for i in range(len(alphas)):
        values, basis = np.linalg.eigh(dense(scale * alphas[i], scale * betas[i]))
        assert theta[i] == pytest.approx(values[-1], rel=1e-13)
        assert abs(basis[:, -1] @ vectors[:, i]) == pytest.approx(1, abs=1e-8)
        image = dense(scale * alphas[i], scale * betas[i]) @ vectors[:, i] - theta[i] * vectors[:, i]
        assert np.linalg.norm(image) <= 1e-12 * theta[i]
    assert found.residuals(vectors) == pytest.approx(scale * betas[:, -1] * np.abs(vectors[-1]))


def test_of_clusters_the_value_is_right_and_the_residual_small():
    """Two nearly decoupled copies: eigenvalues 1e-14 apart, and a weak link between them."""
    alphas = np.array([[1.0, 0.2, 0.1, 0.2, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    betas = np.array([[0.3, 1e-7, 1e-7, 0.3, 0.1], [1e-12, 1e-12, 1e-12, 1e-12, 1e-3]])
    found = Tridiagonals.of(alphas, betas)
    theta, vectors = found.largest()
    for i in range(2):
        matrix = dense(alphas[i], betas[i])
        assert theta[i] == pytest.approx(np.linalg.eigvalsh(matrix)[-1], rel=1e-13)
        assert np.linalg.norm(matrix @ vectors[:, i] - theta[i] * vectors[:, i]) <= 1e-10


def test_what_comes_after_the_end_counts_for_nothing():
    alphas, betas = coefficients(6, members=3)
    betas[0, 1] = betas[1, 0] = 0.0
    alphas[0, 3] = alphas[1, 4] = 100.0  # of another space
    found = Tridiagonals.of(alphas, betas)
    theta, vectors = found.largest()
    assert found.lengths.tolist() == [2, 1, 6]
    assert theta[0] == pytest.approx(np.linalg.eigvalsh(dense(alphas[0, :2], betas[0, :2]))[-1])
    assert theta[1] == alphas[1, 0]
    assert not vectors[2:, 0].any()
    assert found.residuals(vectors)[:2].tolist() == [0, 0]


@pytest.mark.parametrize("steps", [1, 5, 60])
def test_bounds_are_the_scalar_ones(steps):
    alphas, betas = coefficients(steps, seed=1)
    betas[0, steps // 2] = 0.0
    if steps > 5:
        betas[1, 3] = 1e-300
    found = Tridiagonals.of(alphas, betas)
    theta, _ = found.largest()
    limit = bounds.sum_limit(300, 1e-9)
    for factor in (1 + 1e-9, 1 + 1e-3, 1.5, 3.0, 1e9):
        expected = [
            bounds.is_upper_bound(
                factor * float(theta[i]),
                SimpleNamespace(alphas=alphas[i].tolist(), betas=betas[i].tolist()),
                limit,
            )
            for i in range(len(alphas))
        ]
        assert found.is_upper_bound(factor * theta, limit).tolist() == expected
    high = np.full_like(theta, 1e25)
    roots = found.upper_bounds(theta, high, limit)
    for i in range(len(alphas)):
        run = SimpleNamespace(alphas=alphas[i].tolist(), betas=betas[i].tolist())
        assert roots[i] == pytest.approx(bounds.upper_bound(float(theta[i]), 1e25, run, limit), rel=1e-9)
    some = found.select(np.array([2, 4]))
    assert some.upper_bounds(theta[[2, 4]], high[[2, 4]], limit).tolist() == roots[[2, 4]].tolist()
