"""`open_source`: from whatever the user has to an opened `Source`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weightscope.checkpoints.folder import CheckpointFiles, as_text, find_checkpoint
from weightscope.checkpoints.local import LocalSource
from weightscope.checkpoints.quantized import refuse_quantized
from weightscope.checkpoints.reference import CheckpointRef
from weightscope.checkpoints.source import Source
from weightscope.errors import CheckpointNotFound, OptionError, QuantizedCheckpointError

if TYPE_CHECKING:
    import torch

    Openable = str | Path | CheckpointRef | torch.nn.Module | Mapping[str, torch.Tensor]


def open_source(source: Openable, *, allow_pickle: bool = False) -> Source:
    """Open a checkpoint for reading; headers and config are read now, weights when asked.

    The result is a context manager: leaving it closes the files.

    Args:
        source: A reference such as `demo`, a path, a live `nn.Module` or a state dict.
        allow_pickle: Whether `.bin` and `.pt` files may be loaded, tensors only.

    Raises:
        CheckpointNotFound: Nothing is there.
        CheckpointFormatError: What is there cannot be trusted.
        QuantizedCheckpointError: It holds codes.
        OptionError: `source` is of a type that holds no weights.
    """
    opened = _open(source, allow_pickle)
    try:
        refuse_quantized(opened)
    except BaseException:
        opened.close()
        raise
    return opened


def _open(source: Any, allow_pickle: bool) -> Source:
    if isinstance(source, Mapping):
        from weightscope.checkpoints.memory import MemorySource

        return MemorySource("state_dict", source, None)
    # A live module can only exist where torch is loaded already; asking for a path must not load it.
    if (torch := sys.modules.get("torch")) and isinstance(source, torch.nn.Module):
        from weightscope.checkpoints.memory import MemorySource

        return MemorySource.of_module(source)
    if isinstance(source, CheckpointRef):
        reference = source
    elif isinstance(source, Path):
        reference = CheckpointRef.of_path(source)
    elif isinstance(source, str):
        reference = CheckpointRef.parse(source)
    else:
        raise OptionError(
            f"A checkpoint of type {type(source).__name__} was given.",
            "Weights can be read from a reference, a path, an nn.Module or a state dict.",
            "Pass one of these.",
        )
    if reference.kind == "hub":
        revision = f" --revision {reference.revision}" if reference.revision else ""
        raise CheckpointNotFound(
            f"The checkpoint {str(reference)!r} was asked for.",
            "There is no such path here, and this version reads local files only, not the Hub.",
            f"Download it first ('hf download {reference.location}{revision}') and pass the folder.",
        )
    return _open_files(reference, allow_pickle)


def _open_files(reference: CheckpointRef, allow_pickle: bool) -> Source:
    if reference.kind == "demo":
        folder = Path(str(resources.files("weightscope").joinpath("demo")))
    else:
        folder = Path(reference.location).expanduser()
    files: CheckpointFiles = find_checkpoint(folder)
    shown = as_text(str(reference))
    if files.shards[0].endswith(".gguf"):
        raise QuantizedCheckpointError(
            f"The weights of {shown!r} were asked for.",
            f"They are in a GGUF file ({files.shards[0]}), which holds quantisation codes.",
            "Analyse the safetensors checkpoint it was made from.",
        )
    if files.pickled:
        from weightscope.checkpoints.pickled import open_pickles

        return open_pickles(shown, files, allowed=allow_pickle)
    return LocalSource(shown, files)
