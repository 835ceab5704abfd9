"""A stack's values in a type that holds them exactly and that the solvers multiply in."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from weightscope.checkpoints.header import TensorInfo
from weightscope.families.gather import slice_of
from weightscope.spectra import compiled
from weightscope.spectra.workspace import Workspace
from weightscope.sweep.plan import Stack

# Types whose every value bfloat16 holds too, and those float32 does not.
_BF16_VALUED = {"BF16", "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "F8_E8M0"}
_DOUBLE = {"F64"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Values:
    """A stack's matrices."""

    parts: list[Tensor]
    """One a matrix, in the stack's order."""
    whole: Tensor | None
    """Their rows below one another; None where there is none."""
    bf16_valued: bool
    """Whether bfloat16 holds every value."""


def exact_values(stack: Stack, tensors: dict[TensorInfo, Tensor], workspace: Workspace) -> Values:
    """The matrices as they lie in memory already where that will do, else copied side by side.

    Args:
        stack: Whose.
        tensors: Those it is made of, as stored. What is found may be views of them.
        workspace: For a copy.
    """
    stored = {part.tensor.dtype for matrix in stack.parts for part in matrix.slices}
    dtype = exact_type(stored, workspace.device)
    found = None
    if workspace.device.type == "cpu":  # on a GPU a copy costs nothing to speak of
        found = _as_they_lie(stack, tensors, dtype)
    parts, whole = found or _side_by_side(stack, tensors, dtype, workspace)
    return Values(parts=parts, whole=whole if stack.whole else None, bf16_valued=stored <= _BF16_VALUED)


def exact_type(stored: set[str], device: torch.device) -> torch.dtype:
    """In which values of these types, as headers name them, are held on a device."""
    if stored <= _BF16_VALUED and device.type == "cpu" and compiled.available():
        return torch.bfloat16
    return torch.float64 if stored & _DOUBLE else torch.float32


def _as_they_lie(
    stack: Stack, tensors: dict[TensorInfo, Tensor], dtype: torch.dtype
) -> tuple[list[Tensor], Tensor] | None:
    """Views, where each part is one range of rows of this type and they lie one behind the other in order.

    In any other order the sums of the whole would differ in the last digit from those of a copy.
    """
    if any(
        len(matrix.slices) > 1 or tensors[part.tensor].dtype != dtype or len(part.rows or (0,)) > 1
        for matrix in stack.parts
        for part in matrix.slices
    ):
        return None
    parts = [slice_of(tensors[matrix.slices[0].tensor], matrix.slices[0]) for matrix in stack.parts]
    first = parts[0]
    if 1 not in first.stride() or not all(
        above.stride() == below.stride()
        and above.untyped_storage().data_ptr() == below.untyped_storage().data_ptr()
        and above.data_ptr() + above.shape[0] * above.stride(0) * above.element_size() == below.data_ptr()
        for above, below in pairwise(parts)
    ):
        return None
    rows = sum(len(part) for part in parts)
    return parts, first.as_strided((rows, first.shape[1]), first.stride())


def _side_by_side(
    stack: Stack, tensors: dict[TensorInfo, Tensor], dtype: torch.dtype, workspace: Workspace
) -> tuple[list[Tensor], Tensor]:
    """A copy. What is stored transposed stays so, so that the copy runs along memory."""
    slices = [part for matrix in stack.parts for part in matrix.slices]
    rows, columns = sum(part.shape[0] for part in slices), slices[0].shape[1]
    turned = all(part.transposed for part in slices)
    memory = workspace.take("exact", *((columns, rows) if turned else (rows, columns)), dtype=dtype)
    whole = memory.mT if turned else memory
    row, parts = 0, []
    for matrix in stack.parts:
        first = row
        for part in matrix.slices:
            whole[row : row + part.shape[0]].copy_(slice_of(tensors[part.tensor], part))
            row += part.shape[0]
        parts.append(whole[first:row])
    return parts, whole
