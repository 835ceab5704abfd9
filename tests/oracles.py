"""What we compare with: LAPACK through numpy, and sums in extended precision. None of it is ours."""

import numpy as np
import torch


def exact(matrix: torch.Tensor) -> np.ndarray:
    """The stored values, upcast exactly."""
    return matrix.detach().to(torch.float64).numpy()


def singular_values(matrix: torch.Tensor) -> np.ndarray:
    """Descending, by LAPACK's gesdd in float64."""
    return np.linalg.svd(exact(matrix), compute_uv=False)


def frobenius_norm(matrix: torch.Tensor) -> float:
    """Summed in 80-bit extended precision: relative error below 1e-17 times the number of elements."""
    values = exact(matrix).astype(np.longdouble)
    return float(np.sqrt((values * values).sum()))
