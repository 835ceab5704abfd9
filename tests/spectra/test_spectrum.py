"""Whole spectra against LAPACK through numpy, and against constructions whose values are known."""

import numpy as np
import pytest
import torch

from tests import oracles
from tests.spectra.test_extremal import SPECTRA, with_spectrum
from weightscope.spectra.spectrum import by_gram, by_svd, choose_method, from_eigenvalues
from weightscope.spectra.stack_gram import StackGram
from weightscope.spectra.workspace import Workspace

# What numpy's own SVD is off by: a few units of rounding, times the longer side.
ROUNDING = 1e-14


def gram_spectrum(matrix, *, mixed=False):
    found = StackGram(Workspace(torch.device("cpu"))).of(matrix, mixed=mixed)
    return by_gram(found.double, gram_error=found.error, mixed=mixed)


def assert_within(found, sigma):
    """Every value within its stated error of the truth."""
    off = np.abs(found.values.numpy() - sigma)
    assert (off <= found.errors.numpy() + ROUNDING * sigma[0]).all(), (off / found.errors.numpy()).max()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (40, 40), (30, 90), (90, 30)])
@pytest.mark.parametrize("method", [by_svd, gram_spectrum])
def test_every_value_within_the_stated_error(shape, method):
    matrix = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = method(matrix)
    assert found.values.shape == found.errors.shape == (min(shape),)
    assert_within(found, oracles.singular_values(matrix))
    assert (np.diff(found.values.numpy()) <= 0).all()


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("rows", [300, 900])
def test_gram_in_float64_on_hard_spectra(name, rows):
    """Better than 1e-6 of the largest even where the smallest values are zero."""
    matrix = with_spectrum(SPECTRA[name], rows)
    found = gram_spectrum(matrix)
    sigma = np.sort(np.asarray(SPECTRA[name], dtype=float))[::-1]
    assert_within(found, sigma)
    assert float(found.errors.max()) <= 1e-6 * sigma[0]
    assert found.method == "gram_eigvalsh"


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("transposed", [False, True])
def test_mixed_gram_states_its_error(name, transposed):
    stored = with_spectrum(SPECTRA[name], 2000).to(torch.bfloat16).float()
    matrix = stored.mT if transposed else stored
    found = gram_spectrum(matrix, mixed=True)
    assert_within(found, oracles.singular_values(matrix))
    assert found.method == "mixed_gram_eigvalsh"


def test_the_stated_error_is_not_generous():
    """On a long Gaussian matrix, by mixed sums, it is below what an SVD in float32 is off by."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6000, 300, generator=generator).to(torch.bfloat16).float()
    found, sigma = gram_spectrum(matrix, mixed=True), oracles.singular_values(matrix)
    single = np.abs(torch.linalg.svdvals(matrix).double().numpy() - sigma).max()
    assert float(found.errors.max()) < 3 * single
    assert np.abs(found.values.numpy() - sigma).max() < single


def test_small_values_are_kept_by_an_svd_and_disowned_by_a_gram_matrix():
    values = np.geomspace(1, 1e-11, 50)
    matrix = with_spectrum(values)
    found = by_svd(matrix)
    assert np.abs(found.values.numpy() - values).max() <= float(found.errors[0]) < 1e-12
    squared = gram_spectrum(matrix)
    known = (squared.values > 10 * squared.errors).numpy()
    assert known[values > 1e-6].all()
    assert not known[values < 1e-9].any()


def test_errors_of_roots_are_what_the_eigenvalues_allow():
    squares = torch.tensor([0.0, 1e-20, 1e-6, 1.0], dtype=torch.float64)
    found = from_eigenvalues(squares, gram_error=1e-10, mixed=False)
    for root, error, square in zip(found.values, found.errors, squares.flip(0), strict=True):
        for moved in (square + 1e-10, (square - 1e-10).clamp(min=0)):
            assert abs(moved.sqrt() - root) <= error * (1 + 1e-12)
    assert float(found.errors[-1]) == pytest.approx(1e-5, rel=1e-4)


def test_the_table():
    def chosen(shape, **given):
        return choose_method(shape, **{"bf16_valued": True, "on_cpu": True, **given})

    assert chosen((256, 90_000)) == "svdvals"
    assert chosen((2560, 2560)) == "gram"
    assert chosen((10240, 2560)) == chosen((2560, 10240)) == "mixed_gram"
    assert chosen((10240, 2560), bf16_valued=False) == chosen((10240, 2560), on_cpu=False) == "gram"
    assert chosen((10240, 2560), asked="gram") == chosen((10, 10), asked="gram") == "gram"
    assert chosen((10240, 2560), asked="svdvals") == "svdvals"
