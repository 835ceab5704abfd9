"""`tensor[...]`, which torch carries out under a device guard that only a CUDA build has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def element(tensor: Tensor, index: Any) -> Tensor:
    """What `tensor[index]` is: a view, unless a tensor or a list is among the indices."""
    view, picked = _viewed(tensor, index)
    return view if not picked else torch.ops.aten.index.Tensor(view, picked)


def assign(tensor: Tensor, index: Any, value: Any) -> None:
    """`tensor[index] = value`."""
    view, picked = _viewed(tensor, index)
    if picked:
        value = value if isinstance(value, Tensor) else torch.tensor(value, dtype=tensor.dtype)
        torch.ops.aten.index_put_.default(view, picked, value)
    elif isinstance(value, Tensor):
        view.copy_(value)
    else:
        view.fill_(value)


def _viewed(tensor: Tensor, index: Any) -> tuple[Tensor, list[Tensor | None]]:
    """The view that all but tensors make, and those tensors by axis."""
    indices = list(index) if isinstance(index, tuple) else [index]
    taken = sum(1 for one in indices if one is not None and one is not Ellipsis)
    if any(one is Ellipsis for one in indices):
        at = next(i for i, one in enumerate(indices) if one is Ellipsis)
        indices[at : at + 1] = [slice(None)] * (tensor.dim() - taken)
    view, axis, picked = tensor, 0, {}
    for one in indices:
        if one is None:
            view, axis = view.unsqueeze(axis), axis + 1
        elif isinstance(one, slice):
            if one != slice(None):
                start, stop, step = one.indices(view.shape[axis])
                view = torch.ops.aten.slice.Tensor(view, axis, start, max(start, stop), step)
            axis += 1
        elif isinstance(one, (Tensor, list)):
            picked[axis] = one if isinstance(one, Tensor) else torch.tensor(one)
            axis += 1
        else:
            view = view.select(axis, int(one))
    return view, [picked.get(i) for i in range(axis)] if picked else []
