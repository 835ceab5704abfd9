"""The algebra of norms and ranks, for matrices hypothesis makes up, against LAPACK."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import oracles
from weightscope.spectra.numbers import SpectralOptions
from weightscope.spectra.solver import StackSolver
from weightscope.spectra.workspace import Workspace

OPTIONS = SpectralOptions(with_spectrum=True)
# n·eps with n = 180 and a factor for two different algorithms.
ROUNDING = 1e-12

KINDS = ("gaussian", "geometric", "clustered", "flat", "one spike", "rank deficient", "sparse", "integers")


@st.composite
def matrices(draw) -> torch.Tensor:
    """Shapes to 180, so on both sides of the switch between the methods; many spectra, scales and dtypes."""
    kind = draw(st.sampled_from(KINDS))
    largest = draw(st.sampled_from([6, 40, 180]))
    rows, columns = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    matrix, rank = random(rows, columns), min(rows, columns)
    if kind == "integers":
        matrix = matrix.round()
    elif kind == "sparse":
        matrix[matrix.abs() < 1.8] = 0
    elif kind != "gaussian":
        values = {
            "geometric": torch.logspace(0, -8, rank, dtype=torch.float64),
            "clustered": 1 - 1e-7 * torch.arange(rank),
            "flat": torch.ones(rank, dtype=torch.float64),
            "one spike": torch.tensor([50.0] + [1.0] * (rank - 1), dtype=torch.float64),
            "rank deficient": (torch.arange(rank) < max(1, rank // 3)).double(),
        }[kind]
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        matrix = left * values @ right
    scale = 2.0 ** draw(st.integers(-100, 100))
    dtype = draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
    return (matrix * scale).to(dtype).to(torch.float64)


def numbers_of(matrix: torch.Tensor):
    """In the type the sweep would choose: float32 where it holds every value."""
    narrow = matrix.float()
    exact = narrow if torch.equal(narrow.double(), matrix) else matrix.clone()
    bf16_valued = torch.equal(narrow.to(torch.bfloat16).double(), matrix)
    solver = StackSolver(OPTIONS, Workspace(torch.device("cpu")))
    return solver.solve([exact], None, bf16_valued=bf16_valued)[0]


@given(matrices())
def test_against_lapack(matrix):
    found, sigma = numbers_of(matrix), oracles.singular_values(matrix)
    assert found.values["frobenius_norm"] == pytest.approx(oracles.frobenius_norm(matrix), rel=1e-12)
    assert found.values["spectral_norm"] == pytest.approx(sigma[0], rel=1e-6)
    assert found.values["spectral_norm"] <= sigma[0] * (1 + ROUNDING)
    if found.status == "ok":
        assert np.abs(found.singular_values.numpy() - sigma).max() <= 1e-12 * sigma[0]
    else:
        assert sigma[0] == 0


@given(matrices())
def test_order_of_the_norms(matrix):
    found = numbers_of(matrix)
    if found.status != "ok":
        return
    v, rank = found.values, min(matrix.shape)
    up = 1 + ROUNDING
    assert v["max_abs"] <= v["spectral_norm"] * (1 + 1e-6)
    assert v["spectral_norm"] <= v["frobenius_norm"] * up
    assert v["frobenius_norm"] <= v["nuclear_norm"] * up
    assert v["frobenius_norm"] <= math.sqrt(rank) * v["spectral_norm"] * (1 + 1e-6)
    assert 1 <= v["stable_rank"] <= v["stable_rank_max"] * (1 + 1e-6)
    assert v["stable_rank_squared"] == v["stable_rank"] ** 2
    assert 1 - ROUNDING <= v["participation_ratio"] <= rank * up
    assert 1 - ROUNDING <= v["effective_rank"] <= rank * up
    assert 1 <= v["energy_rank_0.9"] <= v["energy_rank_0.99"] <= rank
    assert v["epsilon_rank_0.01"] <= v["epsilon_rank_0.001"] <= rank


@given(matrices(), st.randoms(use_true_random=False))
def test_invariance_to_transposition_and_permutation(matrix, random):
    found = numbers_of(matrix)
    rows, columns = list(range(matrix.shape[0])), list(range(matrix.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    for other in (matrix.T, matrix[rows][:, columns]):
        again = numbers_of(other)
        assert again.status == found.status
        for name in (
            "frobenius_norm",
            "stable_rank",
            "nuclear_norm",
            "effective_rank",
            "participation_ratio",
        ):
            if name in found.values:
                assert again.values[name] == pytest.approx(found.values[name], rel=2e-6), name
        if found.status == "ok":
            assert again.values["row_norm_ratio"] == pytest.approx(
                found.values[
                    "column_norm_ratio" if other.data_ptr() == matrix.data_ptr() else "row_norm_ratio"
                ],
                rel=1e-12,
                nan_ok=True,
            )


@given(matrices())
def test_invariance_to_orthogonal_factors(matrix):
    found = numbers_of(matrix)
    generator = torch.Generator().manual_seed(0)
    factor, _ = torch.linalg.qr(
        torch.randn(len(matrix), len(matrix), dtype=torch.float64, generator=generator)
    )
    again = numbers_of(factor @ matrix)
    if found.status == "ok":
        for name in ("frobenius_norm", "nuclear_norm", "effective_rank"):
            assert again.values[name] == pytest.approx(found.values[name], rel=1e-9), name
        assert again.values["spectral_norm"] == pytest.approx(found.values["spectral_norm"], rel=1e-6)
