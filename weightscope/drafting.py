"""`draft_family`: a family file for a checkpoint, to be corrected by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from weightscope.checkpoint import Checkpoint, Opening, open_checkpoint
from weightscope.errors import WeightscopeError
from weightscope.families.draft import draft_text
from weightscope.families.family_file import parse_family

if TYPE_CHECKING:
    from weightscope.checkpoints.stream import Openable


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A family file, not written yet."""

    text: str
    """YAML that `--family` takes as it is."""
    notes: tuple[str, ...]
    """What the user should know of it."""


def draft_family(source: Openable, **opening: Unpack[Opening]) -> Draft:
    """What a checkpoint's tensors were taken for, as a family file. No weight is read.

    An unknown family's guesses, or the entry of a known one; what it knows nothing of stands in comments.

    Args:
        source: As for `open_checkpoint`.
        **opening: As for `open_checkpoint`: revision, subfolder, family, allow_pickle …

    Raises:
        WeightscopeError: As `open_checkpoint` raises them.
    """
    with open_checkpoint(source, **opening) as checkpoint:
        found = checkpoint.detection
        text = draft_text(
            checkpoint.tensors, checkpoint.config, found.spec, checkpoint.sizes, checkpoint.source.reference
        )
        return Draft(text=text, notes=(*found.notes, *_objections(checkpoint, text)))


def _objections(checkpoint: Checkpoint, text: str) -> tuple[str, ...]:
    """What a run would be refused for, with the draft or without: a family is held to more than guesses."""
    drafted = Checkpoint(checkpoint.source, parse_family(text, Path("the draft")))
    for read, what in ((checkpoint, "The checkpoint is"), (drafted, "With this draft as it is, it is")):
        try:
            read.matrices  # noqa: B018
        except WeightscopeError as error:
            return (f"{what} refused: {error.found} {error.advice}",)
    return ()
