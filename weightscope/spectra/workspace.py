"""Memory kept for a whole sweep: fresh pages cost more than the arithmetic done in them."""

from math import prod

import torch
from torch import Tensor


class Workspace:
    """Named flat buffers on one device, grown when needed and never given back before the end.

    Two tensors taken under one name and dtype share memory: a name belongs to one purpose.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """A tensor of this shape whose content is whatever its last user left."""
        size = prod(shape)
        buffer = self._buffers.get((name, dtype))
        if buffer is None or len(buffer) < size:
            self._buffers.pop((name, dtype), None)  # before the new one is made, not after
            buffer = self._buffers[name, dtype] = torch.empty(size, dtype=dtype, device=self.device)
        return buffer[:size].view(shape)

    def copied(self, name: str, matrix: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """A copy of a matrix under a name, in a type, lying as it does: the cast runs along memory."""
        lying = matrix if matrix.stride(1) == 1 else matrix.mT
        copy = self.take(name, *lying.shape, dtype=dtype).copy_(lying)
        return copy if lying is matrix else copy.mT

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor lies in one of the buffers."""
        memory = tensor.untyped_storage().data_ptr()
        return any(memory == buffer.untyped_storage().data_ptr() for buffer in self._buffers.values())
