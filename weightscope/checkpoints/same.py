"""Whether two tensors hold the same bytes, which a header does not tell. There is seldom reason to ask."""

from weightscope.checkpoints.header import TensorInfo, rows_of
from weightscope.checkpoints.source import Source

# Of each of the two at once.
_BLOCK_BYTES = 2**25


def same_bytes(source: Source, one: TensorInfo, other: TensorInfo) -> bool:
    """Read both, block by block, up to the first difference."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if not one.elements:
        return True
    import torch

    count = one.shape[0]
    step = max(1, _BLOCK_BYTES * count // one.nbytes)
    for start in range(0, count, step):
        stop = min(start + step, count)
        # As bytes: a NaN does not equal itself.
        left, right = (
            source.read(rows_of(info, start, stop)).contiguous().view(torch.uint8) for info in (one, other)
        )
        if not torch.equal(left, right):
            return False
    return True
