"""The sums of a device against those of the CPU, and powers of two against the standard library."""

import math

import pytest
import torch

from weightscope.spectra import device_sums, moments
from weightscope.spectra.device_pass import Scaled, learn, proof
from weightscope.spectra.gram import proves_upper_bound
from weightscope.spectra.workspace import Workspace

WORKSPACE = Workspace(torch.device("cpu"))
ONE = torch.ones((), dtype=torch.float64)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def found(sums):
    return device_sums.fetched(sums.moments().tolist())


@pytest.mark.parametrize("shift", [0.0, 3.0, 1e6])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (40, 30), (41, 30), (700, 20)])
def test_as_on_the_cpu(monkeypatch, shape, shift):
    monkeypatch.setattr("weightscope.spectra.device_pass._PIECE_ELEMENTS", 1000)
    matrix = drawn(*shape).double() + shift
    expected, _ = moments.sums_and_product(matrix, workspace=WORKSPACE)
    one = learn(Scaled(tall=matrix, factor=ONE), WORKSPACE, with_error=False).sums
    for mine, other in ((one, expected), (one.transposed(), expected.transposed())):
        for name in ("frobenius_norm", "mean", "std", "row_norm_ratio", "column_norm_ratio"):
            assert getattr(found(mine), name) == pytest.approx(
                getattr(other.moments(), name), rel=1e-12, abs=1e-15 * (1 + shift)
            ), name


def test_stacked_parts_and_scales():
    whole = torch.cat([drawn(30, 20) + 4, 1e-3 * drawn(10, 20, seed=1)]).double()
    parts = [
        learn(Scaled(tall=part, factor=ONE), WORKSPACE, with_error=False).sums
        for part in whole.split([30, 10])
    ]
    together = found(device_sums.stacked(parts).scaled(torch.tensor(0.5, dtype=torch.float64)))
    expected = moments.sums_and_product(0.5 * whole, workspace=WORKSPACE)[0].moments()
    for name in ("frobenius_norm", "mean", "std", "row_norm_ratio", "column_norm_ratio"):
        assert getattr(together, name) == pytest.approx(getattr(expected, name), rel=1e-12), name


@pytest.mark.parametrize("exponent", [-5000, -1023, -1022, -1000, -1, 0, 1, 52, 1000, 1023])
def test_powers_of_two_are_exact(exponent):
    power = float(device_sums.power_of_two(torch.tensor(exponent)))
    assert power == (math.ldexp(1.0, exponent) if exponent >= -1022 else 0.0)


@pytest.mark.parametrize(
    "peak", [0.0, 1.0, 2.0**30, 2.0**31, 1.5e-30, 1e-300, 5e-324, 1e300, math.nan, math.inf]
)
def test_exponents_are_those_of_the_cpu(peak):
    expected = moments.scale_exponent(peak)
    expected = 0 if abs(expected) <= 30 else expected
    assert int(device_sums.exponent_of(torch.tensor(peak, dtype=torch.float64))) == expected


def test_peaks():
    matrix = drawn(5, 6)
    matrix[2, 3] = -9.0
    assert float(device_sums.peak_of(matrix)) == 9.0
    assert math.isnan(device_sums.peak_of(matrix.clone().fill_(math.nan)))
    matrix[0, 0] = math.inf
    assert math.isinf(device_sums.peak_of(matrix))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("turned", [False, True])
def test_gram_matrices_and_the_bound_on_their_error(monkeypatch, dtype, turned):
    monkeypatch.setattr("weightscope.spectra.device_pass._PIECE_ELEMENTS", 9000)
    monkeypatch.setattr("weightscope.spectra.device_pass._PANEL", 64)
    tall = drawn(400, 150).to(dtype)
    tall = tall.mT.contiguous().mT if turned else tall
    learnt = learn(Scaled(tall=tall, factor=ONE * 0.25), WORKSPACE, with_error=True)
    exact = tall.double().mT @ tall.double() / 16
    assert torch.equal(learnt.gram, learnt.gram.mT)
    off = float(torch.linalg.matrix_norm(learnt.gram - exact, ord=2))
    assert off <= 1e-12 * float(exact.trace())
    assert float(learnt.error) <= 1e-12 * float(exact.trace())
    monkeypatch.setattr(torch.Tensor, "addmm_", spoilt(torch.Tensor.addmm_))
    spoiled = learn(Scaled(tall=tall, factor=ONE), WORKSPACE, with_error=True)
    off = float(torch.linalg.matrix_norm(spoiled.gram - 16 * exact, ord=2))
    assert off > 1e-3
    assert off <= float(spoiled.error) <= 1e3 * off


@pytest.mark.parametrize("value", [2.0, math.nan])
def test_a_factor_that_is_no_number_proves_nothing(monkeypatch, value):
    """As on a GPU, whose solver says of a NaN that all went well."""

    def silent(matrix):
        return torch.full_like(matrix, value), torch.zeros((), dtype=torch.int32)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", silent)
    gram = torch.eye(3, dtype=torch.float64)
    found = proof(gram, 2 * ONE, squares=3 * ONE, rows=3, workspace=WORKSPACE)
    assert found.dtype == torch.float64
    assert float(found) == math.isnan(value)
    assert proves_upper_bound(gram, 2.0, squares=3.0, rows=3, workspace=WORKSPACE) != math.isnan(value)


def spoilt(addmm_):
    """Square products off by a thousandth in one place, as a Gram matrix' are and its probes' are not."""

    def apply(self, left, right, **options):
        addmm_(self, left, right, **options)
        if self.shape[1] == 64 and len(self) == 150:
            self[3, 1] += 1e-3
        return self

    return apply
