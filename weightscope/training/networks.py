"""ReLU networks without biases, many of one architecture side by side (paper A, section 3).

A network of widths (d, w₁, …, 1) is f(x) = W_K σ(W_{K−1} … σ(W_1 x)), σ = max(0, ·). Nets lie along the first
axis of every tensor, so that one batched product serves all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.errors import OptionError

Weights = list[Tensor]
"""Of every layer, first layer first: (nets, out_features, in_features)."""
Initialisation = Literal["torch", "he", "glorot"]


def initial_weights(
    generator: torch.Generator,
    widths: Sequence[int],
    *,
    initialisation: Initialisation = "torch",
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Weights:
    """The weights of one net, drawn in float64 on the CPU: a seed means the same everywhere.

    Args:
        generator: On the CPU.
        widths: (d, w₁, …, 1).
        initialisation: `torch`: uniform on ±1/√in, what `torch.nn.Linear` does; `he`: normal with variance
            2/in; `glorot`: normal with variance 2/(in + out). Not in the paper.
        scale: Factor on all weights. Not in the paper.
        dtype: Of the result.

    Raises:
        OptionError: No such initialisation.
    """
    if initialisation not in get_args(Initialisation):
        raise OptionError(
            f"The initialisation {initialisation!r} was asked for.",
            f"There is {', '.join(get_args(Initialisation))}.",
            "Choose one of these.",
        )
    weights = []
    for columns, rows in pairwise(widths):
        if initialisation == "torch":
            values = torch.rand(1, rows, columns, generator=generator, dtype=torch.float64)
            values = (2 * values - 1) / math.sqrt(columns)
        else:
            values = torch.randn(1, rows, columns, generator=generator, dtype=torch.float64)
            values *= math.sqrt(2 / (columns if initialisation == "he" else columns + rows))
        weights.append((scale * values).to(dtype))
    return weights


def side_by_side(nets: Sequence[Weights]) -> Weights:
    """The weights of several groups of nets along one axis."""
    return [torch.cat(layers) for layers in zip(*nets, strict=True)]


def outputs(weights: Weights, inputs: Float[Tensor, "nets samples width"]) -> Float[Tensor, "nets samples"]:
    """f(x) of each net at its inputs."""
    for weight in weights[:-1]:
        inputs = torch.bmm(inputs, weight.mT).relu_()
    return torch.bmm(inputs, weights[-1].mT).squeeze(-1)


def merged(first: Weights, second: Weights, *, how: Literal["sum", "average"] = "sum") -> Weights:
    """The weights of a merged net: paper A, section 5, adds them; averages are for comparison."""
    factor = 1.0 if how == "sum" else 0.5
    return [factor * (one + other) for one, other in zip(first, second, strict=True)]


def named(net: str, weights: Sequence[Tensor]) -> dict[str, Tensor]:
    """One net's layers by the names that a file has for them; of their own memory.

    Args:
        net: Its name.
        weights: Of each layer (out_features, in_features), first layer first.
    """
    return {f"{net}.layers.{number}.weight": layer.clone() for number, layer in enumerate(weights)}


class Fit(NamedTuple):
    """How well nets fit their labels; each of shape (nets,), float64."""

    loss: Tensor
    """Mean of ln(1 + e^(−y f)): logistic."""
    error: Tensor
    """Share of points with y f ≤ 0."""
    margin_error: Tensor
    """Share of points with y f < 1."""


def fit(scores: Float[Tensor, "nets samples"], labels: Float[Tensor, "nets samples"]) -> Fit:
    """How well outputs agree with labels ±1."""
    margins = (scores * labels).to(torch.float64)
    return Fit(
        loss=torch.nn.functional.softplus(-margins).mean(dim=-1),
        error=(margins <= 0).to(torch.float64).mean(dim=-1),
        margin_error=(margins < 1).to(torch.float64).mean(dim=-1),
    )
