"""Whether a checkpoint is what its family says: what keeps it from being read, and what is to be told."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weightscope.checkpoints.header import TensorIndex
from weightscope.families.assign import Assignment
from weightscope.families.beside import models_beside
from weightscope.families.guess import UNKNOWN
from weightscope.families.registry import FAMILIES
from weightscope.families.remarks import DESCRIBE, bare, doubled, no_roles, other_depth, unlike
from weightscope.families.sizes import ConfigSizes, no_sizes
from weightscope.families.stated import contradictions
from weightscope.families.strangers import (
    Layer,
    Strangers,
    double_roles,
    empty_roles,
    strangers,
    unknown_in_layers,
)
from weightscope.families.wholeness import missing_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What was found of a checkpoint as a whole."""

    problem: str = ""
    """A sentence, if it should not be read as it is."""
    remedy: str = ""
    """What to do about it, without a full stop."""
    notes: tuple[str, ...] = ()
    """Sentences for whoever reads it all the same; the problem is one of them."""
    strangers: tuple[str, ...] = ()
    """Matrices in layers under names that the family does not know, while it misses some there."""


def judge(
    index: TensorIndex,
    assignment: Assignment,
    config: Mapping[str, Any],
    sizes: Mapping[str, ConfigSizes],
    *,
    as_asked: bool,
) -> Judgement:
    """Judge a whole checkpoint; of an unknown family, nothing is a problem.

    Args:
        index: Its headers.
        assignment: What its tensors were taken for.
        config: The content of config.json.
        sizes: What that states, by stack.
        as_asked: Whether the user named the family, which may then describe a part of the model.
    """
    spec = assignment.family
    known = spec.name != UNKNOWN
    missing = missing_layers(index, assignment, config, sizes)
    contradicting = contradictions(assignment.matrices, spec, config, sizes)
    unknown = unknown_in_layers(index, spec) if known else {}
    strange = strangers(unknown, assignment)
    problem, remedy = "", ""
    if known and missing:
        problem, remedy = missing, "Complete the checkpoint"
    elif contradicting:
        problem, remedy = contradicting[0], "Correct config.json"
        if spec not in FAMILIES.values():
            remedy += ", or say under config_keys where it has that size ('' if nowhere)"
    elif strange.names and not strange.instead and not as_asked:
        problem, remedy = unlike(strange, spec), DESCRIBE
    notes = (
        *((missing,) if missing else other_depth(index, assignment, sizes[spec.stack])),
        *contradicting,
        *(_doubts(unknown, assignment, strange) if known else ()),
        *(models_beside(index, spec) if known else ()),
        *no_sizes(config, spec),
        *no_roles(spec),
    )
    return Judgement(problem=problem, remedy=remedy, notes=notes, strangers=strange.names)


def _doubts(
    unknown: Mapping[Layer, Sequence[str]], assignment: Assignment, strange: Strangers
) -> Iterator[str]:
    """What of a known family's roles is under other names, nowhere, or there under two names."""
    if strange.names:
        yield f"{unlike(strange, assignment.family)} They are of group other. {DESCRIBE}."
    else:
        yield from bare(empty_roles(assignment), assignment.family)
        yield from doubled(double_roles(unknown, assignment), assignment.family)
