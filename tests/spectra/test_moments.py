"""Norms and moments against numpy in extended precision."""

import math

import numpy as np
import pytest
import torch

from tests import oracles
from weightscope.spectra.moments import (
    largest_element,
    product_squares,
    scale_exponent,
    stacked,
    sums_and_product,
)
from weightscope.spectra.workspace import Workspace


def workspace():
    return Workspace(torch.device("cpu"))


def moments(matrix):
    return sums_and_product(matrix, workspace=workspace())[0].moments()


def gaussian(rows, columns, dtype=torch.float32, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize(
    "matrix",
    [
        gaussian(1, 1),
        gaussian(1, 700),
        gaussian(700, 1),
        gaussian(300, 1000, torch.bfloat16).float(),
        gaussian(1000, 300, torch.float64),
        gaussian(70, 70_000),  # a row longer than a piece
        gaussian(300, 400).T,
        gaussian(200, 200) + 1000,  # a mean a thousand times the spread
    ],
    ids=["1x1", "row", "column", "bf16", "double", "long rows", "transposed view", "large mean"],
)
def test_against_extended_precision(matrix):
    found, values = moments(matrix), oracles.exact(matrix).astype(np.longdouble)
    assert found.frobenius_norm == pytest.approx(oracles.frobenius_norm(matrix), rel=1e-14)
    assert found.mean == pytest.approx(float(values.mean()), rel=1e-12, abs=1e-15)
    assert found.std == pytest.approx(float(values.std()), rel=1e-12, abs=1e-15)
    for ratio, axis in ((found.row_norm_ratio, 1), (found.column_norm_ratio, 0)):
        norms = np.sqrt((values * values).sum(axis=axis))
        assert ratio == pytest.approx(float(norms.max() / np.median(norms)), rel=1e-12)


def test_frobenius_norm_at_26_million_elements():
    """Where float32's own norm is wrong in the third digit."""
    matrix = gaussian(10_240, 2_560)
    exact = math.sqrt(float((matrix.double() ** 2).sum()))
    assert moments(matrix).frobenius_norm == pytest.approx(exact, rel=1e-12)


def test_ratio_over_a_zero_median_is_undefined():
    matrix = torch.zeros(5, 4)
    matrix[0, 0] = 2.0
    found = moments(matrix)
    assert math.isnan(found.row_norm_ratio)
    assert math.isnan(found.column_norm_ratio)
    assert found.frobenius_norm == 2.0


@pytest.mark.parametrize("peak", [1.0, 0.5, 3.7, 1e-30, 1e30, 1e-37, 1e300, 5e-324])
def test_scaling_is_by_a_power_of_two(peak):
    scaled = peak * math.ldexp(1.0, -scale_exponent(peak))
    assert peak < 1e-300 or 0.5 <= scaled < 1


@pytest.mark.parametrize("peak", [2.0**-149, 1e-43, 1e-38, 1e38, 3.4e38])
def test_a_float32_is_scaled_and_scaled_back_in_float32(peak):
    """Its smallest numbers would need a factor that float32 does not hold."""
    stored, exponent = torch.tensor([peak]), scale_exponent(peak)
    scaled = stored * math.ldexp(1.0, -exponent)
    assert 2.0**-30 < float(scaled) < 2.0**30
    assert torch.equal(scaled * math.ldexp(1.0, exponent), stored)


@pytest.mark.parametrize("peak", [0.0, math.inf, math.nan])
def test_nothing_to_scale(peak):
    assert scale_exponent(peak) == 0


@pytest.mark.parametrize("shape", [(1, 1), (700, 300), (300, 700), (5, 200_000)])
@pytest.mark.parametrize("turned", [False, True])
def test_products_from_the_same_pass(shape, turned):
    matrix = gaussian(*shape[::-1]).T if turned else gaussian(*shape)
    right, left = torch.randn(shape[1], dtype=torch.float64), torch.randn(shape[0], dtype=torch.float64)
    for vectors, expected in (
        ({"right": right}, (matrix.double() @ right).square().sum()),
        ({"left": left}, (left @ matrix.double()).square().sum()),
    ):
        _, product = sums_and_product(matrix, **vectors, workspace=workspace())
        assert product == pytest.approx(float(expected), rel=1e-12)
        assert product_squares(matrix, **vectors, workspace=workspace()) == pytest.approx(product, rel=1e-13)


def test_stacked_sums_are_those_of_the_whole():
    parts = [gaussian(30, 50), 10 * gaussian(70, 50, seed=1) + 100, gaussian(1, 50, seed=2)]
    together = stacked([sums_and_product(part, workspace=workspace())[0] for part in parts]).moments()
    whole = moments(torch.cat(parts))
    for name in ("frobenius_norm", "mean", "std", "row_norm_ratio", "column_norm_ratio"):
        assert getattr(together, name) == pytest.approx(getattr(whole, name), rel=1e-12), name


@pytest.mark.parametrize("view", ["whole", "turned", "rows of it turned", "columns"])
@pytest.mark.parametrize("value", [7.5, -9.0, float("nan"), float("inf"), -float("inf")])
def test_largest_element(view, value):
    matrix = torch.rand(30, 20)
    matrix[4, 3] = value
    seen = {
        "whole": matrix,
        "turned": matrix.mT,
        "rows of it turned": matrix.mT[2:9],
        "columns": matrix[:, 2:9],
    }
    assert largest_element(seen[view]) == pytest.approx(abs(value), nan_ok=True)
