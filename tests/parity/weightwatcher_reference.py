"""WeightWatcher's own numbers for a few small matrices, which `tests/test_weightwatcher.py` compares with.

WeightWatcher is no dependency of the tests: what it gives is kept in `weightwatcher_0.7.7.csv`. To make that
file again, in an environment of its own and from the repository's root:

    pip install torch==2.13.0                        # the CPU build; on CUDA WeightWatcher's numbers differ
    pip install weightwatcher==0.7.7 safetensors
    python -m tests.parity.weightwatcher_reference
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from tests.factories import write_checkpoint

REFERENCE = Path(__file__).with_name("weightwatcher_0.7.7.csv")


def tensors() -> dict[str, torch.Tensor]:
    """The matrices by parameter: the same bits on every machine, or nearly.

    Heavy tails come from divisions and roots, low ranks from products of small whole numbers: both are exact
    or rounded in the one way IEEE allows.
    """
    rng = np.random.default_rng(11)

    def gaussian(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    def signs(*shape: int) -> np.ndarray:
        return rng.choice([-1.0, 1.0], shape)

    def product(rows: int, rank: int, columns: int) -> np.ndarray:
        whole = rng.integers(-8, 9, (rows, rank)) @ rng.integers(-8, 9, (rank, columns))
        return whole.astype(np.float64)

    matrices = {
        "gaussian": gaussian(300, 200),
        "gaussian_square": 0.02 * gaussian(100, 100),  # some eigenvalues below the thresholds 1e-5 and 1e-6
        "gaussian_few": gaussian(64, 15),  # fewer than 20 values: another estimator
        "heavy_tail": signs(240, 120) / np.sqrt(rng.random((240, 120))),
        "heavier_tail": signs(60, 180) / rng.random((60, 180)),
        "trained": gaussian(256, 128) + product(256, 8, 128) / 16,
        "low_rank": product(150, 12, 80),
        "lower_rank": product(70, 5, 60),  # fewer than 8 values to fit
        "faint": np.eye(60, 70) * np.sqrt(3e-4 / np.arange(1, 71)),  # half of a power law is below 1e-5
        "zero": np.zeros((60, 70)),
        "too_few": gaussian(60, 6),  # WeightWatcher leaves it out
    }
    stored = {f"{name}.weight": torch.from_numpy(matrix).float() for name, matrix in matrices.items()}
    return {**stored, "bfloat16.weight": torch.from_numpy(gaussian(90, 60)).to(torch.bfloat16)}


def main() -> None:
    from weightwatcher import WeightWatcher

    with tempfile.TemporaryDirectory() as scratch:
        folder = write_checkpoint(Path(scratch), tensors())
        details = WeightWatcher(model=str(folder)).analyze()
    details.to_csv(REFERENCE, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
