"""Which models of an earlier run are done: `--resume` leaves those alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from weightscope.errors import OutputError
from weightscope.report import JOURNAL_FILE

IDENTITY_FILE = "identity.json"
"""Beside a model's report: what its numbers depend on, and which report that is said of."""
_SAID_OF = ("matrices.csv", "summary.json", "provenance.json")


def remember(folder: Path, identity: Mapping[str, Any]) -> None:
    """Write down that the report in this folder is whole and what its numbers depend on.

    Raises:
        OutputError: It could not be written.
    """
    text = json.dumps({"run": identity, "report": _digests(folder)}, indent=2) + "\n"
    beside = folder / f".{IDENTITY_FILE}.partial"
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(folder / IDENTITY_FILE)
    except OSError as error:
        raise OutputError(
            f"The file '{folder / IDENTITY_FILE}' was to be written.",
            f"That failed: {error.strerror or error}.",
            "The report beside it is whole; make room there for --resume to know it.",
        ) from None


def is_finished(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether the folder holds a whole report of this very run, as it was written."""
    if (folder / JOURNAL_FILE).exists():  # a later run began, and was interrupted
        return False
    try:
        found = json.loads((folder / IDENTITY_FILE).read_text(encoding="utf-8"))
        return bool(found == json.loads(json.dumps({"run": identity, "report": _digests(folder)})))
    except (OSError, ValueError, RecursionError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    return {name: sha256((folder / name).read_bytes()).hexdigest() for name in _SAID_OF}
