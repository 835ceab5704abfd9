"""Lanczos in finite precision: what the bounds take for granted."""

import numpy as np
import pytest
import torch

from tests.spectra.test_extremal import SPECTRA, with_spectrum
from weightscope.spectra import operators
from weightscope.spectra.lanczos import Lanczos
from weightscope.spectra.workspace import Workspace


def run_of(matrix, steps, seed=0):
    workspace = Workspace(torch.device("cpu"))
    run = Lanczos(matrix.shape[1], dtype=matrix.dtype, seed=seed, max_steps=600, workspace=workspace)
    operator = operators.implicit(matrix, workspace)
    while run.steps < steps:
        run.step(operator)
    return run


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", SPECTRA)
def test_vectors_stay_orthonormal(name, dtype):
    """Also long after the top has converged, where without reorthogonalisation copies of it appear."""
    vectors = run_of(with_spectrum(SPECTRA[name]).to(dtype), 150).vectors.double()
    overlaps = vectors @ vectors.mT - torch.eye(len(vectors), dtype=torch.float64)
    assert torch.linalg.matrix_norm(overlaps, 2) <= 20 * torch.finfo(dtype).eps


def test_coefficients_are_those_of_the_operator():
    matrix = with_spectrum(SPECTRA["power law"])
    run = run_of(matrix, 40)
    basis = run.basis.numpy()
    projected = basis @ (matrix.T @ matrix).numpy() @ basis.T
    tridiagonal = np.diag(run.alphas) + np.diag(run.betas[:-1], 1) + np.diag(run.betas[:-1], -1)
    assert np.abs(projected - tridiagonal).max() <= 1e-13
    theta, weights = run.top()
    assert theta == pytest.approx(np.linalg.eigvalsh(tridiagonal)[-1], rel=1e-14)
    assert run.vector(weights).norm() == pytest.approx(1, rel=1e-14)


def test_small_residuals_of_small_weights_are_not_lost():
    """Their squares, 1e-49, are none of float32."""
    matrix = torch.eye(400) * 2.0**-31
    matrix[0, 0] *= 1 + 4e-5
    run = run_of(matrix, 3)
    assert run.betas[0] == pytest.approx(run_of(matrix * 2.0**31, 3).betas[0] * 2.0**-62, rel=1e-3)
