"""`draft_family`: a family file for a checkpoint, to be corrected by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from weightscope.checkpoint import Checkpoint, Opening, open_checkpoint
from weightscope.errors import WeightscopeError
from weightscope.families.draft import draft_text
from weightscope.families.family_file import parse_family
from weightscope.families.guess import UNKNOWN
from weightscope.families.spec import Group

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
        spec, other = found.spec, _other_width(checkpoint)
        if other:
            spec = replace(spec, config_keys={**spec.config_keys, "feed_forward_dimension": ""})
        text = draft_text(
            checkpoint.tensors, checkpoint.config, spec, checkpoint.sizes, checkpoint.source.reference
        )
        return Draft(text=text, notes=(*found.notes, *other, *_objections(checkpoint, text)))


def _other_width(checkpoint: Checkpoint) -> tuple[str, ...]:
    """What to say of a guessed family whose config has another number where a feed-forward width is expected.

    Some models round theirs, or state it doubled: of a known family it would be an error.
    """
    stated = checkpoint.sizes.feed_forward_dimension
    if checkpoint.detection.spec.name != UNKNOWN or stated is None:
        return ()
    try:
        rows = {m.shape[0] for m in checkpoint.matrices if m.group == Group.M1 and not m.expert}
    except WeightscopeError:  # it is said below
        return ()
    if not rows or stated in rows:
        return ()
    return (
        f"config.json states a feed-forward width of {stated}, and the tensors have {min(rows)}: the draft "
        "says under config_keys that it is another size.",
    )


def _objections(checkpoint: Checkpoint, text: str) -> tuple[str, ...]:
    """What a run would be refused for, with the draft or without: a family is held to more than guesses."""
    drafted = Checkpoint(checkpoint.source, parse_family(text, Path("the draft")))
    for read, what in ((checkpoint, "The checkpoint is"), (drafted, "With this draft as it is, it is")):
        try:
            read.matrices  # noqa: B018
        except WeightscopeError as error:
            return (f"{what} refused: {error.found} {error.advice}",)
    return ()
