"""How often the probabilistic upper bound fails, against the probability it is stated with.

    python -m tests.benchmarks.measure_failures

The engine's own Lanczos is started 20,000 times on each of three small matrices whose σ₁ is known, with seeds
0, 1, 2 … A bound with failure probability δ has failed if at any step, not only at the last, it lies below
σ₁² while the run itself still does, by 1e-10. The theorem says more than a rate: it can fail only where the
start has less than πδ²/2n of the top singular vector. "Expected" is the probability of such a start, which is
a little below δ, "failed" the rate at which the bound did fail, and "others" the number of failures of other
starts: there must be none. The exit status is 1 if there are, or if a rate is beyond δ by more than chance
allows (three standard errors).

"Reported" is the rate at which `spectral_norm_upper` itself is too low, for runs that stop where the engine
stops, once the bound is within 1e-3.
"""

import argparse
import math
import sys
from collections import Counter
from unittest import mock

import numpy as np
import torch

from tests.spectra.test_extremal import largest_singular_value, with_spectrum
from weightscope.spectra import bounds, operators
from weightscope.spectra.lanczos import Lanczos
from weightscope.spectra.workspace import Workspace

N = 40
SPECTRA = {
    "uniform": np.linspace(1, 0, N),
    "Chebyshev edge": np.cos(np.arange(N) * math.pi / (2 * N)),
    "power law": np.arange(1, N + 1) ** -0.7,
}
DELTAS = (0.1, 0.01, 0.001)
# What the run must still be below σ₁² by, relative, for a bound below it to count: rounding is far smaller.
MARGIN = 1e-10


def expected(delta: float) -> float:
    """P[(e·v)² < πδ²/2n] for v uniform on the sphere, whose coordinates have density ∝ (1 − x²)^((n−3)/2)."""
    reach = math.sqrt(1 / bounds.sum_limit(N, delta))
    part, whole = (
        end * np.mean((1 - (end * (np.arange(100_000) + 0.5) / 100_000) ** 2) ** ((N - 3) / 2))
        for end in (reach, 1.0)
    )
    return float(part / whole)


def failures(matrix: torch.Tensor, starts: int) -> tuple[Counter, Counter]:
    """By δ: failures, and failures of starts that have enough of the top singular vector."""
    _, values, right = torch.linalg.svd(matrix)
    known, top = float(values[0]) ** 2, right[0]
    failed, others = Counter(), Counter()
    workspace = Workspace(torch.device("cpu"))
    operator = operators.implicit(matrix, workspace)
    limits = {delta: bounds.sum_limit(N, delta) for delta in DELTAS}
    for seed in range(starts):
        run = Lanczos(N, dtype=torch.float64, seed=seed, max_steps=N, workspace=workspace)
        share = float(run.vectors[0] @ top) ** 2
        wrong = dict.fromkeys(DELTAS, False)
        while run.steps < N:
            run.step(operator)
            if run.top()[0] > known * (1 - MARGIN):
                break
            for delta, limit in limits.items():
                wrong[delta] |= bounds.is_upper_bound(known, run, limit)
        for delta, limit in limits.items():
            failed[delta] += wrong[delta]
            others[delta] += wrong[delta] and share >= 1 / limit
    return failed, others


def reported(matrix: torch.Tensor, starts: int, delta: float) -> int:
    """Upper ends below σ₁, of runs that stop by themselves."""
    known = float(torch.linalg.svdvals(matrix)[0]) * (1 - 1e-13)
    with mock.patch.object(bounds, "FAILURE_PROBABILITY", delta):
        return sum(
            largest_singular_value(matrix, rtol=1e-3, seed=seed, method="lanczos").upper < known
            for seed in range(starts)
        )


def line(name: str, delta: float, failed: int, starts: int) -> str:
    rate = failed / starts
    error = math.sqrt(rate * (1 - rate) / starts)
    return f"{name:15} {delta:5g}     {expected(delta):.5f}   {rate:.5f}   {error:.5f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=20_000)
    parser.add_argument("--spectra", nargs="+", default=list(SPECTRA), choices=list(SPECTRA))
    options = parser.parse_args()
    starts = options.starts
    torch.set_num_threads(1)
    print(f"{starts:,} starts each")
    print("spectrum            δ    expected    failed  ± standard error   others   reported")
    bad, totals = False, Counter()
    for name in options.spectra:
        # Singular vectors of its own: the same starts are unlucky for others.
        matrix = with_spectrum(SPECTRA[name], seed=1 + list(SPECTRA).index(name))
        failed, others = failures(matrix, starts)
        totals += failed
        for delta in DELTAS:
            said = reported(matrix, starts, delta) / starts
            print(line(name, delta, failed[delta], starts), f"{others[delta]:11}    {said:.5f}", flush=True)
            allowed = delta + 3 * math.sqrt(delta / starts)
            bad |= max(failed[delta] / starts, said) > allowed or others[delta] > 0
    for delta in DELTAS:
        print(line("all", delta, totals[delta], starts * len(options.spectra)))
    sys.exit(bad)


if __name__ == "__main__":
    main()
