"""The random bound on the error of a Gram matrix: never below it, and not far above."""

import pytest
import torch

from weightscope.spectra.probes import gram_error
from weightscope.spectra.workspace import Workspace


def perturbed(noise, *, columns=120, rows=300, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    tall = torch.randn(rows, columns, generator=generator, dtype=dtype)
    exact = tall.double().T @ tall.double()
    return tall, exact + noise(columns, generator)


def wigner(size, generator):
    found = 1e-6 * torch.randn(size, size, generator=generator, dtype=torch.float64)
    return (found + found.T) / 2


def one_direction(size, generator):
    unit = torch.randn(size, generator=generator, dtype=torch.float64)
    return 1e-6 * torch.outer(unit, unit) / unit.dot(unit)


def one_entry(size, generator):
    found = torch.zeros(size, size, dtype=torch.float64)
    found[3, 3] = 1e-6
    return found


@pytest.mark.parametrize("noise", [wigner, one_direction, one_entry])
@pytest.mark.parametrize(("power", "times"), [(1, 200), (2, 20), (4, 6)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_between_the_norm_and_a_multiple(noise, power, times, dtype, monkeypatch):
    monkeypatch.setattr("weightscope.spectra.probes._PIECE_ELEMENTS", 7000)  # pieces of 58 rows, and a rest
    tall, gram = perturbed(noise, dtype=dtype)
    truth = float(torch.linalg.matrix_norm(gram - tall.double().T @ tall.double(), 2))
    bound = gram_error(gram, tall, Workspace(torch.device("cpu")), power=power)
    assert truth <= bound <= times * truth


def test_columns_as_they_lie():
    tall, gram = perturbed(wigner)
    lying = tall.float().T.contiguous().T
    assert lying.stride(0) == 1
    workspace = Workspace(torch.device("cpu"))
    assert gram_error(gram, lying, workspace, power=2) == pytest.approx(
        gram_error(gram, lying.contiguous(), workspace, power=2), rel=1e-6
    )


def test_no_error_is_none():
    tall = torch.eye(8)
    assert gram_error(torch.eye(8, dtype=torch.float64), tall, Workspace(torch.device("cpu")), power=2) == 0
