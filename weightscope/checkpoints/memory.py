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
        buffers: frozenset[str] = frozenset(),
    ) -> None:
        self.reference = reference
        self.config = config or {}
        self.has_config = config is not None
        self.files = files
        self.notes = notes
        self.buffers = buffers
        self._state = state
        self._received = 0
        self.index, self.tied = _describe(reference, state)

    @classmethod
    def of_module(cls, module: torch.nn.Module) -> MemorySource:
        """The parameters and buffers of a live module, and its `config` if it has one."""
        config = getattr(module, "config", None)
        to_dict = getattr(config, "to_dict", None)
        found = dict(to_dict()) if callable(to_dict) else config if isinstance(config, Mapping) else None
        turned = _turned_round(module)
        notes = [
            f"Transposed convolutions, such as {name!r}, are taken as (out, in, kernel); they are stored as "
            "(in, out, kernel), which the module tells and a file would not."
            for name in list(turned)[:1]
        ]
        return cls(
            type(module).__name__,
            {**module.state_dict(), **turned},
            found,
            notes=tuple(notes),
            buffers=frozenset(name for name, _ in module.named_buffers(remove_duplicate=False)),
        )

    def read(self, info: TensorInfo, into: torch.Tensor | None = None) -> torch.Tensor:
        """The tensor itself, or a view of a part of it, detached, wherever it lies."""
        self._received += info.nbytes
        return self._view(info)

    def read_columns(
        self, info: TensorInfo, start: int, stop: int, into: torch.Tensor | None = None
    ) -> torch.Tensor:
        """A view of these columns wherever the tensor's layout allows one."""
        self._received += info.nbytes // info.elements * info.shape[0] * (stop - start)
        return self._view(info).reshape(info.shape[0], -1)[:, start:stop]

    def _view(self, info: TensorInfo) -> torch.Tensor:
        """Whatever the strides are: what follows one another in a file need not in memory."""
        tensor, whole = self._state[info.name].detach(), self.index[info.name]
        before, size = info.start - whole.start, whole.nbytes
        while info.nbytes != size:
            each = size // tensor.shape[0]
            first, within = divmod(before, each)
            if not within and info.nbytes % each == 0:
                tensor = tensor[first : first + info.nbytes // each]
                break
            tensor, before, size = tensor[first], within, each
        return tensor.reshape(info.shape)

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
        if not isinstance(tensor, torch.Tensor):
            if hasattr(tensor, "shape") and hasattr(tensor, "dtype"):
                raise CheckpointFormatError(
                    f"The weights of {reference!r} were asked for.",
                    f"{name!r} is a {type(tensor).__module__}.{type(tensor).__name__}, not a torch tensor.",
                    "Convert it with torch.as_tensor(...) first.",
                )
            continue  # a module's extra state: no weights in it
        _refuse_unreadable(f"The weights of {reference!r} were asked for.", name, tensor)
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


def _turned_round(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of transposed convolutions, stored (in, out / groups, …), as (out, in / groups, …)."""
    import torch

    found: dict[str, torch.Tensor] = {}
    for path, part in module.named_modules():
        weight = part._parameters.get("weight")  # not there where it is computed from others
        kinds = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)
        if isinstance(part, kinds) and weight is not None and not torch.nn.parameter.is_lazy(weight):
            groups = weight.detach().unflatten(0, (part.groups, -1))
            found[f"{path}.weight" if path else "weight"] = groups.transpose(1, 2).flatten(0, 1)
    return found


def _refuse_unreadable(asked: str, name: Any, tensor: torch.Tensor) -> None:
    """Let tensors with a printable name, values and ordinary strides pass."""
    import torch

    if not isinstance(name, str) or not name.isprintable():
        raise CheckpointFormatError(
            asked, f"It names a tensor {name!r}.", "Give every tensor a name of printable text."
        )
    if tensor.is_meta:
        raise CheckpointFormatError(
            asked,
            f"Tensor {name!r} is on the meta device: it has a shape and no values.",
            "Load the weights first, for example without device_map or low_cpu_mem_usage.",
        )
    if torch.nn.parameter.is_lazy(tensor):
        raise CheckpointFormatError(
            asked,
            f"Tensor {name!r} belongs to a lazy module: it has neither shape nor values yet.",
            "Run the model once on an example, or load its weights, first.",
        )
    if tensor.is_quantized:
        raise QuantizedCheckpointError(
            asked, f"Tensor {name!r} has the quantised dtype {tensor.dtype}.", "Dequantise it first."
        )
    if tensor.layout != torch.strided or tensor.is_nested:
        layout = "nested" if tensor.is_nested else str(tensor.layout)
        raise CheckpointFormatError(
            asked,
            f"Tensor {name!r} is not dense: its layout is {layout}.",
            "Make it dense with .to_dense() first.",
        )
