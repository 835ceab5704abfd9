"""The analysis in the columns of WeightWatcher 0.7.7's `details`, for scripts that read those.

The definitions are WeightWatcher's with its default options on a CPU, computed from our singular values;
`docs/pages/explanation/weightwatcher.md` says where and why this departs from them. λ = σ² are the
eigenvalues of WᵀW, λ₁ the largest; N is the longer and M the shorter side of W.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from weightscope.checkpoints.header import TensorInfo
from weightscope.families.matrix import Matrix
from weightscope.table import Column, build_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

COLUMNS = (
    Column("layer_id", "integer", "number of the row, from 0"),
    Column("name", "text", "the parameter without its ending .weight"),
    Column("D", "number", "Kolmogorov–Smirnov distance of the power law"),
    Column("M", "integer", "shorter side"),
    Column("N", "integer", "longer side"),
    Column("Q", "number", "N/M"),
    Column("alpha", "number", "exponent of a power law of the λ from xmin on"),
    Column("alpha_weighted", "number", "alpha·log10 λ₁"),
    Column("entropy", "number", "−Σ p ln p / ln(matrix_rank) with p = λ/Σλ"),
    Column("has_esd", "integer", "whether the row has singular values"),
    Column("lambda_max", "number", "λ₁"),
    Column("layer_type", "text", "dense, or flattened for the kernel of a convolution"),
    Column("log_alpha_norm", "number", "log10 Σ λ^alpha"),
    Column("log_norm", "number", "log10 Σλ"),
    Column("log_spectral_norm", "number", "log10 λ₁"),
    Column("longname", "text", "the same as name"),
    Column("matrix_rank", "integer", "number of σ above N·ε·σ₁, ε = 2⁻⁵²"),
    Column("norm", "number", "Σλ = ‖W‖_F²"),
    Column("num_evals", "integer", "number of λ"),
    Column("num_pl_spikes", "integer", "number of λ from xmin on"),
    Column("rank_loss", "integer", "M − matrix_rank"),
    Column("rf", "integer", "1"),
    Column("sigma", "number", "(alpha − 1)/√num_pl_spikes"),
    Column("spectral_norm", "number", "λ₁ = ‖W‖₂²"),
    Column("stable_rank", "number", "Σλ/λ₁"),
    Column("status", "text", "success, or failed where there is no power law"),
    Column("sv_max", "number", "σ₁"),
    Column("sv_min", "number", "smallest σ"),
    Column("warning", "text", "over-trained for alpha < 2, under-trained for alpha > 6"),
    Column("weak_rank_loss", "integer", "number of λ < 1e-6"),
    Column("xmax", "number", "largest λ of the power law"),
    Column("xmin", "number", "smallest λ of the power law"),
)
"""In WeightWatcher's order: the two names, then the others by their letters, capitals first."""

# WeightWatcher's constants of version 0.7.7, on a machine without CUDA.
_EPSILON = 1e-10  # added to each p and to the rank
_WEAK_EIGENVALUE = 1e-6
_SMALLEST_FITTED_EIGENVALUE = 1e-5
_SMALL_SAMPLE = 20  # fewer values take n − 1 for n, and tails of at least _SMALL_TAIL
_SMALL_TAIL = 8
_NEVER_EMPTY = {"layer_id": "int64", "N": "int64", "M": "int64", "rf": "int64", "has_esd": "bool"}
_OVER_TRAINED, _UNDER_TRAINED = 2, 6


def weightwatcher_table(
    matrices: Sequence[Matrix], table: pd.DataFrame, spectra: pd.DataFrame
) -> pd.DataFrame:
    """One row for each stored weight, in the columns of `COLUMNS`.

    Args:
        matrices: What each row of the table is.
        table: The table of an analysis.
        spectra: Its singular values.
    """
    sigmas = _by_row(table, spectra)
    errors = table["spectrum_error"].to_numpy()
    rows = []
    for number, (i, name) in enumerate(_stored_once(matrices)):
        row = {"layer_id": number, "name": name, "longname": name, **_shape(matrices[i])}
        sigma = sigmas[i]
        if sigma is not None:
            row |= {"has_esd": True, **_numbers(sigma, row["N"], float(errors[i]))}
        rows.append(row)
    return build_table(rows, COLUMNS).astype(_NEVER_EMPTY)


def _stored_once(matrices: Sequence[Matrix]) -> list[tuple[int, str]]:
    """Which rows stand for the stored weights, nothing twice, and their names.

    What the file stores as one matrix comes first. A part of a fused weight counts only where the whole has
    no row, and a stack of several weights only where none of them has one.
    """
    names: dict[int, str] = {}
    taken: set[TensorInfo] = set()
    # One tensor may hold several: all experts of a layer.
    held = Counter(name for name, _ in {(info.name, info.start) for info in _tensors(matrices)})
    for form in ("stored", "part", "stack"):
        found = {
            i: [part.tensor for part in matrix.slices]
            for i, matrix in enumerate(matrices)
            if _form(matrix) == form
        }
        found = {i: tensors for i, tensors in found.items() if not taken.intersection(tensors)}
        for i, tensors in found.items():
            suffix = f"[{matrices[i].group}]" if form == "part" else ""
            if len(tensors) == 1 and held[tensors[0].name] > 1:
                suffix = f"[{matrices[i].expert}]{suffix}"
            names[i] = "+".join(tensor.name.removesuffix(".weight") for tensor in tensors) + suffix
        taken.update(*found.values())
    return sorted(names.items())


def _tensors(matrices: Sequence[Matrix]) -> set[TensorInfo]:
    return {part.tensor for matrix in matrices for part in matrix.slices}


def _form(matrix: Matrix) -> str:
    if len(matrix.slices) > 1:
        return "stack"
    # Q, K and V that are stored interleaved have all rows of the tensor, in another order.
    (part,) = matrix.slices
    return "stored" if part.shape == replace(part, rows=None).shape else "part"


def _shape(matrix: Matrix) -> dict[str, Any]:
    """What is known without numbers."""
    longer, shorter = max(matrix.shape), min(matrix.shape)
    kernel = len(matrix.slices[0].tensor.shape) > 2
    return {
        "layer_type": "flattened" if kernel else "dense",
        "N": longer,
        "M": shorter,
        "Q": longer / shorter,
        "rf": 1,
        "has_esd": False,
        "status": "failed",
    }


def _by_row(table: pd.DataFrame, spectra: pd.DataFrame) -> list[np.ndarray | None]:
    """The singular values of each row of the table; None for one that is not finite."""
    import numpy as np

    values = spectra["singular_value"].to_numpy()
    each: Iterator[np.ndarray] = iter(np.split(values, np.flatnonzero(spectra["index"] == 0)[1:]))
    return [None if status == "non_finite" else next(each) for status in table["status"]]


def _numbers(sigma: np.ndarray, longer: int, relative_error: float) -> dict[str, Any]:
    """What follows from the singular values, descending, and from the error of any of them over σ₁."""
    import numpy as np

    count, top = len(sigma), float(sigma[0])
    error = relative_error * top
    rank = _count_above(sigma, longer * float(np.finfo(np.float64).eps) * top, error)
    strong = _count_above(sigma, math.sqrt(_WEAK_EIGENVALUE), error)
    squares = sigma**2
    total, largest = float(squares.sum()), float(squares[0])
    numbers = {
        "num_evals": count,
        "sv_max": top,
        "sv_min": float(sigma[-1]) if error <= sigma[-1] / 10 else None,
        "matrix_rank": rank,
        "rank_loss": None if rank is None else count - rank,
        "weak_rank_loss": None if strong is None else count - strong,
        "lambda_max": largest,
        "spectral_norm": largest,
        "norm": total,
    }
    if largest == 0:  # what follows would be logarithms of 0 and shares of nothing
        return numbers
    return {
        **numbers,
        "entropy": _entropy(squares / total, rank),
        "stable_rank": total / largest,
        "log_norm": math.log10(total),
        "log_spectral_norm": math.log10(largest),
        **_power_law(squares),
    }


def _count_above(sigma: np.ndarray, threshold: float, error: float) -> int | None:
    """How many exceed a threshold; None where an error beyond the threshold leaves it open."""
    count = int((sigma > threshold).sum())
    if error > threshold and not (sigma > threshold + error).all():
        return None
    return count


def _entropy(shares: np.ndarray, rank: int | None) -> float | None:
    """Entropy of λ/Σλ over that of as many equal shares as the rank; None for a rank of one or unknown."""
    import numpy as np

    if rank is None or rank < 2:
        return None
    shares = shares + _EPSILON
    return float(-(shares * np.log(shares)).sum()) / math.log(rank + _EPSILON)


def _power_law(squares: np.ndarray) -> dict[str, Any]:
    """The columns that stand on `alpha`; none where no power law can be fitted."""
    import torch

    from weightscope.spectra.power_law import fit_power_law

    tail = squares[squares > _SMALLEST_FITTED_EIGENVALUE]
    small = len(tail) < _SMALL_SAMPLE
    shortest = max(2, min(_SMALL_TAIL, len(tail))) if small else 2
    fit = fit_power_law(torch.from_numpy(tail), min_tail=shortest, correction=int(small))
    if math.isnan(fit.alpha):
        return {}
    largest, spikes = float(squares[0]), int((squares >= fit.xmin).sum())
    warning = "over-trained" if fit.alpha < _OVER_TRAINED else ""
    return {
        "status": "success",
        "warning": "under-trained" if fit.alpha > _UNDER_TRAINED else warning,
        "alpha": fit.alpha,
        "D": fit.ks_distance,
        "xmin": fit.xmin,
        "xmax": largest,
        "sigma": (fit.alpha - 1) / math.sqrt(spikes),
        "num_pl_spikes": spikes,
        "alpha_weighted": fit.alpha * math.log10(largest),
        # λ₁ is taken out before the power, which would overflow for a large alpha.
        "log_alpha_norm": fit.alpha * math.log10(largest)
        + math.log10(float(((squares / largest) ** fit.alpha).sum())),
    }
