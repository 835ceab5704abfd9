"""`DeviceTensor`: says that it is on the device; with the few methods that torch has in C++ alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from tests.pretend_cuda.blocks import Block
from tests.pretend_cuda.indexing import assign, element

_NUMPY = (
    "can't convert {} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
)


class DeviceTensor(torch.Tensor):
    """A tensor on the device; its data lies on the host, where only the device's own work may reach it.

    Attributes:
        held: The data; good when the stream has done what was put there.
        block: The memory it lies in, which views share.
    """

    held: Tensor
    block: Block

    @staticmethod
    def __new__(cls, held: Tensor, block: Block) -> DeviceTensor:
        made: DeviceTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device("cuda", block.line.device),
        )
        made.held, made.block = held, block
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        replaced = _METHODS.get(func)
        if replaced is not None:
            return replaced(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from tests.pretend_cuda.kernels import carry_out

        machine = next(one.block.machine for one in tensors_in((args, kwargs)))
        return carry_out(machine, func, args, kwargs or {})

    def data_ptr(self) -> int:
        """Where it lies, as a number: nobody but the device can read there."""
        return self.held.data_ptr()

    def record_stream(self, stream: Any) -> None:
        """Its memory is kept until the stream is done with it."""
        self.block.kept_for.add(stream.line)

    def __repr__(self) -> str:
        return f"DeviceTensor({tuple(self.shape)}, {self.dtype}, {self.device})"


def tensors_in(values: Any) -> Iterator[DeviceTensor]:
    """Every tensor of a device among arguments."""
    if isinstance(values, DeviceTensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, dict):
        for value in values.values():
            yield from tensors_in(value)


def _number(tensor: Tensor) -> Any:
    """In torch these ask for a device guard, which only a CUDA build has."""
    return torch.ops.aten._local_scalar_dense.default(_one(tensor))


def _one(tensor: Tensor) -> Tensor:
    if tensor.numel() != 1:
        raise RuntimeError(f"a Tensor with {tensor.numel()} elements cannot be converted to Scalar")
    return tensor


def _numpy(tensor: Tensor, *_: Any, **__: Any) -> Any:
    raise TypeError(_NUMPY.format(tensor.device))


def _new_tensor(tensor: Tensor, data: Any, *, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
    return torch.tensor(data, dtype=dtype or tensor.dtype, device=device or tensor.device)


def _copy(tensor: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    from tests.pretend_cuda.kernels import carry_out

    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        raise RuntimeError("Inplace update to inference tensor outside InferenceMode is not allowed.")
    machine = next(one.block.machine for one in tensors_in((tensor, source)))
    with torch.no_grad():
        carry_out(machine, torch.ops.aten.copy_.default, (tensor, source, non_blocking), {})
    return tensor


_METHODS: dict[Any, Callable[..., Any]] = {
    Tensor.item: _number,
    Tensor.__float__: lambda tensor: float(_number(tensor)),
    Tensor.__int__: lambda tensor: int(_number(tensor)),
    Tensor.__index__: lambda tensor: int(_number(tensor)),
    Tensor.__bool__: lambda tensor: bool(_number(tensor)),
    Tensor.copy_: _copy,
    Tensor.__invert__: torch.ops.aten.bitwise_not.default,
    Tensor.nonzero: torch.ops.aten.nonzero.default,
    torch.nonzero: torch.ops.aten.nonzero.default,
    Tensor.tolist: lambda tensor: tensor.cpu().tolist(),
    Tensor.numpy: _numpy,
    Tensor.__array__: _numpy,
    Tensor.new_tensor: _new_tensor,
    Tensor.__getitem__: element,
    Tensor.__setitem__: assign,
    Tensor.__iter__: lambda tensor: iter(tensor.unbind(0)),
    Tensor.__contains__: lambda tensor, value: bool((tensor == value).any()),
}
