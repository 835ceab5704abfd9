"""The bound on the rounding of a Lanczos run, against the perturbation that the theory speaks of."""

import numpy as np
import pytest
import torch

from weightscope.spectra import bounds, extremal, operators
from weightscope.spectra.lanczos import Lanczos
from weightscope.spectra.workspace import Workspace


def matrix(rows, columns, *, turned):
    generator = torch.Generator().manual_seed(rows + columns)
    made = torch.randn(rows, columns, generator=generator) * torch.arange(1, columns + 1) ** -0.3
    return made.mT.contiguous().mT if turned else made


def run_of(tall, steps, dtype=torch.float32):
    workspace = Workspace(torch.device("cpu"))
    run = Lanczos(tall.shape[1], dtype=dtype, seed=0, max_steps=600, workspace=workspace)
    operator = operators.implicit(tall.to(dtype), workspace)
    for _ in range(steps):
        run.step(operator)
    return run


def perturbation(run, tall):
    """‖Q T − G Q_k‖ for the polar factor Q of the vectors: by SVD, not by what `rounding_of` does."""
    vectors = run.vectors.double().numpy().T
    left, _, right = np.linalg.svd(vectors, full_matrices=False)
    polar, k = left @ right, run.steps
    coefficients = np.zeros((k + 1, k))
    coefficients[:k] = np.diag(run.alphas)
    coefficients[np.arange(1, k + 1), np.arange(k)] = run.betas
    coefficients[np.arange(k - 1), np.arange(1, k)] = run.betas[:-1]
    exact = tall.double().numpy()
    return np.linalg.norm(polar @ coefficients[: polar.shape[1]] - exact.T @ (exact @ polar[:, :k]), 2)


def bound_of(run, tall, elements=20_000):
    theta, _ = run.top()
    pieces = extremal._pieces(tall, elements)
    return bounds.rounding_of(run, theta, pieces, Workspace(torch.device("cpu")))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("rows", "columns", "steps"), [(300, 200, 30), (3000, 150, 60), (260, 250, 1)])
def test_the_bound_covers_the_rounding_and_little_more(rows, columns, steps, turned):
    tall = matrix(rows, columns, turned=turned)
    run = run_of(tall, steps)
    true = perturbation(run, tall)
    singular = np.linalg.svd(run.vectors.double().numpy(), compute_uv=False)
    skew = np.abs(singular**2 - 1).max() * run.top()[0]  # what vectors that are not orthogonal cost
    assert true <= bound_of(run, tall) <= 1.5 * (true + skew)


@pytest.mark.parametrize("row", [0, 5, 30])
@pytest.mark.parametrize("size", [1e-5, 1e-3])
def test_vectors_that_are_not_orthogonal_are_seen(row, size):
    """Also the one that the next step would start from."""
    tall = matrix(300, 200, turned=False)
    run = run_of(tall, 30)
    run.vectors[row] += size * run.vectors[12]
    assert perturbation(run, tall) <= bound_of(run, tall)
    clean = bound_of(run_of(tall, 30), tall)
    assert bound_of(run, tall) > 10 * clean


def test_a_run_whose_vectors_are_of_no_use_has_no_bound():
    tall = matrix(300, 200, turned=False)
    run = run_of(tall, 30)
    run.vectors[5] = run.vectors[12]
    assert bound_of(run, tall) == float("inf")


def test_a_residual_that_was_dropped_counts():
    """Of a run that ended there is no next vector: what is left of the last residual is all rounding."""
    tall = matrix(300, 200, turned=False)
    run = run_of(tall, 30)
    dropped = run.betas[-1]
    run.betas[-1] = 0.0
    assert bound_of(run, tall) >= dropped


def test_in_float64_little_is_left():
    tall = matrix(300, 200, turned=False).double()
    run = run_of(tall, 60, torch.float64)
    theta, _ = run.top()
    assert perturbation(run, tall) <= bound_of(run, tall) <= 1e-13 * theta


def test_a_long_sum_is_as_accurate_as_a_short_one():
    """BLAS adds columns one after another; forty thousand terms in parts err no more than a few thousand."""
    generator = torch.Generator().manual_seed(0)
    for turned in (False, True):
        tall = torch.randn(40_000, 30, generator=generator)
        tall = tall.mT.contiguous().mT if turned else tall
        vector = torch.randn(40_000, generator=generator)
        out, exact = torch.empty(30), tall.double().mT @ vector.double()
        operators.multiply(tall.mT, vector, out, Workspace(torch.device("cpu")))
        assert (out.double() - exact).norm() <= 1e-6 * exact.norm()
