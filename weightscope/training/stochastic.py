r"""Minibatch SGD with weight decay, many small nets at once (paper A, Figure 2).

$$W_k \leftarrow (1 - \eta\lambda) W_k - \frac{\eta}{|B|} \sum_{i \in B} \nabla_{W_k} \ln(1 + e^{-y_i f_i})$$

λ is the `weight_decay` of `torch.optim.SGD`, the decay coupled. Nets come in draws. The members of a draw see
the same inputs in the same batches and differ in labels, step size and decay, so that all of their first
layers are one product. On small nets what costs is the number of operations, not their size:

- Activations are kept as (nets, width, batch): what the product of all first layers gives is already what the
  second layers take.
- A ReLU net of K layers is homogeneous. With W_k = c V_k, c = (1 − ηλ)^t, it is f = c^K F(V), and

$$V_k \leftarrow V_k + \frac{\eta\, c_t^{K-1}}{|B|\, c_{t+1}} \sum_{i \in B} y_i\, s(-y_i c_t^K F_i)\,
\nabla_{V_k} F_i, \qquad s(z) = 1/(1 + e^{-z})$$

  so decay is in two factors of each sample, known before the epoch, and never walks over the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from weightscope.errors import OptionError
from weightscope.training.descent import check_shrink
from weightscope.training.networks import Weights
from weightscope.training.seeds import generator_for

# c^K is multiplied into V before it is below this: far from the end of float32's exponents.
_SMALLEST_SCALE = 2.0**-40


class _Buffers(NamedTuple):
    """Memory of one step, for batches of one size."""

    hidden: list[Tensor]
    """Each layer's output, (nets, width, batch); the last is of width 1."""
    back: list[Tensor]
    """Likewise the derivative by each layer's output, but the last's."""


class StochasticDescent:
    """Minibatch SGD of an ensemble.

    An epoch's order of samples depends on the draw's seed and the epoch's number alone, and is drawn on the
    CPU: it is the same on every device, for every batch size, and in a run that goes on after `load`. Give
    torch one thread on a CPU: more do not help products this small. Draws are independent: processes do.

    Args:
        weights: Where the nets begin, as `networks.Weights`; nets = draws · members, a draw's nets side by
            side; copied.
        inputs: Of each draw.
        labels: ±1, of each net.
        step_size: η, one for each net or one for all.
        weight_decay: λ, likewise.
        batch_size: Samples in a step; an epoch's last batch holds what is left and is averaged as such.
        seeds: One for each draw, see `generator_for`.

    Attributes:
        epochs: Passes over the samples so far.

    Raises:
        OptionError: ηλ outside [0, 1), a batch size that is not in 1 … n, or shapes that do not fit.
    """

    def __init__(
        self,
        weights: Weights,
        inputs: Float[Tensor, "draws samples width"],
        labels: Float[Tensor, "draws members samples"],
        *,
        step_size: float | Float[Tensor, " nets"],
        weight_decay: float | Float[Tensor, " nets"],
        batch_size: int,
        seeds: Sequence[int],
    ) -> None:
        _check_shapes(weights, inputs, labels, seeds)
        draws, samples, _ = inputs.shape
        nets = draws * labels.shape[1]
        if not 1 <= batch_size <= samples:
            raise OptionError(
                f"Batches of {batch_size} samples were asked for.",
                f"There are {samples:,} samples.",
                f"Choose a size from 1 to {samples}.",
            )
        rate, decay = _one_each("step sizes", step_size, nets), _one_each("weight decays", weight_decay, nets)
        check_shrink(float((rate * decay).min()), float((rate * decay).max()))
        self._inputs, self._labels, self._seeds = inputs.detach(), labels.detach(), tuple(seeds)
        self._values = [weight.detach().clone(memory_format=torch.contiguous_format) for weight in weights]
        # Of each step's samples in the epoch's order.
        self._bounds = [(low, min(low + batch_size, samples)) for low in range(0, samples, batch_size)]
        self._buffers = {high - low: self._buffers_for(high - low) for low, high in self._bounds}
        self._plan_decay(rate, 1 - rate * decay)
        # What is dead decays for ever, and where products of K weights underflow a CPU is a hundred times as
        # slow. What falls below this is 0.
        self._negligible = torch.finfo(inputs.dtype).tiny ** (1 / (len(weights) + 1))
        self.epochs = 0

    def _buffers_for(self, batch: int) -> _Buffers:
        hidden = [value.new_empty(*value.shape[:2], batch) for value in self._values]
        return _Buffers(hidden, [torch.empty_like(one) for one in hidden[:-1]])

    def _plan_decay(self, rate: Tensor, keep: Tensor) -> None:
        """The factors of each sample by its place in an epoch, and the steps at which c goes into V."""
        layers, steps = len(self._values), len(self._bounds)
        least = float(keep.min())
        after = math.log(_SMALLEST_SCALE) / layers / math.log(least) if least < 1 else steps
        self._stretch = max(1, min(steps, int(after)))
        sizes = torch.tensor([high - low for low, high in self._bounds])
        step = torch.repeat_interleave(torch.arange(steps) % self._stretch, sizes)
        size = torch.repeat_interleave(sizes, sizes)
        inward = -(keep ** (layers * step))
        outward = rate / size * keep ** ((layers - 1) * step) / keep ** (step + 1)
        self._inward, self._outward = (factor.to(self._labels).unsqueeze(1) for factor in (inward, outward))
        last = (steps - 1) % self._stretch + 1
        self._shrinks = {of: (keep**of).to(self._labels).unsqueeze(-1) for of in (self._stretch, last)}

    @torch.no_grad()
    def epoch(self, count: int = 1) -> None:
        """Take passes over the samples, each in an order of its own."""
        for _ in range(count):
            self._epoch()
            self.epochs += 1

    def weights(self) -> Weights:
        """The weights now; of their own memory."""
        return [value.clone() for value in self._values]

    @torch.no_grad()
    def scores(self) -> Float[Tensor, "nets samples"]:
        """F at the training inputs."""
        first = self._shared(self._values[0]) @ self._inputs.mT
        hidden = first.view(len(self._values[0]), -1, first.shape[-1])
        for value in self._values[1:]:
            hidden = torch.bmm(value, hidden.relu_())
        return hidden.squeeze(1)

    def state(self) -> dict[str, Tensor]:
        """All that a run of the same arguments needs to go on, bit for bit; of its own memory."""
        layers = {f"layer {number}": value.clone() for number, value in enumerate(self._values, 1)}
        return {"epochs": torch.tensor(self.epochs), **layers}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken; the arguments must be those of that run.

        Raises:
            OptionError: The state is of other nets.
        """
        mine = self.state()
        if _listed(state) != _listed(mine):
            raise OptionError(
                "A run was to go on from a saved state.",
                f"It holds {_listed(state) or 'nothing'}.",
                f"It must hold {_listed(mine)}.",
            )
        self.epochs = int(state["epochs"])
        for number, value in enumerate(self._values, 1):
            value.copy_(state[f"layer {number}"])

    def _epoch(self) -> None:
        draws, samples, _ = self._inputs.shape
        order = epoch_order(self._seeds, self.epochs, samples).to(self._inputs.device)
        rows = order + samples * torch.arange(draws, device=order.device).unsqueeze(1)
        inputs = self._inputs.flatten(0, 1).index_select(0, rows.flatten()).view_as(self._inputs)
        labels = self._labels.gather(2, order.unsqueeze(1).expand_as(self._labels)).view(-1, 1, samples)
        inward, outward = self._inward * labels, self._outward * labels
        taken = 0
        for low, high in self._bounds:
            self._step(inputs[:, low:high], inward[..., low:high], outward[..., low:high])
            taken += 1
            if taken == self._stretch:
                self._shrink(taken)
                taken = 0
        if taken:
            self._shrink(taken)
        for number, value in enumerate(self._values):
            self._values[number] = torch.nn.functional.hardshrink(value, self._negligible)

    def _shrink(self, taken: int) -> None:
        for value in self._values:
            value *= self._shrinks[taken]

    def _shared(self, of_nets: Tensor) -> Tensor:
        """(nets, width, …) of the first layer as (draws, members · width, …): the same memory."""
        return of_nets.view(len(self._inputs), -1, of_nets.shape[-1])

    def _step(self, inputs: Tensor, inward: Tensor, outward: Tensor) -> None:
        values, (hidden, back) = self._values, self._buffers[inputs.shape[1]]
        torch.bmm(self._shared(values[0]), inputs.mT, out=self._shared(hidden[0]))
        for number in range(1, len(values)):
            torch.bmm(values[number], hidden[number - 1].relu_(), out=hidden[number])
        delta = hidden[-1].mul_(inward).sigmoid_().mul_(outward)
        for number in range(len(values) - 1, 0, -1):
            below, at_input = back[number - 1], hidden[number - 1]
            # By the weights before the step. The last layer's product has one term: a product of elements.
            product = torch.mul if delta.shape[1] == 1 else torch.bmm
            product(values[number].mT, delta, out=below)
            # A ReLU's derivative at 0 is taken as 0, as torch does.
            torch.ops.aten.threshold_backward.grad_input(below, at_input, 0, grad_input=below)
            values[number].baddbmm_(delta, at_input.mT)
            delta = below
        self._shared(values[0]).baddbmm_(self._shared(delta), inputs)


def epoch_order(seeds: Sequence[int], epoch: int, samples: int) -> Tensor:
    """The order in which each draw's samples are seen in an epoch, (draws, samples), on the CPU.

    Every epoch is a purpose of its own: its generators are those of no neighbour, and within it no two draws
    have the same.
    """
    return torch.stack(
        [torch.randperm(samples, generator=generator_for(seed, f"order of epoch {epoch}")) for seed in seeds]
    )


def _one_each(name: str, value: float | Tensor, nets: int) -> Float[Tensor, "nets 1"]:
    given = torch.as_tensor(value, dtype=torch.float64).cpu()
    if given.shape not in ((), (nets,)):
        raise OptionError(
            f"{name.capitalize()} of shape {tuple(given.shape)} were given.",
            f"There are {nets} nets.",
            "Give one number, or one for each net.",
        )
    return given.expand(nets).unsqueeze(-1)


def _listed(state: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {tuple(one.shape)}" for name, one in sorted(state.items()))


def _check_shapes(weights: Weights, inputs: Tensor, labels: Tensor, seeds: Sequence[int]) -> None:
    shapes = [tuple(one.shape) for one in (*weights, inputs, labels)]
    fitting = inputs.ndim == labels.ndim == 3 and len(weights) > 0 and all(one.ndim == 3 for one in weights)
    if fitting:
        nets, ins = labels.shape[0] * labels.shape[1], [inputs.shape[2], *(one.shape[1] for one in weights)]
        wanted = [(nets, rows, columns) for columns, rows in zip(ins, [*ins[1:-1], 1], strict=False)]
        fitting = shapes[: len(weights)] == wanted and inputs.shape[:2] == labels.shape[::2]
    if not fitting or len(seeds) != len(inputs):
        raise OptionError(
            f"Nets were to be trained with weights {', '.join(map(str, shapes[:-2]))}.",
            f"Inputs are {shapes[-2]}, labels {shapes[-1]}, seeds {len(seeds)}.",
            "Weights are (draws · members, out, in) and end in one output, inputs (draws, samples, in), "
            "labels (draws, members, samples), and every draw has a seed.",
        )
