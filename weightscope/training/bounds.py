r"""Paper A's Lemma 4: weight decay bounds the mean inverse stable rank from below.

With S = (1/n) Σ y f σ(−y f), which is −(1/n) Σ ℓ'(y f) y f for the logistic loss, every ReLU net without
biases has at every θ

$$\frac1K \sum_k \frac{\|W_k\|_2}{\|W_k\|_F} \ge \Big(\frac{\max(S, 0)}{\prod_k \|W_k\|_F}\Big)^{1/K},$$

because S ≤ Π‖W_k‖₂ where ‖x‖ ≤ 1, by the inequality of means. At a stationary point λ‖W_k‖_F² = S for every
k, and the right side is λ^½ S^{1/K−½}: the other bounds follow from what S can be at most.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_S = 0.27846454276107380
"""The largest z/(1 + e^z), at z = 1.27846: S is never more."""


def pull(
    scores: Float[Tensor, "nets samples"], labels: Float[Tensor, "nets samples"]
) -> Float[Tensor, " nets"]:
    """S = (1/n) Σ y f σ(−y f) of each net, float64: how hard the loss pulls the weights outward."""
    margins = (scores * labels).to(torch.float64)
    return (margins * torch.sigmoid(-margins)).mean(dim=-1)


def everywhere_bound(
    pulls: Float[Tensor, " nets"], frobenius: Float[Tensor, "layers nets"]
) -> Float[Tensor, " nets"]:
    """The right side of Lemma 4's inequality, which holds at every θ with ‖x‖ ≤ 1."""
    logs = frobenius.log().sum(dim=0)
    return torch.exp((pulls.clamp(min=0.0).log() - logs) / len(frobenius))


def stationary_bound(weight_decay: float, loss: float, layers: int) -> float:
    """Lemma 4 (2): (λ / L^{½ − 1/K})^½, at stationary points, by S ≤ √L; K ≥ 2. Infinite where L is 0.

    At such a point nothing pulls, and no net but 0 is stationary.
    """
    if loss == 0 and layers > 2:
        return math.inf
    return math.sqrt(weight_decay / loss ** (0.5 - 1 / layers))


def lossless_bound(weight_decay: float, layers: int) -> float:
    """Lemma 4 (3), without the loss: λ^½ c^{1/K − ½} with c = `LARGEST_S`, at stationary points; K ≥ 2.

    Printed is λe/((λe)^{1/K} e^{1/K}); what its proof shows is (λe)^½ e^{−1/K}, and c < 1/e sharpens it.
    """
    return float(math.sqrt(weight_decay) * LARGEST_S ** (1 / layers - 0.5))
