r"""Gradient descent with weight decay, many nets at once (paper A, Algorithm 1).

$$W_k \leftarrow (1 - \eta\lambda) W_k - \eta \nabla_{W_k} L(\theta), \qquad
L(\theta) = \frac1n \sum_i \ln(1 + e^{-y_i f_\theta(x_i)})$$

λ is the weight decay that an optimiser of torch would be given. Gradients are written out, which on small
nets is several times as fast as recording and replaying them. Two exact rewritings save more:

- Weights are kept as W = c V with a number c for each net. Decay multiplies c, and only the gradient, a
  product of small matrices, is added to V: one pass over the weights in place of two.
- With few samples the first layer is never touched. W_1 moves in the span of the samples, apart from its
  start, so what is followed is P = X W_1ᵀ and the coefficients A of the samples:

$$P \leftarrow (1 - \eta\lambda) P - \eta\, X X^\top \Delta, \quad
A \leftarrow (1 - \eta\lambda) A - \eta \Delta, \quad W_1(t) = (1-\eta\lambda)^t W_1(0) + A^\top X$$

  with Δ the gradient at the first layer's output.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.errors import OptionError
from weightscope.training.networks import Weights, outputs

# Below this, c is multiplied into V: long before float32 runs out of exponents.
_SMALLEST_SCALE = 2.0**-20
# With fewer samples than this share of the inputs' dimension the span is worth following.
_SPAN_SHARE = 0.5


class Descent:
    """Full-batch gradient descent of an ensemble.

    Args:
        weights: Where the nets begin; copied.
        inputs: Of each net.
        labels: ±1.
        step_size: η, one for each net or one for all.
        weight_decay: λ, likewise.
        span: Whether to follow the first layer in the span of the samples; decided by the shapes if None.

    Attributes:
        steps: Taken so far.

    Raises:
        OptionError: ηλ outside [0, 1).
    """

    def __init__(
        self,
        weights: Weights,
        inputs: Float[Tensor, "nets samples width"],
        labels: Float[Tensor, "nets samples"],
        *,
        step_size: float | Float[Tensor, " nets"],
        weight_decay: float | Float[Tensor, " nets"],
        span: bool | None = None,
    ) -> None:
        nets, samples, width = inputs.shape
        self._rate = self._one_each(step_size, inputs)
        shrink = self._rate * self._one_each(weight_decay, inputs)
        check_shrink(float(shrink.min()), float(shrink.max()))
        self._keep = 1 - shrink
        self._inputs, self._labels = inputs, labels.unsqueeze(-1)
        self._values = [weight.clone() for weight in weights]
        self._scale = torch.ones_like(self._keep)
        self.steps = 0
        wanted = span if span is not None else samples < _SPAN_SHARE * width
        self._span = wanted and len(weights) > 1
        if self._span:
            self._gram = inputs @ inputs.mT
            self._start, self._decayed = weights[0].clone(), torch.ones_like(self._keep)
            self._coefficients = inputs.new_zeros(nets, samples, weights[0].shape[1])
            self._first = inputs @ weights[0].mT

    @staticmethod
    def _one_each(value: float | Tensor, inputs: Tensor) -> Float[Tensor, "nets 1 1"]:
        """A number for each net."""
        given = torch.as_tensor(value, dtype=inputs.dtype, device=inputs.device)
        return given.expand(len(inputs)).reshape(-1, 1, 1)

    def step(self, count: int = 1) -> None:
        """Take steps."""
        for _ in range(count):
            self._step()
        self.steps += count

    def weights(self) -> Weights:
        """The weights now; of their own memory."""
        found = [self._scale * value for value in self._values]
        if self._span:
            found[0] = self._decayed * self._start + self._coefficients.mT @ self._inputs
        return found

    def scores(self) -> Float[Tensor, "nets samples"]:
        """F at the training inputs, from the weights themselves."""
        return outputs(self.weights(), self._inputs)

    def refresh(self) -> None:
        """Take the rounding of many steps off what is followed beside the weights."""
        for value in self._values:
            value *= self._scale
        self._scale.fill_(1)
        if self._span:
            self._first = self._inputs @ self.weights()[0].mT

    def _step(self) -> None:
        values, scale, keep = self._values, self._scale, self._keep
        hidden = [self._inputs]
        for number, value in enumerate(values[:-1]):
            if self._span and number == 0:
                hidden.append(self._first.relu())
            else:
                hidden.append(torch.bmm(hidden[-1], value.mT).mul_(scale).relu_())
        scores = torch.bmm(hidden[-1], values[-1].mT).mul_(scale)
        # −η times the derivative of the loss by f.
        delta = torch.sigmoid(scores.mul_(self._labels).neg_()).mul_(self._labels).mul_(self._rate)
        delta /= scores.shape[1]
        after = scale * keep
        for number in range(len(values) - 1, -1, -1):
            at_input = hidden[number]
            if number:
                # By the weights before the step; a ReLU's derivative at 0 is taken as 0, as torch does.
                back = torch.bmm(delta, values[number]).mul_(scale).mul_(at_input > 0)
            if self._span and number == 0:
                self._first.mul_(keep).baddbmm_(self._gram, delta)
                self._coefficients.mul_(keep).add_(delta)
                self._decayed *= keep
            else:
                values[number].baddbmm_((delta / after).mT, at_input)
            if number:
                delta = back
        self._scale = after
        if self.steps % 64 == 0 and float(after.min()) < _SMALLEST_SCALE:
            self.refresh()


def check_shrink(smallest: float, largest: float) -> None:
    """Whether every ηλ is one that decays.

    Raises:
        OptionError: It is not.
    """
    if not 0 <= smallest <= largest < 1:
        raise OptionError(
            f"A product of step size and decay of {largest if largest >= 1 else smallest:g} was asked for.",
            "A step multiplies the weights by 1 − ηλ, and decays only where ηλ lies in [0, 1).",
            "Choose a smaller step size or weight decay.",
        )
