"""What is done already: a run that was killed goes on where it stopped.

A text file that only grows: a line that says which run it belongs to, then a line for each matrix in the
order of the plan, each with a checksum. A line that was cut short, by a kill or a power failure, is as if it
had never been written. Floats are written in the shortest form that reads back bit for bit, so a resumed run
gives the very numbers of an undisturbed one.
"""

from __future__ import annotations

import json
import os
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from weightscope import exclusive
from weightscope.difference import first_difference
from weightscope.errors import JournalMismatch, OutputError
from weightscope.spectra.numbers import MatrixNumbers

_FORMAT = 1


class Journal:
    """An open journal.

    Attributes:
        done: Numbers that were found earlier, in the order of the plan.
    """

    def __init__(self, path: Path, descriptor: int, done: list[MatrixNumbers]) -> None:
        self.path = path
        self.done = done
        self._descriptor = descriptor
        self._appended = 0

    @classmethod
    def open(cls, path: Path, run: Mapping[str, Any], *, resume: bool) -> Self:
        """Start a journal, or go on with the one that is there.

        Args:
            path: The file; its folder exists.
            run: All that the numbers depend on, JSON-ready: a journal of another run is of no use.
            resume: Whether to go on; where there is no journal yet this starts one.

        Raises:
            JournalMismatch: It belongs to another run, or another process is writing it.
            OutputError: It cannot be read or written.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except OSError as error:
            raise _failed(path, error) from None
        try:
            _lock(descriptor, path)
            done, length = _read(path, run) if resume else ([], 0)
            os.ftruncate(descriptor, length)
            os.lseek(descriptor, length, os.SEEK_SET)
            journal = cls(path, descriptor, done)
            if length == 0:
                journal._write({"weightscope_journal": _FORMAT, "run": dict(run)})
        except OSError as error:
            cls(path, descriptor, []).close()
            raise _failed(path, error) from None
        except BaseException:
            os.close(descriptor)
            raise
        return journal

    def keep(self, count: int) -> None:
        """Forget all but the first `count` of `done`: what is found again will be written again."""
        if count == len(self.done):
            return
        self.done = self.done[:count]
        lines = self.path.read_bytes().splitlines(keepends=True)
        length = sum(len(line) for line in lines[: count + 1])
        os.ftruncate(self._descriptor, length)
        os.lseek(self._descriptor, length, os.SEEK_SET)

    def append(self, numbers: MatrixNumbers) -> None:
        """Write down one matrix. After this a kill does not lose it.

        Raises:
            OutputError: There is no room.
        """
        try:
            self._write(_as_record(numbers))
            self._appended += 1
        except OSError as error:
            raise _failed(self.path, error) from None

    def close(self) -> None:
        """Close the file and leave it, unless no matrix is in it."""
        if not self.done and not self._appended:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _write(self, record: Mapping[str, Any]) -> None:
        text = json.dumps(record, separators=(",", ":")).encode()
        line = b"%s\t%08x\n" % (text, zlib.crc32(text))
        while line:  # one call in practice: a kill comes before or after it
            line = line[os.write(self._descriptor, line) :]


def _read(path: Path, run: Mapping[str, Any]) -> tuple[list[MatrixNumbers], int]:
    """The numbers of a journal of this run, and how many bytes of it are sound."""
    length, records = 0, []
    for line in path.read_bytes().splitlines(keepends=True):
        text, _, checksum = line.rstrip(b"\n").rpartition(b"\t")
        if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
            break
        records.append(json.loads(text))
        length += len(line)
    if not records:  # killed before the first line was whole
        return [], 0
    found = records[0].get("run") if records[0].get("weightscope_journal") == _FORMAT else None
    if found is None:
        raise JournalMismatch(
            f"The run of '{path}' was to be resumed.",
            "That journal was written by another version of weightscope.",
            "Leave out --resume to start anew.",
        )
    expected = json.loads(json.dumps(dict(run)))
    if different := first_difference(found, expected):
        raise JournalMismatch(
            f"The run of '{path}' was to be resumed.",
            f"It had another {different.path[-1]}: {different.then}, and now {different.now}.",
            "Run it as it was begun, or leave out --resume to start anew.",
        )
    return [_from_record(record) for record in records[1:]], length


def _as_record(numbers: MatrixNumbers) -> dict[str, Any]:
    record = {
        "status": numbers.status,
        "method": numbers.method,
        "bound": numbers.bound,
        "values": numbers.values,
    }
    if numbers.singular_values is not None:
        # Little-endian float64, whatever the machine's order.
        record["singular_values"] = b64encode(
            numbers.singular_values.numpy().astype("<f8").tobytes()
        ).decode()
    return record


def _from_record(record: dict[str, Any]) -> MatrixNumbers:
    import numpy as np
    import torch

    packed = record.pop("singular_values", None)
    values = None
    if packed is not None:
        values = torch.from_numpy(np.frombuffer(b64decode(packed), "<f8").astype(np.float64))
    return MatrixNumbers(**record, singular_values=values)


def _lock(descriptor: int, path: Path) -> None:
    """Keep a second process from writing into the same journal."""
    if not exclusive.take(descriptor):
        raise JournalMismatch(
            f"The journal '{path}' was to be written.",
            "Another run is writing it at this moment.",
            "Wait for that run, or choose another folder with --out.",
        )


def _failed(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"The journal '{path}' was to be written.",
        f"That failed: {error.strerror or error}.",
        "Make room there and add --resume to go on from what it holds, or choose another folder with --out.",
    )
