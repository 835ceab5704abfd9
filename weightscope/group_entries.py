"""The matrices of a checkpoint by role, and in a role by the template of their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from weightscope.families.matrix import Matrix
from weightscope.families.spec import Group
from weightscope.over_experts import NUMBERED


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateEntry:
    """The matrices of one role whose names differ in nothing but their numbers."""

    parameter: str
    """Name in the checkpoint, the layer's number written `*`; several joined by `+`."""
    matrices: int
    """How many."""
    shapes: tuple[tuple[int, int], ...]
    """Their (out_features, in_features), each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEntry:
    """The matrices of one role."""

    stack: str
    """Their stack."""
    attention_kind: str
    """`self`, `cross` or empty."""
    group: str
    """The role."""
    expert: str
    """`numbered` for experts among which a router chooses, `shared`, or empty."""
    matrices: int
    """How many."""
    shapes: tuple[tuple[int, int], ...]
    """Their (out_features, in_features), each once."""
    templates: tuple[TemplateEntry, ...]
    """The same by name: which names have which of these shapes."""


def group_entries(matrices: Sequence[Matrix]) -> tuple[GroupEntry, ...]:
    """One entry for each role, in the order of the table."""
    places: dict[tuple[str, str, Group, str], list[Matrix]] = {}
    for matrix in matrices:
        expert = NUMBERED if matrix.expert.isdecimal() else matrix.expert
        places.setdefault((matrix.stack, matrix.attention_kind, matrix.group, expert), []).append(matrix)
    return tuple(
        GroupEntry(
            stack=stack,
            attention_kind=kind,
            group=group,
            expert=expert,
            matrices=len(members),
            shapes=_shapes(members),
            templates=_templates(members),
        )
        for (stack, kind, group, expert), members in places.items()
    )


def _templates(matrices: Sequence[Matrix]) -> tuple[TemplateEntry, ...]:
    named: dict[str, list[Matrix]] = {}
    for matrix in matrices:
        named.setdefault(re.sub(r"\.\d+(?=\.)", ".*", matrix.parameter), []).append(matrix)
    return tuple(
        TemplateEntry(parameter=name, matrices=len(members), shapes=_shapes(members))
        for name, members in named.items()
    )


def _shapes(matrices: Sequence[Matrix]) -> tuple[tuple[int, int], ...]:
    return tuple(dict.fromkeys(matrix.shape for matrix in matrices))
