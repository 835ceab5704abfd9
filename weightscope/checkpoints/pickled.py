"""`.bin`, `.pt` and `.pth` files: torch pickles, opened only when allowed, never executed.

`weights_only=True` restricts the unpickler to tensors and plain containers. Nothing else in a pickle
can run.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weightscope.checkpoints.folder import Folder
from weightscope.checkpoints.listing import CheckpointFiles, as_text
from weightscope.checkpoints.memory import MemorySource
from weightscope.checkpoints.safetensors import read_config
from weightscope.checkpoints.source import FileRecord
from weightscope.errors import CheckpointFormatError

# Where training scripts put the model inside what they save, in the order they are looked for.
_NESTED = ("state_dict", "model_state_dict", "model", "module", "net")


def open_pickles(
    reference: str, folder: Folder, files: CheckpointFiles, *, allowed: bool, revision: str = ""
) -> MemorySource:
    """Unpickle a checkpoint, memory-mapped where the file allows it.

    Raises:
        CheckpointFormatError: Not allowed, not safe to load, or no tensors in it.
    """
    if not allowed:
        raise CheckpointFormatError(
            f"The checkpoint {reference!r} was asked for.",
            f"Its weights are in a Python pickle ({files.shards[0]}), a format that can carry code.",
            "Prefer a safetensors copy, or pass --allow-pickle (allow_pickle=True): it loads tensors only.",
        )
    state: dict[str, Any] = {}
    records = []
    for shard in files.shards:
        path = folder.path / shard
        state.update(_load(path))
        records.append(FileRecord(name=as_text(shard), bytes=path.stat().st_size))
    if missing_tensor := next((name for name in files.weight_map or () if name not in state), None):
        raise CheckpointFormatError(
            f"The index of the {folder.where} was read.",
            f"It names the tensor {missing_tensor[:200]!r}, and no shard has it.",
            "Fetch the index and the shards again from the same revision.",
        )
    config, has_config, missing = read_config(folder)
    source = MemorySource(
        reference, state, config if has_config else None, files=tuple(records), notes=(*files.notes, *missing)
    )
    source.config, source.revision = config, revision
    return source


def _load(path: Path) -> Mapping[str, Any]:
    import torch

    def load(*, mmap: bool) -> Any:
        with warnings.catch_warnings():  # of the file's age or protocol: it loads, or the error says why not
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)

    try:
        try:
            content = load(mmap=True)
        except (RuntimeError, ValueError):  # files of torch < 1.6 are no zip archives and cannot be mapped
            content = load(mmap=False)
    except pickle.UnpicklingError as error:
        # Before this torch explains how to load the file all the same, behind it how to allow its classes.
        reason = _one_line(str(error).rpartition("WeightsUnpickler error: ")[2].split(". ")[0])
        raise CheckpointFormatError(
            f"The pickle '{path}' was loaded with weights_only=True.",
            f"torch refused it: it holds more than tensors, or is no pickle ({reason}).",
            "Do not load it any other way unless you trust its author; ask for a safetensors copy.",
        ) from None
    except Exception as error:  # a broken pickle makes torch raise almost anything, AssertionError included
        raise CheckpointFormatError(
            f"The pickle '{path}' was loaded with weights_only=True.",
            f"torch could not read it ({type(error).__name__}: {_one_line(str(error))}).",
            "Fetch the file again, or ask for a safetensors copy.",
        ) from None
    return _state_dict_in(content, path)


def _one_line(text: str) -> str:
    """Short and safe to print: a message may quote the file, terminal escapes included."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:120]


def _state_dict_in(content: Any, path: Path) -> Mapping[str, Any]:
    import torch

    def tensors_of(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            return {}
        return {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}

    if isinstance(content, Mapping):
        for key in _NESTED:
            if found := tensors_of(content.get(key)):
                return found
    if found := tensors_of(content):
        return found
    kind = type(content).__name__
    raise CheckpointFormatError(
        f"The pickle '{path}' was loaded as a checkpoint.",
        f"It holds a {kind} without named tensors.",
        "Save model.state_dict() instead.",
    )
