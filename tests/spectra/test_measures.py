"""Definitions, checked against what they must give for spectra known by hand."""

import math

import pytest
import torch

from weightscope.spectra.measures import (
    effective_rank_of,
    energy_rank_of,
    epsilon_rank_of,
    gaussian_stable_rank,
    nuclear_norm_of,
    participation_ratio_of,
    spectrum_measures,
    stable_rank_of,
)


def sigma(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_flat_spectrum_has_full_rank_of_every_kind():
    flat = sigma(*[3.0] * 7)
    assert stable_rank_of(math.sqrt(7 * 9), 3.0) == pytest.approx(math.sqrt(7))
    assert effective_rank_of(flat) == pytest.approx(7)
    assert participation_ratio_of(flat) == pytest.approx(7)
    assert nuclear_norm_of(flat) == pytest.approx(21)
    assert energy_rank_of(flat, 0.9) == 7
    assert epsilon_rank_of(flat, 0.999) == 7


def test_rank_one_has_rank_one_of_every_kind():
    one = sigma(5.0, 0.0, 0.0)
    assert stable_rank_of(5.0, 5.0) == 1
    assert effective_rank_of(one) == pytest.approx(1)
    assert participation_ratio_of(one) == pytest.approx(1)
    assert energy_rank_of(one, 0.99) == 1
    assert epsilon_rank_of(one, 1e-3) == 1


def test_by_hand():
    """σ = 4, 2, 1, 1: Σσ = 8, Σσ² = 22, Σσ⁴ = 274, entropy = (1/2 + 1/2 + 3/4) ln 2."""
    values = sigma(4, 2, 1, 1)
    assert effective_rank_of(values) == pytest.approx(2**1.75)
    assert participation_ratio_of(values) == pytest.approx(22**2 / 274)
    # partial energies 16/22 = 0.727, 20/22 = 0.909, 21/22, 1
    assert [energy_rank_of(values, share) for share in (0.7, 0.9, 0.95, 0.99)] == [1, 2, 3, 4]
    # strictly above: σ/σ₁ = 1, 1/2, 1/4, 1/4
    assert [epsilon_rank_of(values, eps) for eps in (0.5, 0.25, 0.2)] == [1, 2, 4]


def test_stable_rank_is_not_squared_and_not_below_one():
    assert stable_rank_of(6.0, 2.0) == 3.0
    assert stable_rank_of(1 - 1e-16, 1.0) == 1.0
    assert math.isnan(stable_rank_of(0.0, 0.0))


def test_gaussian_baseline_matches_a_gaussian_matrix():
    assert gaussian_stable_rank(2560, 2560) == pytest.approx(math.sqrt(2560) / 2)
    matrix = torch.randn(400, 900, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    measured = float(matrix.norm() / torch.linalg.matrix_norm(matrix, 2))
    assert gaussian_stable_rank(400, 900) == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize(("smallest", "known"), [(1e-3, True), (1e-9, True), (9e-12, False), (0.0, False)])
def test_smallest_value_is_empty_where_the_error_swallows_it(smallest, known):
    errors = torch.tensor([1e-15, 1e-12], dtype=torch.float64)
    found = spectrum_measures(sigma(1.0, smallest), shape=(2, 3), epsilon=(0.1,), errors=errors)
    assert found["spectrum_error"] == 1e-12
    assert math.isnan(found["smallest_singular_value"]) is not known
    assert math.isnan(found["condition_number"]) is not known
    if known:
        assert found["condition_number"] == pytest.approx(1 / smallest)
    assert found["epsilon_rank_0.1"] == 1
