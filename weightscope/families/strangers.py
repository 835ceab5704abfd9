"""Matrices in the layers that a family does not know, where it misses some that it knows.

A layer may hold more than its family's templates describe: that is of group other, and no matter. Where at
the same time a role is empty that the family has no layer without, they are most likely what it misses.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from weightscope.checkpoints.header import TensorIndex
from weightscope.families.assign import Assignment
from weightscope.families.matching import NUMBER, NameMatcher, layer_starts, without_wrappers
from weightscope.families.registry import FAMILIES
from weightscope.families.spec import ATTENTION_GROUPS, FEED_FORWARD_GROUPS, FamilySpec, Group, MatrixPattern

_PARTS = (frozenset(ATTENTION_GROUPS), frozenset(FEED_FORWARD_GROUPS))
_ROLES = (*ATTENTION_GROUPS, *FEED_FORWARD_GROUPS)
Layer = tuple[str, int]
"""Stack and number."""


class Strangers(NamedTuple):
    """Matrices under other names, and what is missing beside them."""

    names: tuple[str, ...] = ()
    """Theirs, in the order of the file."""
    empty: tuple[Group, ...] = ()
    """Roles that some of those layers lack."""
    instead: bool = False
    """Whether each of the layers lacks a whole attention or feed-forward part that other layers have: as in a
    hybrid model, another thing may stand there."""


def strangers(unknown: Mapping[Layer, Sequence[str]], assignment: Assignment) -> Strangers:
    """What a family most likely misses in its layers.

    Args:
        unknown: What it does not know there, see `unknown_in_layers`.
        assignment: What each tensor is.
    """
    if not unknown:
        return Strangers()
    found: dict[Layer, set[Group]] = defaultdict(set)
    anywhere: dict[str, set[Group]] = defaultdict(set)
    for matrix in assignment.matrices:
        if matrix.layer is not None and matrix.attention_kind != "cross":
            found[matrix.stack, matrix.layer].add(matrix.group)
            anywhere[matrix.stack].add(matrix.group)
    expected = _expected(assignment.family)
    names: dict[str, None] = {}
    empty: set[Group] = set()
    instead = True
    for layer, strange in unknown.items():
        lacking = expected.get(layer[0], set()) - found[layer]
        # A layer of another kind, such as one of Mamba, has templates of its own that are found in it.
        if lacking and not found[layer] - {*_ROLES, Group.ROUTER}:
            names |= dict.fromkeys(strange)
            empty |= lacking
            touched = [part for part in _PARTS if part & lacking]
            instead &= all(not part & found[layer] and part & anywhere[layer[0]] for part in touched)
    return Strangers(tuple(names), tuple(group for group in Group if group in empty), bool(names) and instead)


def double_roles(
    unknown: Mapping[Layer, Sequence[str]], assignment: Assignment
) -> dict[str, tuple[str, Group]]:
    """Names that another family knows in layers where this family has that role under a name of its own.

    Args:
        unknown: What it does not know there, see `unknown_in_layers`.
        assignment: What each tensor is.

    Returns:
        One name for each other in which only numbers differ, with the other family's name and role for it.
    """
    found: dict[Layer, set[Group]] = defaultdict(set)
    for matrix in assignment.matrices:
        found[matrix.stack, matrix.layer or 0].add(matrix.group)
    names: dict[str, tuple[Layer, str]] = {}
    for layer, strange in unknown.items():
        for name in strange:
            names.setdefault(NUMBER.sub("#", name), (layer, name))
    matchers = {other.name: NameMatcher(other) for other in FAMILIES.values()} if names else {}
    doubled: dict[str, tuple[str, Group]] = {}
    for layer, name in names.values():
        for family, matcher in matchers.items():
            match = matcher.match(name)
            pattern = match and match.pattern
            if (
                isinstance(pattern, MatrixPattern)
                and pattern.group in _ROLES
                and pattern.group in found[layer]
            ):
                doubled[name] = family, pattern.group
                break
    return doubled


def empty_roles(assignment: Assignment) -> tuple[Group, ...]:
    """Roles that no layer of a stack has, although the family always does and some of that part is there."""
    empty: set[Group] = set()
    for stack, expected in _expected(assignment.family).items():
        found = {matrix.group for matrix in assignment.matrices if matrix.stack == stack}
        empty |= {role for role in expected - found for part in _PARTS if role in part and part & found}
        numbered = any(matrix.stack == stack and matrix.expert.isdecimal() for matrix in assignment.matrices)
        routed = any(pattern.group == Group.ROUTER for pattern in assignment.family.patterns)
        if numbered and routed and Group.ROUTER not in found:
            empty.add(Group.ROUTER)
    return tuple(group for group in Group if group in empty)


def _expected(spec: FamilySpec) -> dict[str, set[Group]]:
    """For each stack the roles that no layer of the family is without."""
    roles: dict[str, set[Group]] = defaultdict(set)
    for stack, kind, group in spec.always:
        if kind != "cross" and group in _ROLES:
            roles[stack].add(group)
    return roles


def unknown_in_layers(index: TensorIndex, spec: FamilySpec) -> dict[Layer, list[str]]:
    """Matrices whose names begin as those of a layer do, and go on as no template does."""
    matcher = NameMatcher(spec)
    starts: dict[str, str] = {}
    for start, stack in layer_starts(spec):
        starts.setdefault(start, stack)
    found: dict[Layer, list[str]] = defaultdict(list)
    for name, info in index.items():
        if len(info.shape) < 2 or matcher.match(name) is not None:
            continue
        plain = without_wrappers(name)
        for start, stack in starts.items():
            if not plain.startswith(start):
                continue
            number, _, rest = plain[len(start) :].partition(".")
            numbered = bool(rest) and number.isdecimal() and len(number) < 10
            if numbered and (layer := int(number) - spec.first_layer) >= 0:
                found[stack, layer].append(name)
                break
    return found
