"""Gradient descent of paper A's Figure 3: many nets at once against torch.optim.SGD and autograd on one.

    OMP_WAIT_POLICY=passive python -m tests.benchmarks.bench_descent
    python -m tests.benchmarks.bench_descent --nets 100 --device cuda

Nets 100-1000-100-1, tasks of the arm `different`. First parity: after 1000 steps in float64 the weights of
each of four nets are those of one trained alone. Then time, in float32, of a step and net: "at once" and
"alone" in turn, the median of nine. Last what looking at the nets costs of `train merge`.
"""

import argparse
from statistics import median
from time import perf_counter

import torch

from weightscope.recipes.load import load_recipe
from weightscope.training.data import merging_tasks
from weightscope.training.descent import Descent
from weightscope.training.experiments import merging
from weightscope.training.networks import Weights, initial_weights, side_by_side
from weightscope.training.seeds import generator_for

WIDTHS, RATE, DECAY = (100, 1000, 100, 1), 1.0, 1e-4
REQUIRED = {10: 4.0, 100: 1.2}


class Alone:
    """One net, as it is usually written."""

    def __init__(self, weights: Weights, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        layers: list[torch.nn.Module] = []
        for weight in weights:
            linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False).to(weight)
            linear.weight.data.copy_(weight)
            layers += [linear, torch.nn.ReLU()]
        self.net = torch.nn.Sequential(*layers[:-1])
        self.inputs, self.labels = inputs, labels
        self.optimiser = torch.optim.SGD(self.net.parameters(), lr=RATE, weight_decay=DECAY)

    def step(self, count: int) -> None:
        """Take steps."""
        for _ in range(count):
            self.optimiser.zero_grad()
            scores = self.net(self.inputs).squeeze(-1)
            torch.nn.functional.soft_margin_loss(scores, self.labels).backward()
            self.optimiser.step()


def nets_of(count: int, samples: int, dtype: torch.dtype) -> tuple[Weights, torch.Tensor, torch.Tensor]:
    """Initial weights, inputs and labels of nets, by twos of one draw."""
    tasks, weights = [], []
    for draw in range((count + 1) // 2):
        tasks += merging_tasks(generator_for(draw, "data"), samples=samples, dtype=dtype)
        generator = generator_for(draw, "initial weights")
        weights += [initial_weights(generator, WIDTHS, dtype=dtype) for _ in range(2)]
    inputs = torch.stack([task.inputs for task in tasks[:count]])
    return side_by_side(weights[:count]), inputs, torch.stack([task.labels for task in tasks[:count]])


def parity(samples: int, nets: int = 4, steps: int = 1000) -> float:
    """Largest difference of a weight, over the largest weight of its matrix."""
    weights, inputs, labels = nets_of(nets, samples, torch.float64)
    descent = Descent(weights, inputs, labels, step_size=RATE, weight_decay=DECAY)
    descent.step(steps)
    worst = 0.0
    for net in range(nets):
        alone = Alone([layer[net] for layer in weights], inputs[net], labels[net])
        alone.step(steps)
        for found, given in zip(descent.weights(), alone.net.parameters(), strict=True):
            wanted = given.detach()
            worst = max(worst, float((found[net] - wanted).abs().max() / wanted.abs().max()))
    return worst


def seconds(run: Descent | Alone, steps: int, device: str) -> float:
    """Of a step."""
    started = perf_counter()
    run.step(steps)
    if device == "cuda":
        torch.cuda.synchronize()
    return (perf_counter() - started) / steps


def looking() -> tuple[float, float]:
    """Seconds that `train merge` takes, and those of them in which it looks at its nets."""
    recipe = load_recipe("paper_a/figure3", ["size=quick"]).recipe
    spent, record = [0.0], merging.MergingNets.record

    def timed(self: merging.MergingNets, *arguments: object, **named: object) -> None:
        started = perf_counter()
        record(self, *arguments, **named)  # type: ignore[arg-type]
        spent[0] += perf_counter() - started

    merging.MergingNets.record = timed  # type: ignore[method-assign,assignment]
    started = perf_counter()
    merging.run_merging(recipe.setting)  # type: ignore[union-attr]
    return perf_counter() - started, spent[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", type=int, default=40)
    parser.add_argument("--samples", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--without-looking", action="store_true")
    given = parser.parse_args()
    print(
        f"{given.nets} nets, {given.device}, {torch.get_num_threads()} threads; microseconds a net and step"
    )
    print(f"{'n':>5}{'parity':>10}{'at once':>10}{'alone':>10}{'ratio':>8}{'required':>10}")
    for samples in given.samples:
        error = parity(samples)
        weights, inputs, labels = (
            [part.to(given.device) for part in one] if isinstance(one, list) else one.to(given.device)
            for one in nets_of(given.nets, samples, torch.float32)
        )
        many = Descent(weights, inputs, labels, step_size=RATE, weight_decay=DECAY)
        one = Alone([layer[0] for layer in weights], inputs[0], labels[0])
        for run, steps in ((many, 5), (one, 50)):
            run.step(steps)
        times = [
            (seconds(many, 10, given.device) / given.nets, seconds(one, 200, given.device)) for _ in range(9)
        ]
        at_once, alone = (1e6 * median(column) for column in zip(*times, strict=True))
        assert error < 1e-9, error
        print(
            f"{samples:>5}{error:>10.1e}{at_once:>10.1f}{alone:>10.1f}{alone / at_once:>8.1f}"
            f"{REQUIRED.get(samples, 1.0):>9.1f}x",
            flush=True,
        )
    if not given.without_looking:
        total, spent = looking()
        print(f"train merge: {total:.1f} s, of which {spent:.1f} s ({spent / total:.1%}) looking at the nets")


if __name__ == "__main__":
    main()
