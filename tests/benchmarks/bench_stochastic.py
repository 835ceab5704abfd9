"""Minibatch SGD of paper A's Figure 2: many nets at once against torch.optim.SGD and autograd on one.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_stochastic
    python -m tests.benchmarks.bench_stochastic --draws 10 --members 20 --device cuda

1000 samples of 100 dimensions, nets 100-10-10-1, float32, one thread. "at once" is an epoch over its steps
and nets, "alone" a step of one net by modules, the best of five, in turn. The last column is Figure 2's 5000
epochs of all nets, by the first.
"""

import argparse
from time import perf_counter

import torch

from weightscope.training.networks import Weights, initial_weights, side_by_side
from weightscope.training.seeds import generator_for
from weightscope.training.stochastic import StochasticDescent

SAMPLES, WIDTHS, RATE, EPOCHS = 1000, (100, 10, 10, 1), 0.1, 5000


def at_once(run: StochasticDescent, device: str) -> float:
    """Seconds of an epoch, of two."""
    started = perf_counter()
    run.epoch(2)
    if device == "cuda":
        torch.cuda.synchronize()
    return (perf_counter() - started) / 2


class Alone:
    """One net, as it is usually written."""

    def __init__(self, weights: Weights, inputs: torch.Tensor, labels: torch.Tensor, *, decay: float) -> None:
        linears = [torch.nn.Linear(one.shape[2], one.shape[1], bias=False) for one in weights]
        self.net = torch.nn.Sequential(linears[0], torch.nn.ReLU(), linears[1], torch.nn.ReLU(), linears[2])
        self.inputs, self.labels = inputs, labels
        self.optimiser = torch.optim.SGD(self.net.parameters(), lr=RATE, weight_decay=decay)

    def seconds(self, batch: int, steps: int = 200) -> float:
        """Of a step."""
        rows = torch.randperm(SAMPLES)[:batch]
        started = perf_counter()
        for _ in range(steps):
            self.optimiser.zero_grad()
            scores = self.net(self.inputs[rows]).squeeze(-1)
            torch.nn.functional.soft_margin_loss(scores, self.labels[rows]).backward()
            self.optimiser.step()
        return (perf_counter() - started) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--batch", type=int, nargs="*", default=[10, 32, 100])
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(1)
    nets = given.draws * given.members
    seeds = range(given.draws)
    inputs = torch.randn(given.draws, SAMPLES, WIDTHS[0], generator=generator_for(0, "data"))
    inputs /= inputs.norm(dim=-1, keepdim=True)
    labels = torch.where(torch.rand(given.draws, given.members, SAMPLES) < 0.5, -1.0, 1.0)
    weights = side_by_side([initial_weights(generator_for(net, "weights"), WIDTHS) for net in range(nets)])
    alone = Alone(weights, inputs[0], labels[0, 0], decay=1e-3)
    print(f"{nets} nets, {given.device}; microseconds a net and step")
    print(f"{'batch':>6}{'at once':>10}{'alone':>10}{'ratio':>8}{f'{EPOCHS} epochs':>14}")
    for batch in given.batch:
        run = StochasticDescent(
            [weight.to(given.device) for weight in weights],
            inputs.to(given.device),
            labels.to(given.device),
            step_size=RATE,
            weight_decay=torch.logspace(-6, -2, nets, dtype=torch.float64),
            batch_size=batch,
            seeds=seeds,
        )
        run.epoch()
        rounds = [(at_once(run, given.device), alone.seconds(batch)) for _ in range(5)]
        epoch, single = (min(taken) for taken in zip(*rounds, strict=True))
        ours = epoch / -(-SAMPLES // batch) / nets
        each = f"{batch:>6}{ours * 1e6:>10.2f}{single * 1e6:>10.1f}{single / ours:>8.0f}"
        print(f"{each}{epoch * EPOCHS:>12.0f} s")


if __name__ == "__main__":
    main()
