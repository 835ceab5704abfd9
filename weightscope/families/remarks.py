"""What to tell of a checkpoint that was read and is not quite what it might be, in sentences."""

from collections.abc import Iterable, Mapping

from weightscope.families.guess import UNKNOWN
from weightscope.families.matrix import Matrix
from weightscope.families.sizes import ConfigSizes
from weightscope.families.spec import ATTENTION_GROUPS, FEED_FORWARD_GROUPS, FamilySpec, Group


def other_depths(
    matrices: Iterable[Matrix], spec: FamilySpec, sizes: Mapping[str, ConfigSizes]
) -> tuple[str, ...]:
    """Of each stack that has other layers than the config states."""
    layers: dict[str, set[int]] = {}
    for matrix in matrices:
        if matrix.layer is not None:
            layers.setdefault(matrix.stack, set()).add(matrix.layer)
    if spec.name == UNKNOWN and len(layers) > 1:
        return ()  # a guessed family has one count, which with several stacks may be any one's
    found = []
    for stack, numbers in layers.items():
        own = sizes.get(stack, sizes[spec.stack] if len(layers) == 1 else None)
        if own and own.layers and own.layers != len(numbers):
            what = f"{stack} layers" if len(layers) > 1 else "layers"
            found.append(f"config.json states {own.layers} {what} and the tensors have {len(numbers)}.")
    return tuple(found)


def other_widths(
    matrices: Iterable[Matrix], spec: FamilySpec, sizes: Mapping[str, ConfigSizes]
) -> tuple[str, ...]:
    """Of each stack no feed-forward part of which is as wide as the config states; experts apart."""
    if spec.name == UNKNOWN:
        return ()
    heights: dict[str, set[int]] = {}
    for matrix in matrices:
        if matrix.group == Group.M1 and matrix.layer is not None and not matrix.expert:
            heights.setdefault(matrix.stack, set()).add(matrix.shape[0])
    found = []
    for stack, rows in heights.items():
        stated = sizes[stack].feed_forward_dimension if stack in sizes else None
        if stated and stated not in rows:
            of = f" of the {stack}" if len(heights) > 1 else ""
            listed = " and ".join(map(str, sorted(rows)[:4]))
            found.append(
                f"config.json states a feed-forward width{of} of {stated}, and the tensors have {listed}."
            )
    return tuple(found)


def unlike(names: tuple[str, ...], empty: tuple[Group, ...], spec: FamilySpec) -> tuple[str, ...]:
    """Of matrices in the layers that are most likely what the family misses there."""
    if not names:
        return ()
    one = len(names) == 1
    are = "1 matrix in the layers has a name" if one else f"{len(names)} matrices in the layers have names"
    return (
        f"{are} that family {spec.name!r} does not know, such as {names[0]!r}: group other. Some of those "
        f"layers lack {', '.join(empty)}. 'weightscope families draft' begins a family file to describe "
        "them in.",
    )


def bare(empty: tuple[Group, ...], spec: FamilySpec) -> tuple[str, ...]:
    """Of roles that no layer has."""
    return (f"No layer has {', '.join(empty)}, which family {spec.name!r} always has.",) if empty else ()


def no_roles(spec: FamilySpec) -> tuple[str, ...]:
    """Of a family without a single matrix of attention or a feed-forward part."""
    roles = {group for pattern in spec.patterns for group in pattern.groups}
    if spec.name == UNKNOWN or roles & {*ATTENTION_GROUPS, *FEED_FORWARD_GROUPS}:
        return ()
    return (
        f"Family {spec.name!r} has no attention and no feed-forward part: the matrices of its layers are in "
        "the groups other and conv.",
    )
