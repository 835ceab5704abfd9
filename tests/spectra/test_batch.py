"""Norms of batches against float64 LAPACK."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from weightscope.spectra.batch import batch_norms


@pytest.mark.parametrize(
    "shape", [(5, 30, 7), (4, 7, 30), (3, 1, 9), (3, 9, 1), (2, 6, 6), (0, 4, 3)], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_norms_are_those_of_lapack(shape: tuple[int, ...], dtype: torch.dtype, size: float) -> None:
    matrices = (size * torch.randn(shape, generator=torch.Generator().manual_seed(1))).to(dtype)
    found = batch_norms(matrices)
    exact = matrices.double().numpy()
    frobenius = [np.linalg.norm(one / size) * size for one in exact]
    spectral = [np.linalg.svd(one, compute_uv=False)[0] for one in exact]
    np.testing.assert_allclose(found.frobenius, frobenius, rtol=1e-13)
    np.testing.assert_allclose(found.spectral, spectral, rtol=1e-13)


def test_rank_one_zero_and_not_finite() -> None:
    matrices = torch.zeros(4, 3, 2)
    matrices[0] = torch.outer(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, -1.0]))
    matrices[2, 0, 0] = torch.nan
    matrices[3, 1, 1] = torch.inf
    found = batch_norms(matrices)
    assert found.stable_ranks[0].item() == pytest.approx(1.0, abs=1e-12)
    assert found.frobenius[1].item() == found.spectral[1].item() == 0.0
    assert found.stable_ranks[1:].isnan().all()
    assert found.frobenius[2:].isnan().all()


def test_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = torch.randn(11, 5, 4, generator=torch.Generator().manual_seed(2))
    whole = batch_norms(matrices)
    monkeypatch.setattr("weightscope.spectra.batch._PIECE", 8 * 5 * 4 * 3)
    for one, other in zip(whole, batch_norms(matrices), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-15, atol=0)
