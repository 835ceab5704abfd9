"""From stored tensors to a matrix as the model uses it; the one file of this floor that needs torch."""

from collections.abc import Mapping

import torch
from jaxtyping import Shaped
from torch import Tensor

from weightscope.families.assign import Matrix, Slice


def slice_of(tensor: Shaped[Tensor, "..."], part: Slice) -> Shaped[Tensor, "out_features in_features"]:
    """The part of a stored tensor, as a view wherever its rows are one range."""
    view = tensor.reshape(tensor.shape[0], -1)
    if part.transposed:
        view = view.mT
    if part.rows is None:
        return view
    pieces = [view[rows.start : rows.stop : rows.step] for rows in part.rows]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def write_matrix(
    matrix: Matrix,
    tensors: Mapping[str, Shaped[Tensor, "..."]],
    out: Shaped[Tensor, "out_features in_features"],
) -> None:
    """Write a matrix into `out`, casting to its dtype on the way.

    Args:
        matrix: Which.
        tensors: Its stored tensors by name, on `out`'s device.
        out: Shape `matrix.shape`; float64 holds every stored type exactly.
    """
    row = 0
    for part in matrix.slices:
        piece = slice_of(tensors[part.tensor.name], part)
        out[row : row + piece.shape[0]].copy_(piece)
        row += piece.shape[0]
