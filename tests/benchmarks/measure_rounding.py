"""How far float32 rounding carries the probabilistic upper bound below the truth.

    python -m tests.benchmarks.measure_rounding

Runs Lanczos in float32 until the bound is 1e-9 wide, so that nothing but rounding is left in it, and compares
it with LAPACK's float64 norm: over ten spectra, four shapes, four starts, implicit and by Gram matrix. The
allowance of `probable` must lie well above the largest figure. Runs that do not get there in 600 steps
(Chebyshev edges) are left out: the engine hands those to an eigendecomposition.
"""

import math

import numpy as np
import torch

from tests.spectra.test_extremal import with_spectrum
from weightscope.spectra import bounds, extremal
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
    }


def shortfall(matrix: torch.Tensor, truth: float, seed: int, *, explicit: bool) -> float | None:
    """(λ₁ − bound)/λ₁ of one run; None if it does not get there."""
    workspace = Workspace(torch.device("cpu"))
    size = matrix.shape[1]
    run = Lanczos(size, dtype=torch.float32, seed=seed, max_steps=600, workspace=workspace)
    operator = extremal._explicit(matrix.T @ matrix) if explicit else extremal._implicit(matrix, workspace)
    limit = bounds.sum_limit(size, bounds.FAILURE_PROBABILITY)
    while run.steps < run.max_steps:
        run.step(operator)
        if run.steps % 6 == 0 or run.steps == run.max_steps:
            theta, _ = run.top()
            widest = theta * (1 + NARROW)
            if bounds.is_upper_bound(widest, run, limit):
                return (truth - bounds.upper_bound(theta, widest, run, limit)) / truth
    return None


def main() -> None:
    worst: dict[str, float] = {}
    for n, m in ((200, 200), (300, 3000), (700, 700), (1024, 1024)):
        for name, values in spectra(n).items():
            if values is None:
                matrix = torch.randn(m, n, generator=torch.Generator().manual_seed(n))
            else:
                matrix = with_spectrum(values, m).float()
            truth = float(torch.linalg.matrix_norm(matrix.double(), 2)) ** 2
            for seed in range(4):
                for explicit in (False, True):
                    found = shortfall(matrix, truth, seed, explicit=explicit)
                    if found is not None:
                        worst[name] = max(worst.get(name, -math.inf), found)
    for name, value in sorted(worst.items(), key=lambda item: -item[1]):
        print(f"{name:20} {value:9.1e}")
    print(f"allowance            {extremal._ALLOWANCE[torch.float32]:9.1e}")


if __name__ == "__main__":
    main()
