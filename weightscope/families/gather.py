"""From stored tensors to a matrix as the model uses it; the one file of this floor that needs torch."""

import torch
from jaxtyping import Shaped
from torch import Tensor

from weightscope.families.matrix import Slice


def slice_of(tensor: Shaped[Tensor, "..."], part: Slice) -> Shaped[Tensor, "out_features in_features"]:
    """The part of a stored tensor, as a view wherever its rows are one range."""
    view = tensor.reshape(tensor.shape[0], -1)
    if part.transposed:
        view = view.mT
    if part.rows is None:
        return view
    pieces = [view[rows.start : rows.stop : rows.step] for rows in part.rows]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
