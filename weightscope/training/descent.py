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
- Where all samples are zero, as in the padding of a merging task, W_1 only decays: those columns are
  left out.

On a GPU the steps are captured once as a graph and replayed: of small nets the launches cost more
than the work.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.errors import OptionError
from weightscope.training.networks import Weights, outputs
from weightscope.training.padding import Padding

# c is multiplied into V before it is below 2^−8, and c^K before it is below 2^−40: what passes between two
# looks comes to that, and float32 has room for both.
_SCALE_BITS, _PRODUCT_BITS = 8.0, 40.0
# How many steps may pass before one looks.
_LOOK = 64
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
        rate = self._one_each(step_size, inputs)
        decay = self._one_each(weight_decay, inputs)
        check_shrink(float((rate * decay).min()), float((rate * decay).max()))
        self._keep = 1 - rate * decay
        bits = min(_SCALE_BITS, _PRODUCT_BITS / len(weights))
        self._smallest = 2.0**-bits
        least = float(self._keep.min())
        # Where weights halve in a step, 64 steps would take c out of float32.
        self._look = max(1, min(_LOOK, int(bits / -math.log2(least)))) if least < 1 else _LOOK
        weights, inputs = [weight.detach() for weight in weights], inputs.detach()
        self._labels = labels.detach().unsqueeze(-1)
        self._rate = rate / inputs.shape[1]
        self._start = weights[0].clone()
        self._padding = Padding.of(inputs)
        self._inputs = self._padding.without(inputs)
        self._values = [
            self._padding.without(weights[0]).clone(),
            *(weight.clone() for weight in weights[1:]),
        ]
        self._scale = torch.ones_like(self._keep)
        self.steps = 0
        nets, samples, width = self._inputs.shape
        wanted = span if span is not None else samples < _SPAN_SHARE * width
        self._span = wanted and len(weights) > 1
        if self._span:
            self._gram = self._inputs @ self._inputs.mT
            self._coefficients = inputs.new_zeros(nets, samples, weights[0].shape[1])
            self._first = self._inputs @ self._values[0].mT
            self._values[0] = self._values[0][:0]  # the two stand for it
        self._replay: Callable[[], None] | None = None

    @staticmethod
    def _one_each(value: float | Tensor, inputs: Tensor) -> Float[Tensor, "nets 1 1"]:
        """A number for each net."""
        given = torch.as_tensor(value, dtype=inputs.dtype, device=inputs.device)
        return given.expand(len(inputs)).reshape(-1, 1, 1)

    def step(self, count: int = 1) -> None:
        """Take steps."""
        for _ in range(count):
            if self.steps % self._look == 0:
                if float(self._scale.min()) < self._smallest:
                    self.refresh()
                if self._replay is None and self._inputs.is_cuda:
                    self._replay = captured(self._step, self._state())
            (self._replay or self._step)()
            self.steps += 1

    def weights(self) -> Weights:
        """The weights now; of their own memory."""
        found = [self._scale * value for value in self._values[1:]]
        decayed = (self._keep.double() ** self.steps).to(self._keep) * self._start
        if self._span:
            moved = self._coefficients.mT @ self._inputs
            return [self._padding.plus(decayed, moved), *found]
        return [self._padding.replaced(decayed, self._scale * self._values[0]), *found]

    def scores(self) -> Float[Tensor, "nets samples"]:
        """F at the training inputs, from the weights themselves."""
        first, *others = self.weights()
        return outputs([self._padding.without(first), *others], self._inputs)

    def finite(self) -> bool:
        """Whether every net's last layer, which the others reach within a step, is of finite numbers."""
        return bool(self._values[-1].isfinite().all())

    def refresh(self) -> None:
        """Take the rounding of many steps off what is followed beside the weights."""
        for value in self._values[self._span :]:
            value *= self._scale
        self._scale.fill_(1)
        if self._span:
            self._first.copy_(self._inputs @ self._padding.without(self.weights()[0]).mT)

    def state(self) -> dict[str, Tensor]:
        """What a later descent of the same nets needs to go on from here, bit for bit; of its own memory."""
        return {name: tensor.clone() for name, tensor in self._state().items()}

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Go on from where a descent of the same nets was after so many steps."""
        for name, tensor in self._state().items():
            tensor.copy_(state[name])
        self.steps = steps

    def _state(self) -> dict[str, Tensor]:
        found = {f"value.{number}": value for number, value in enumerate(self._values)}
        found["scale"] = self._scale
        if self._span:
            found |= {"coefficients": self._coefficients, "first": self._first}
        return found

    def _step(self) -> None:
        values, scale, keep = self._values, self._scale, self._keep
        hidden = [self._inputs]
        for number, value in enumerate(values[:-1]):
            if self._span and number == 0:
                hidden.append(self._first.relu())
            else:
                hidden.append(torch.bmm(hidden[-1], value.mT).relu_())
        # A positive factor passes through a ReLU: those of all layers are multiplied in here, at once.
        factors = scale ** (len(values) - 1 - self._span)
        scores = torch.bmm(hidden[-1], values[-1].mT).mul_(factors * scale)
        after = scale * keep
        # −η times the derivative of the loss by f, over c after the step: as V takes it.
        delta = torch.sigmoid(scores.mul_(self._labels).neg_()).mul_(self._labels)
        delta.mul_(self._rate * factors / after)
        for number in range(len(values) - 1, -1, -1):
            at_input = hidden[number]
            if number:
                # By the weights before the step; a ReLU's derivative at 0 is taken as 0, as torch does.
                back = torch.bmm(delta, values[number])
                torch.ops.aten.threshold_backward.grad_input(back, at_input, 0, grad_input=back)
            if self._span and number == 0:
                delta.mul_(scale * after)
                self._first.mul_(keep).baddbmm_(self._gram, delta)
                self._coefficients.mul_(keep).add_(delta)
            else:
                values[number].baddbmm_(delta.mT, at_input)
            if number:
                delta = back
        scale.copy_(after)


def captured(step: Callable[[], None], state: dict[str, Tensor]) -> Callable[[], None]:
    """A step on a GPU as a graph: what it launches, launched at once.

    Args:
        step: Changes the tensors of the state in place, and waits for nothing.
        state: Put back after the steps that warm up.
    """
    before = {name: tensor.clone() for name, tensor in state.items()}
    # Streams are the current device's unless told otherwise, and only what runs on them is captured.
    with torch.cuda.device(next(iter(state.values())).device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries take their memory before the capture
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    for name, tensor in state.items():
        tensor.copy_(before[name])
    replay: Callable[[], None] = graph.replay
    return replay


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
