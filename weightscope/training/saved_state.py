"""`SavedState`: the file from which an interrupted training goes on, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from weightscope.difference import first_difference
from weightscope.errors import JournalMismatch, OutputError
from weightscope.training.history import History

STATE_FILE = "training.state"
"""In the folder of the results, until they are there."""
_HISTORY = "history"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What a state file holds."""

    tensors: dict[str, Tensor]
    """Of the ensemble."""
    steps: int
    """Taken until then."""
    history: History
    """Until then."""


class SavedState:
    """A state file and the run that it belongs to.

    Args:
        path: The file.
        run: All that the numbers depend on, JSON-ready.
        resume: Whether to go on with what is there; else it is passed over, and written over.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path
        self._run = json.loads(json.dumps(run))
        self._resume = resume

    def read(self) -> Found | None:
        """What is there; None if nothing is, or it is not to be gone on with.

        Raises:
            JournalMismatch: It is of another run, or is no such file.
        """
        if not self._resume or not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                meta = file.metadata() or {}
                run, steps = json.loads(meta["run"]), int(meta["steps"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            history = History.from_bytes(tensors.pop(_HISTORY).numpy().tobytes())
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise JournalMismatch(
                f"Training was to go on from '{self.path}'.",
                f"It is no state that a training wrote, or is damaged ({type(error).__name__}).",
                "Leave out --resume to begin anew.",
            ) from None
        if different := first_difference(run, self._run):
            raise JournalMismatch(
                f"Training was to go on from '{self.path}'.",
                f"That belongs to another run: {'.'.join(different.path)} was {different.then} there and is "
                f"{different.now} now.",
                "Give the options of that run, or leave out --resume to begin anew.",
            )
        return Found(tensors=tensors, steps=steps, history=history)

    def write(self, tensors: Mapping[str, Tensor], steps: int, history: History) -> None:
        """Replace what is there.

        Raises:
            OutputError: It could not be written; what was there stays.
        """
        content = torch.frombuffer(bytearray(history.to_bytes()), dtype=torch.uint8)
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        beside = _beside(self.path)
        meta = {"run": json.dumps(self._run), "steps": str(steps)}
        try:
            save_file({**whole, _HISTORY: content}, beside, metadata=meta)
            beside.replace(self.path)
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f"The state of the training at step {steps:,} was to be written to '{self.path}'.",
                f"That failed: {getattr(error, 'strerror', None) or error}.",
                "Make room there, and go on from the state before with --resume.",
            ) from None
        finally:  # after Ctrl-C too
            beside.unlink(missing_ok=True)


def remove_state(path: Path) -> None:
    """The results are there: nothing is to be gone on with, nor what a kill left half-written."""
    path.unlink(missing_ok=True)
    _beside(path).unlink(missing_ok=True)


def check_state(path: Path) -> None:
    """Be sure a state can be written, before hours of work.

    Raises:
        OutputError: A folder stands there.
    """
    if path.is_dir():
        raise OutputError(
            f"The state of a training was to be written to '{path}'.",
            "A folder stands there.",
            "Remove it, or choose another folder with --out.",
        )


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")
