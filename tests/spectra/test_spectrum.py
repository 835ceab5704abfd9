"""Whole spectra against LAPACK through numpy, and against constructions whose values are known."""

import numpy as np
import pytest
import torch

from tests import oracles
from tests.spectra.test_extremal import with_spectrum
from weightscope.spectra.spectrum import spectrum


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (40, 40), (30, 90), (90, 30)])
def test_every_value_within_the_stated_error(shape):
    batch = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = spectrum(batch)
    assert found.values.shape == (3, min(shape))
    for values, matrix in zip(found.values, batch, strict=True):
        sigma = oracles.singular_values(matrix)
        assert np.abs(values.numpy() - sigma).max() <= 2 * found.relative_error * sigma[0]
        assert (np.diff(values.numpy()) <= 0).all()


def test_small_values_are_kept():
    values = np.geomspace(1, 1e-11, 50)
    found = spectrum(with_spectrum(values)[None])
    assert np.abs(found.values[0].numpy() - values).max() <= found.relative_error
    assert found.relative_error < 1e-12


def test_batched_is_looped():
    batch = torch.randn(4, 20, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    together = spectrum(batch).values
    apart = torch.cat([spectrum(matrix[None]).values for matrix in batch])
    assert torch.equal(together, apart)
