"""`open_source`: from whatever the user has to an opened `Source`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weightscope.checkpoints.folder import find_checkpoint
from weightscope.checkpoints.listing import as_text
from weightscope.checkpoints.local_source import open_local
from weightscope.checkpoints.quantized import refuse_quantized
from weightscope.checkpoints.reading import Reading
from weightscope.checkpoints.reference import CheckpointRef
from weightscope.checkpoints.source import Source
from weightscope.errors import OptionError

if TYPE_CHECKING:
    import torch

    Openable = str | Path | CheckpointRef | torch.nn.Module | Mapping[str, torch.Tensor]


def open_source(source: Openable, reading: Reading = Reading()) -> Source:  # noqa: B008 - it is frozen
    """Open a checkpoint for reading; headers and config are read now, weights when asked.

    The result is a context manager: leaving it closes the files.

    Args:
        source: A reference such as `demo`, a path, a live `nn.Module` or a state dict.
        reading: How.

    Raises:
        CheckpointNotFound: Nothing is there.
        CheckpointFormatError: What is there cannot be trusted.
        QuantizedCheckpointError: It holds codes.
        AccessDenied: It may not be read.
        TransferError: The network or the Hub failed too often.
        OptionError: `source` is of a type that holds no weights, or `reading` does not fit it.
    """
    with ExitStack() as to_close:
        opened = to_close.enter_context(_open(source, reading))
        refuse_quantized(opened)
        to_close.pop_all()  # all is well: it stays open
    return opened


def _open(source: Any, reading: Reading) -> Source:
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
    reference = _with(reference, reading)
    shown = as_text(str(reference))
    if reference.kind == "hub":
        from weightscope.checkpoints.hub_source import open_hub

        return open_hub(shown, reference, reading)
    if reference.kind == "demo":
        path = Path(str(resources.files("weightscope").joinpath("demo")))
    else:
        path = Path(reference.location).expanduser() / (reading.subfolder or "")
    folder, files = find_checkpoint(path)
    return open_local(shown, folder, files, reading)


def _with(reference: CheckpointRef, reading: Reading) -> CheckpointRef:
    """The reference with a revision and a subfolder that were given beside it."""
    asked = f"The checkpoint {str(reference)!r} was asked for"
    for name in ("revision", "subfolder"):
        beside, within = getattr(reading, name), getattr(reference, name)
        if not beside:
            continue
        if within and within != beside:
            raise OptionError(
                f"{asked} with the {name} {beside!r}.",
                f"The reference itself names another: {within!r}.",
                "Name it once.",
            )
        if reference.kind != "hub" and (name == "revision" or reference.kind == "demo"):
            raise OptionError(
                f"{asked} with the {name} {beside!r}.",
                "It is no repository of the Hub.",
                f"Leave out the {name}; 'hf://org/name' means a repository even where a folder has its name.",
            )
    if reference.kind != "hub":
        return reference
    return replace(
        reference,
        revision=reading.revision or reference.revision,
        subfolder=reading.subfolder or reference.subfolder,
    )
