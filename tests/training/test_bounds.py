"""Lemma 4's bounds: at every θ, and what S can be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from weightscope.training.bounds import LARGEST_S, everywhere_bound, lossless_bound, pull, stationary_bound
from weightscope.training.descent import Descent
from weightscope.training.networks import fit, outputs


def test_the_largest_pull_is_the_largest():
    found = minimize_scalar(lambda z: -z / (1 + math.exp(z)), bounds=(0, 5), method="bounded")
    assert pytest.approx(LARGEST_S, abs=1e-9) == -found.fun
    assert 1 / math.e > LARGEST_S


@given(
    seed=st.integers(0, 2**32 - 1),
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    size=st.floats(0.1, 10),
)
def test_the_bound_holds_at_every_point(seed, widths, size):
    generator = torch.Generator().manual_seed(seed)
    ins = [5, *widths]
    weights = [
        size * torch.randn(1, rows, columns, generator=generator, dtype=torch.float64)
        for columns, rows in zip(ins, [*widths, 1], strict=True)
    ]
    inputs = torch.randn(1, 9, 5, generator=generator, dtype=torch.float64)
    inputs /= inputs.norm(dim=-1, keepdim=True).clamp(min=1.0)
    scores = outputs(weights, inputs)
    labels = torch.where(scores >= 0, 1.0, -1.0).double()  # the largest S there can be
    norms = torch.stack([weight.norm(dim=(1, 2)) for weight in weights])
    bound = everywhere_bound(pull(scores, labels), norms)
    spectral = [np.linalg.norm(weight[0].numpy(), 2) for weight in weights]
    mean = np.mean([one / float(norm) for one, norm in zip(spectral, norms[:, 0], strict=True)])
    assert float(bound) <= mean * (1 + 1e-12)


def test_the_bound_is_reached_by_rank_one():
    """One neuron a layer, aligned with the input: S is the product of the norms times a logistic factor."""
    weights = [torch.full((1, 1, 1), 0.7, dtype=torch.float64) for _ in range(3)]
    inputs = torch.ones(1, 1, 1, dtype=torch.float64)
    scores = outputs(weights, inputs)
    norms = torch.full((3, 1), 0.7, dtype=torch.float64)
    bound = everywhere_bound(pull(scores, torch.ones_like(scores)), norms)
    factor = torch.sigmoid(-scores).flatten()
    torch.testing.assert_close(bound, factor ** (1 / 3))


def test_stationary_points_keep_both_bounds():
    """A deep net trained to the end: λ‖W_k‖² = S, and the mean inverse stable rank above both bounds."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(1, 12, 6, generator=generator, dtype=torch.float64)
    inputs /= inputs.norm(dim=-1, keepdim=True)
    labels = torch.sign(inputs[:, :, 0])
    weights = [
        torch.randn(1, *shape, generator=generator, dtype=torch.float64) for shape in ((8, 6), (8, 8), (1, 8))
    ]
    decay = 5e-3
    descent = Descent(weights, inputs, labels, step_size=0.5, weight_decay=decay)
    descent.step(20_000)
    found = descent.weights()
    norms = torch.stack([weight.norm(dim=(1, 2)) for weight in found])
    pulls = pull(descent.scores(), labels)
    # A ReLU net may end on a kink, which steps of a constant size jump over and back.
    torch.testing.assert_close(decay * norms.square(), pulls.expand(3, 1), rtol=1e-3, atol=0)
    mean = np.mean(
        [np.linalg.norm(w[0].numpy(), 2) / float(n) for w, n in zip(found, norms[:, 0], strict=True)]
    )
    loss = float(fit(descent.scores(), labels).loss)
    assert lossless_bound(decay, 3) <= stationary_bound(decay, loss, 3) * 1.3
    assert mean >= stationary_bound(decay, loss, 3)
    assert mean >= lossless_bound(decay, 3)


def test_without_a_loss_nothing_but_zero_is_stationary():
    assert stationary_bound(1e-3, 0.0, 3) == math.inf
    assert stationary_bound(1e-3, 0.0, 2) == pytest.approx(math.sqrt(1e-3))
