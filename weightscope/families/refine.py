"""What the shapes of a whole checkpoint say of roles that were guessed name by name.

Two guesses for one place cannot both be right, and a weight that is not square shows which way round it is
stored, once it is known how wide the model is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.families.matching import NameMatcher
from weightscope.families.spec import ATTENTION_GROUPS, FEED_FORWARD_GROUPS, FamilySpec, Group, MatrixPattern

_READING = (Group.Q, Group.K, Group.V, Group.QKV, Group.M1, Group.G)
_FROM_ANYWHERE = (Group.K, Group.V)
_WRITING = (Group.O, Group.M2)
_Members = dict[str, list[tuple[TensorInfo, tuple[int | None, int | None]]]]


def refined(spec: FamilySpec, index: TensorIndex) -> tuple[FamilySpec, tuple[str, ...]]:
    """The guesses, turned round where shapes say so, without those that clash; and what is in doubt.

    Args:
        spec: The guesses, no two of one template.
        index: The checkpoint's headers.

    Returns:
        The family, and sentences for the user.
    """
    members: _Members = {}
    vectors: Counter[int] = Counter()
    matcher = NameMatcher(spec)
    for info in index.values():
        match = matcher.match(info.name)
        if match is not None:
            members.setdefault(match.pattern.template, []).append((info, (match.layer, match.expert)))
        elif len(info.shape) == 1:
            vectors[info.shape[0]] += 1
    placed, doubts = _one_a_place([p for p in spec.patterns if p.template in members], members)
    stacks = {pattern.stack for pattern in placed}
    settled: dict[str, MatrixPattern] = {}
    for stack in stacks:
        own = [pattern for pattern in placed if pattern.stack == stack]
        turned, unseen = _turned(own, members, vectors)
        settled |= {
            pattern.template: replace(pattern, transposed=turned[pattern.template]) for pattern in own
        }
        if unseen:
            doubts.append(
                f"Square, and no neighbour tells which way round: {_listed(unseen)}; taken as "
                "(out_features, in_features)."
            )
    return replace(spec, patterns=tuple(settled[p.template] for p in placed)), tuple(doubts)


def _one_a_place(
    patterns: Sequence[MatrixPattern], members: _Members
) -> tuple[list[MatrixPattern], list[str]]:
    """The patterns without those whose tensors would stand where another's stand already."""
    taken: dict[tuple[object, ...], MatrixPattern] = {}
    lost: set[str] = set()
    doubts: list[str] = []
    # That of most layers first: one stray tensor takes nothing from a whole model. Then the plainer name,
    # query before pos_query.
    for pattern in sorted(patterns, key=lambda one: (-len(members[one.template]), len(one.template))):
        if pattern.group not in (*ATTENTION_GROUPS, *FEED_FORWARD_GROUPS):
            continue
        # A fused weight takes the places of all its parts.
        roles = [(pattern.stack, pattern.attention_kind, group) for group in pattern.groups]
        layered = [number for _, number in members[pattern.template] if number[0] is not None]
        places = [(role, number) for role in roles for number in layered]
        rival = next((taken[place] for place in places if place in taken), None)
        if rival is None:
            taken.update(dict.fromkeys(places, pattern))
        else:
            lost.add(pattern.template)
            doubts.append(
                f"{pattern.template!r} would be {pattern.group} where {rival.template!r} is: group other."
            )
    return [pattern for pattern in patterns if pattern.template not in lost], doubts


def _turned(
    patterns: Sequence[MatrixPattern], members: _Members, vectors: Mapping[int, int]
) -> tuple[dict[str, bool], list[str]]:
    """For each template of one stack whether it is stored (in, out), and those of which nothing tells it."""
    shapes = {
        pattern.template: info.shape
        for pattern in patterns
        for info, _ in members[pattern.template][:1]
        if len(info.shape) == 2 and pattern.layout is None and pattern.group in (*_READING, *_WRITING)
    }
    width = _width(list(shapes.values()), vectors)
    turned = {pattern.template: pattern.transposed for pattern in patterns}
    told: dict[str, bool] = {}
    for pattern in patterns:
        shape = shapes.get(pattern.template)
        if shape is None or width not in shape or shape[0] == shape[1]:
            continue
        told[pattern.template] = shape[1 if pattern.group in _WRITING else 0] == width
    turned |= told
    # Keys and values may be made of another input of another width: alone they show nothing.
    others = {told[p.template] for p in patterns if p.template in told and p.group not in _FROM_ANYWHERE}
    if others != {True}:
        for pattern in patterns:
            if pattern.group in _FROM_ANYWHERE and told.get(pattern.template):
                turned[pattern.template] = pattern.transposed
                del told[pattern.template]
    # A square weight is stored as its neighbours are, if they agree.
    ways = set(told.values())
    square = [name for name, shape in shapes.items() if name not in told and shape[0] == shape[1]]
    if len(ways) == 1:
        turned |= dict.fromkeys(square, ways == {True})
    return turned, [] if len(ways) == 1 else [name for name in square if not turned[name]]


def _width(shapes: Sequence[tuple[int, ...]], vectors: Mapping[int, int]) -> int | None:
    """The size that all or most matrices of a block have in common; norms decide between two."""
    counts = Counter(size for shape in shapes for size in set(shape))
    most = max(counts.values(), default=0)
    widths = [size for size, count in counts.items() if count == most]
    if len(widths) > 1:
        widths = sorted(widths, key=lambda size: -vectors.get(size, 0))
        if vectors.get(widths[0], 0) == vectors.get(widths[1], 0):
            return None
    return widths[0] if widths else None


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more
