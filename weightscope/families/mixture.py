"""Whether the names of a checkpoint are those of one family.

What a family does not know of a checkpoint is a head, an adapter or a tower beside it, and of group other.
Whole layers that another family of text knows, where this one knows none, are no such thing: two models, or
two halves of them, were put together. Towers of pictures and sound are legitimate beside any decoder.
"""

from collections.abc import Iterator, Mapping

from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.errors import FamilyMismatch
from weightscope.families.matching import NUMBER, Match, NameMatcher
from weightscope.families.registry import FAMILIES
from weightscope.families.spec import ATTENTION_GROUPS, FEED_FORWARD_GROUPS, FamilySpec, Group, MatrixPattern

# Those of a model of text. Others, such as vision, are towers beside it.
_OWN_STACKS = ("encoder", "decoder")
_Layer = tuple[str, int]


def check_one_family(index: TensorIndex, spec: FamilySpec) -> None:
    """Refuse a checkpoint some of whose layers have the names of this family, and others those of another.

    Raises:
        FamilyMismatch: It names both families and a tensor of each.
    """
    own = NameMatcher(spec)
    matrices = {name: info for name, info in index.items() if len(info.shape) >= 2}
    strange = {name: info for name, info in matrices.items() if own.match(name) is None}
    if len(strange) == len(matrices):
        return
    whole_here = {layer for layer, found in _layers(matrices, own, spec).items() if is_block(found)}
    examples = list({NUMBER.sub("#", name, count=1): name for name in strange}.values())
    best: tuple[int, str, str] = (0, "", "")
    for other in FAMILIES.values():
        matcher = NameMatcher(other)
        if other == spec or not any(_in_layer(matcher.match(name)) for name in examples):
            continue
        for layer, found in _layers(matrices, matcher, other).items():
            strangers = [name for name in found.values() if name in strange]
            if strangers and is_block(found) and layer not in whole_here and len(found) > best[0]:
                best = (len(found), other.name, strangers[0])
    if best[1]:
        known = max(_matched(matrices, own), key=lambda pair: _in_layer(pair[1][1]), default=None)
        belongs = f", which {known[0]!r} belongs to" if known else ""
        raise FamilyMismatch(
            f"The checkpoint was read as family {spec.name!r}{belongs}.",
            f"Other layers have the names of family {best[1]!r}, such as {best[2]!r}.",
            "Separate the two models, or name the family that is meant with --family; what it does not know "
            "is then of group other.",
        )


def _in_layer(match: Match | None) -> bool:
    return match is not None and match.layer is not None and isinstance(match.pattern, MatrixPattern)


def _matched(
    tensors: Mapping[str, TensorInfo], matcher: NameMatcher
) -> Iterator[tuple[str, tuple[MatrixPattern, Match]]]:
    for name in tensors:
        match = matcher.match(name)
        if match is not None and isinstance(match.pattern, MatrixPattern):
            yield name, (match.pattern, match)


def _layers(
    tensors: Mapping[str, TensorInfo], matcher: NameMatcher, spec: FamilySpec
) -> dict[_Layer, dict[Group, str]]:
    """For each layer, told by what stands before its number in the names, a tensor of each group."""
    found: dict[_Layer, dict[Group, str]] = {}
    for name, (pattern, match) in _matched(tensors, matcher):
        if match.layer is None or (pattern.stack or spec.stack) not in _OWN_STACKS:
            continue
        container = next(
            name[: number.start()]
            for number in NUMBER.finditer(name)
            if int(number[0]) == match.layer + spec.first_layer
        )
        for group in set(pattern.groups) & {*ATTENTION_GROUPS, *FEED_FORWARD_GROUPS}:
            found.setdefault((container, match.layer), {})[group] = name
    return found


def is_block(found: Mapping[Group, str]) -> bool:
    """Whether these groups are attention and feed-forward part of a layer."""
    attention = Group.QKV in found or {Group.Q, Group.K, Group.V} <= found.keys()
    return attention and {Group.O, Group.M1, Group.M2} <= found.keys()
