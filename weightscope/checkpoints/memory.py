"""Weights that are in memory already: live modules, state dicts, unpickled files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from weightscope.checkpoints.dtypes import BY_TORCH_NAME
from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.checkpoints.source import FileRecord, Source
from weightscope.errors import CheckpointFormatError, QuantizedCheckpointError

if TYPE_CHECKING:
    import torch


class MemorySource(Source):
    """A mapping of names to tensors; nothing is copied before it is asked for."""

    def __init__(
        self,
        reference: str,
        state: Mapping[str, torch.Tensor],
        config: Mapping[str, Any] | None,
        *,
        files: tuple[FileRecord, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> None:
        self.reference = reference
        self.config = config or {}
        self.has_config = config is not None
        self.files = files
        self.notes = notes
        self._state = state
        self._received = 0
        self.index, self.tied = _describe(reference, state)

    @classmethod
    def of_module(cls, module: torch.nn.Module) -> MemorySource:
        """The parameters and buffers of a live module, and its `config` if it has one."""
        config = getattr(module, "config", None)
        to_dict = getattr(config, "to_dict", None)
        found = dict(to_dict()) if callable(to_dict) else config if isinstance(config, Mapping) else None
        return cls(type(module).__name__, module.state_dict(), found)

    def read(self, info: TensorInfo) -> torch.Tensor:
        """The tensor itself, detached, wherever it lies."""
        self._received += info.nbytes
        return self._state[info.name].detach()

    @property
    def received_bytes(self) -> int:
        """Bytes of tensors handed out so far."""
        return self._received


def _describe(reference: str, state: Mapping[str, Any]) -> tuple[TensorIndex, dict[str, str]]:
    """Headers for tensors in memory, and the names that share another's storage."""
    import torch

    tensors: dict[str, TensorInfo] = {}
    tied: dict[str, str] = {}
    owners: dict[tuple[object, ...], str] = {}
    position = 0
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):  # extra state: no weights in it
            continue
        if tensor.is_meta:
            raise CheckpointFormatError(
                f"The weights of {reference!r} were asked for.",
                f"Tensor {name!r} is on the meta device: it has a shape and no values.",
                "Load the weights first, for example without device_map or low_cpu_mem_usage.",
            )
        if tensor.is_sparse or tensor.is_quantized or tensor.layout != torch.strided:
            raise QuantizedCheckpointError(
                f"The weights of {reference!r} were asked for.",
                f"Tensor {name!r} has the layout {tensor.layout} and dtype {tensor.dtype}.",
                "Dequantise it, or make it dense with .to_dense(), first.",
            )
        shape = tuple(tensor.shape)
        same = (tensor.device, tensor.data_ptr(), shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and same in owners:
            tied[name] = owners[same]
            continue
        owners[same] = name
        dtype = BY_TORCH_NAME.get(str(tensor.dtype).removeprefix("torch."))
        if dtype is None:
            raise CheckpointFormatError(
                f"The weights of {reference!r} were asked for.",
                f"Tensor {name!r} has the dtype {tensor.dtype}, which checkpoints do not have.",
                "Convert it to a floating-point type first.",
            )
        nbytes = tensor.numel() * tensor.element_size()
        tensors[name] = TensorInfo(
            name=name, dtype=dtype, shape=shape, shard="", start=position, stop=position + nbytes
        )
        position += nbytes
    return TensorIndex(tensors), tied
