"""The noise edge against published constants and against noise with and without spikes."""

import math

import pytest
import torch

from weightscope.spectra.marchenko_pastur import median_eigenvalue, noise_edge


def test_median_gives_gavish_and_donohos_constant():
    """ω(1) = λ*(1)/√μ₁ ≈ 2.858 (Gavish and Donoho 2014, section III.E)."""
    assert 4 / math.sqrt(3) / math.sqrt(median_eigenvalue(1.0)) == pytest.approx(2.858, abs=5e-4)


@pytest.mark.parametrize("beta", [0.1, 0.3, 0.5, 0.9, 1.0])
def test_median_halves_a_random_spectrum(beta):
    long = 1500
    short = round(beta * long)
    matrix = torch.randn(short, long, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    eigenvalues = torch.linalg.svdvals(matrix).square() / long
    share = float((eigenvalues < median_eigenvalue(short / long)).double().mean())
    assert share == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("shape", [(300, 300), (200, 600), (600, 200), (301, 500)])
@pytest.mark.parametrize("spikes", [0, 3])
def test_spikes_above_noise_are_counted(shape, spikes):
    generator = torch.Generator().manual_seed(1)
    matrix = 0.02 * torch.randn(*shape, dtype=torch.float64, generator=generator)
    edge = 0.02 * (math.sqrt(shape[0]) + math.sqrt(shape[1]))
    left = torch.linalg.qr(torch.randn(shape[0], 3, dtype=torch.float64, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(shape[1], 3, dtype=torch.float64, generator=generator)).Q
    matrix += 3 * edge * left[:, :spikes] @ right[:, :spikes].T
    found = noise_edge(torch.linalg.svdvals(matrix), *shape)
    assert found.edge == pytest.approx(edge, rel=0.02)
    assert spikes <= found.spikes <= spikes + 1  # the largest noise value fluctuates about the edge
