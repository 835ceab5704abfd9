"""The exception tree: what weightscope raises when it knows what went wrong.

    WeightscopeError
    ├── CheckpointNotFound        (FileNotFoundError)  no such path, or nothing in it to read
    ├── CheckpointFormatError     (ValueError)         a file that lies, is cut short or is not readable
    ├── AccessDenied              (PermissionError)    gated, private or disabled, or a wrong token
    ├── TransferError             (ConnectionError)    a network or a server that failed too often
    ├── QuantizedCheckpointError  (ValueError)         codes, not weights
    ├── UnknownFamily             (LookupError)        a family name or file that cannot be used
    ├── FamilyMismatch            (ValueError)         config.json, names and shapes contradict each other
    ├── SelectionError            (LookupError)        a group, layer or quantity that is not there
    ├── OptionError               (ValueError)         an option out of its range
    ├── DeviceUnavailable         (RuntimeError)       a device this machine or torch does not have
    ├── DeviceMemoryError         (MemoryError)        a matrix larger than the memory for it
    ├── RecipeError               (ValueError)         a recipe that is not there, or says what it may not
    ├── JournalMismatch           (ValueError)         a journal that --resume cannot go on from
    ├── TableError                (ValueError)         a file that is not one of our tables
    ├── DataNotFound              (FileNotFoundError)  no such data set, or not that split of it
    ├── DataFormatError           (ValueError)         a data file that lies, is cut short or is not readable
    ├── TrainingDiverged          (ArithmeticError)    weights that are no numbers any more
    └── OutputError               (OSError)            results that could not be written

Every message has three sentences: what was asked, what was found, what to do.
"""

from __future__ import annotations

from typing import Any


class WeightscopeError(Exception):
    """Base of every error weightscope raises on purpose.

    Attributes:
        asked: One sentence: what the caller asked for, with their own value.
        found: One sentence: what was found instead.
        advice: One sentence: what to do.
    """

    def __init__(self, asked: str, found: str, advice: str) -> None:
        super().__init__(asked, found, advice)
        self.asked = asked
        self.found = found
        self.advice = advice

    def __str__(self) -> str:
        """The three sentences; spelled out because OSError would print its own form."""
        return f"{self.asked} {self.found} {self.advice}"


class CheckpointNotFound(WeightscopeError, FileNotFoundError):
    """There is no such path or checkpoint, or nothing in it that could be read."""


class CheckpointFormatError(WeightscopeError, ValueError):
    """A checkpoint file contradicts itself, its format or its index."""


class AccessDenied(WeightscopeError, PermissionError):
    """A repository or a file may not be read: gated, private, disabled, or with a wrong token."""


class TransferError(WeightscopeError, ConnectionError):
    """The network or a server failed, more often than there is patience for."""


class QuantizedCheckpointError(WeightscopeError, ValueError):
    """The checkpoint stores quantisation codes, which are not weights."""


class UnknownFamily(WeightscopeError, LookupError):
    """A family was named or described that cannot be used."""


class FamilyMismatch(WeightscopeError, ValueError):
    """The family's description does not fit the checkpoint's names, shapes or config."""


class SelectionError(WeightscopeError, LookupError):
    """A group, layer, matrix or quantity was selected that does not exist."""


class OptionError(WeightscopeError, ValueError):
    """An option's value is out of its range."""


class DeviceUnavailable(WeightscopeError, RuntimeError):
    """The device asked for does not exist here."""


class DeviceMemoryError(WeightscopeError, MemoryError):
    """A matrix needs more memory than there is."""


class RecipeError(WeightscopeError, ValueError):
    """A recipe or a setting of it cannot be understood."""


class JournalMismatch(WeightscopeError, ValueError):
    """A journal belongs to another run, or to one that is still going on."""


class TableError(WeightscopeError, ValueError):
    """A file is not a table that weightscope wrote."""


class DataNotFound(WeightscopeError, FileNotFoundError):
    """There is no such data set, or no such split of it."""


class DataFormatError(WeightscopeError, ValueError):
    """A file of a data set contradicts itself, its format or what is known of the set."""


class TrainingDiverged(WeightscopeError, ArithmeticError):
    """A training's weights became infinite or no numbers.

    Attributes:
        history: What was seen until then, a table; None if nothing was.
    """

    history: Any = None


class OutputError(WeightscopeError, OSError):
    """Results could not be written; what was there before is untouched."""
