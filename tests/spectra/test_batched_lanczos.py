"""Batches of Lanczos runs against LAPACK, on the spectra that are hard for one run."""

import numpy as np
import pytest
import torch

from tests.spectra.test_extremal import SPECTRA, N, with_spectrum
from weightscope.spectra import bounds
from weightscope.spectra.batched_lanczos import batched_lanczos
from weightscope.spectra.extremal import Bound, Goal
from weightscope.spectra.lanczos import Lanczos
from weightscope.spectra.workspace import Workspace


def grams_of(matrices, dtype):
    return torch.stack([matrix.mT @ matrix for matrix in matrices]).to(dtype)


def goal_of(dtype, size, bound=Bound.PROBABLE, rtol=1e-6):
    return Goal.of(bound, rtol, size, dtype)


ALL = [with_spectrum(values, seed=i) for i, values in enumerate(SPECTRA.values())]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("bound", [Bound.PROBABLE, Bound.AUDITED, Bound.RESIDUAL], ids=str)
def test_hard_spectra_together(dtype, bound):
    goal = goal_of(dtype, N, bound)
    runs = batched_lanczos(grams_of(ALL, dtype), goal)
    eps = torch.finfo(dtype).eps
    for name, matrix, run in zip(SPECTRA, ALL, runs, strict=True):
        if run is None:  # those that one run does not reach either
            assert name in ("Chebyshev edge", "within a thousandth", "uniform", "flat")
            continue
        sigma = float(torch.linalg.svdvals(matrix)[0])
        assert abs(float(run.vector.norm()) - 1) < 1e-14
        value = float((matrix @ run.vector).norm())
        assert value <= sigma * (1 + 1e-14)
        if bound is not Bound.RESIDUAL:
            assert value == pytest.approx(sigma, rel=1e-6)
            assert run.theta <= run.upper <= goal.widest * run.theta
            assert run.upper >= sigma**2 * (1 - 10 * eps)
            scalar = bounds.upper_bound(run.theta, goal.widest * run.theta, run, goal.limit)
            assert run.upper == pytest.approx(scalar, rel=1e-12)
        else:
            image = matrix.mT @ (matrix @ run.vector)
            assert float((image - value**2 * run.vector).norm()) <= (1.1e-6 + 20 * eps) * value**2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_batch_reaches_what_single_runs_reach(dtype):
    """Same start, same criterion: a member needs as many steps as alone, up to the next look."""
    goal = goal_of(dtype, N)
    grams = grams_of(ALL, dtype)
    for gram, run in zip(grams.clone(), batched_lanczos(grams, goal), strict=True):
        single = Lanczos(N, dtype=dtype, seed=0, max_steps=N, workspace=Workspace(torch.device("cpu")))
        while single.steps < N:
            single.step(lambda vector, out, gram=gram: torch.mv(gram, vector, out=out))
            theta, weights = single.top()
            if goal.is_reached(single, theta, weights):
                assert run is not None
                assert single.steps <= run.steps <= single.steps + 16 or run.betas[-1] == 0
                assert run.theta == pytest.approx(theta, rel=1e-6)
                # Where a Krylov space ends, what follows is rounding.
                assert run.alphas[:2] == pytest.approx(single.alphas[:2], rel=1e-5)
                break
        else:
            assert run is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_krylov_spaces_that_end_at_once(dtype):
    size = 200
    exact = {
        1.0: torch.eye(size),
        9.0: 9 * torch.eye(size),
        4.0: torch.diag(torch.tensor([4.0] * 100 + [1.0] * 100)),
        float(size): torch.ones(size, size),
        2.0: torch.diag(torch.tensor([2.0, *[0.0] * (size - 1)])),
        0.5: torch.diag(torch.tensor([0.5, 0.25, 0.125, *[0.0] * (size - 3)])),
    }
    grams = torch.stack(list(exact.values())).to(dtype)
    for expected, run in zip(exact, batched_lanczos(grams, goal_of(dtype, size)), strict=True):
        assert run is not None
        assert run.theta == pytest.approx(expected, rel=50 * torch.finfo(dtype).eps)
        assert run.theta <= run.upper <= 1.000003 * expected


@pytest.mark.parametrize("size", [1, 2, 3, 9, 33])
def test_small_sizes_end_with_a_basis_of_the_whole_space(size):
    draw = torch.randn(4, 3 * size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    grams = draw.mT @ draw
    runs = batched_lanczos(grams.clone(), goal_of(torch.float64, size))
    for gram, run in zip(grams, runs, strict=True):
        if run is not None:
            assert run.steps <= size
            assert run.theta == pytest.approx(float(torch.linalg.eigvalsh(gram)[-1]), rel=1e-6)
    assert runs[0] is not None or size > 3


def test_a_goal_out_of_reach():
    grams = grams_of(ALL[:2], torch.float64)
    assert batched_lanczos(grams, goal_of(torch.float64, N), max_steps=3) == [None, None]


def test_the_basis_is_there_for_an_audit():
    goal = goal_of(torch.float32, N, Bound.AUDITED)
    matrices = [ALL[0], ALL[1], torch.eye(N, dtype=torch.float64)]
    runs = batched_lanczos(grams_of(matrices, torch.float32), goal, with_basis=True)
    for matrix, run in zip(matrices, runs, strict=True):
        basis = run.basis.double()
        assert basis.shape == (run.steps, N)
        overlaps = basis @ basis.mT
        assert torch.allclose(overlaps, torch.eye(run.steps, dtype=torch.float64), atol=1e-5)
        product = basis @ (matrix.mT @ matrix)
        vectors = basis if run.next_vector is None else torch.cat([basis, run.next_vector.double()[None]])
        assert bounds.rounding_from(run, run.upper, vectors, product, terms=2 * N) <= 1e-5 * run.theta
    assert batched_lanczos(grams_of(matrices, torch.float32), goal)[0].basis is None


def test_other_members_change_nothing_but_rounding():
    goal = goal_of(torch.float64, N)
    alone = batched_lanczos(grams_of(ALL[:1], torch.float64), goal)[0]
    among = batched_lanczos(grams_of(ALL, torch.float64), goal)[0]
    assert among.theta == pytest.approx(alone.theta, rel=1e-13)
    assert np.abs(float(alone.vector @ among.vector)) == pytest.approx(1, abs=1e-12)
