"""How far float32 rounding carries the probabilistic upper bound below the truth.

    python -m tests.benchmarks.measure_rounding

Runs Lanczos in float32 until the bound is 1e-9 wide, so that nothing but rounding is left in it, and compares
it with LAPACK's float64 norm: over twelve spectra, five shapes, four starts, implicit and by Gram matrix.
"Below" is how far, over λ₁, the bound is below the truth at worst. `probable` allows for 5e-7, or for twice
what is known of the rounding if that is more, and "left" is the least that was then to spare. Runs that do
not get there in 600 steps (Chebyshev edges) are left out: the engine hands those to an eigendecomposition.
"""

import math

import numpy as np
import torch

from tests.spectra.test_extremal import with_spectrum
from weightscope.spectra import bounds, extremal, operators
from weightscope.spectra.lanczos import Lanczos
from weightscope.spectra.workspace import Workspace

NARROW = 1e-9


def spectra(n: int) -> dict[str, np.ndarray | None]:
    return {
        "geometric": 0.9 ** np.arange(n),
        "power law": np.arange(1, n + 1) ** -0.7,
        "flat": np.ones(n),
        "clustered top": np.r_[1 - 1e-7 * np.arange(20), 0.5 * np.ones(n - 20)],
        "close pair": np.r_[1, 1 - 1e-6, 0.1 * np.ones(n - 2)],
        "one spike": np.r_[100, np.ones(n - 1)],
        "uniform": np.linspace(1, 0, n),
        "within a thousandth": np.linspace(1.001, 0.999, n),
        "Chebyshev edge": np.cos(np.arange(n) * math.pi / (2 * n)),
        "gaussian": None,
        "positive": None,
        "constant": None,
    }


def below(matrix: torch.Tensor, truth: float, seed: int, *, explicit: bool) -> tuple[float, float] | None:
    """(λ₁ − bound)/λ₁ of one run and what is left of the allowance; None if the run does not get there."""
    workspace = Workspace(torch.device("cpu"))
    size = matrix.shape[1]
    run = Lanczos(size, dtype=torch.float32, seed=seed, max_steps=600, workspace=workspace)
    if explicit:
        operator = operators.explicit(matrix.T @ matrix, workspace)
    else:
        operator = operators.implicit(matrix, workspace)
    limit = bounds.sum_limit(size, bounds.FAILURE_PROBABILITY)
    while run.steps < run.max_steps:
        run.step(operator)
        if run.steps % 6 == 0 or run.steps == run.max_steps:
            theta, weights = run.top()
            widest = theta * (1 + NARROW)
            if bounds.is_upper_bound(widest, run, limit):
                missing = (truth - bounds.upper_bound(theta, widest, run, limit)) / truth
                value = float((matrix.double() @ run.vector(weights)).square().sum())
                known = abs(value - theta) / truth
                allowed = max(extremal._ALLOWANCE[torch.float32], extremal.KNOWN_FACTOR * known)
                return missing, allowed - missing
    return None


def made(name: str, values: np.ndarray | None, rows: int, columns: int) -> torch.Tensor:
    if values is not None:
        return with_spectrum(values, rows).float()
    gaussian = torch.randn(rows, columns, generator=torch.Generator().manual_seed(columns))
    return {"gaussian": gaussian, "positive": gaussian.abs(), "constant": 1 + gaussian / 64}[name]


def main() -> None:
    worst: dict[str, tuple[float, float]] = {}
    for columns, rows in ((200, 200), (300, 3000), (700, 700), (1024, 1024), (200, 30_000)):
        for name, values in spectra(columns).items():
            matrix = made(name, values, rows, columns)
            truth = float(torch.linalg.eigvalsh(matrix.double().mT @ matrix.double())[-1])
            for seed in range(4):
                for explicit in (False, True):
                    found = below(matrix, truth, seed, explicit=explicit)
                    if found is not None:
                        missing, left = worst.get(name, (-math.inf, math.inf))
                        worst[name] = max(missing, found[0]), min(left, found[1])
    print("spectrum                below       left")
    for name, (missing, left) in sorted(worst.items(), key=lambda item: -item[1][0]):
        print(f"{name:20} {missing:9.1e}  {left:9.1e}")


if __name__ == "__main__":
    main()
