"""What to tell of a checkpoint that was read and is not quite what it might be, in sentences."""

from collections.abc import Iterator, Mapping

from weightscope.checkpoints.header import TensorIndex
from weightscope.families.assign import Assignment
from weightscope.families.guess import UNKNOWN
from weightscope.families.sizes import ConfigSizes
from weightscope.families.spec import ATTENTION_GROUPS, FEED_FORWARD_GROUPS, FamilySpec, Group
from weightscope.families.strangers import Strangers
from weightscope.families.wholeness import layers_held


def other_depth(index: TensorIndex, assignment: Assignment, sizes: ConfigSizes) -> tuple[str, ...]:
    """Of a guessed family that it has other layers than the config states."""
    held = layers_held(index, assignment)
    if assignment.family.name != UNKNOWN or len(held) != 1:
        return ()  # a guessed family has one count, which with several stacks may be any one's
    (layers,) = held.values()
    if not sizes.layers or sizes.layers == len(layers):
        return ()
    return (f"config.json states {sizes.layers} layers and the tensors have {len(layers)}.",)


def unlike(strange: Strangers, spec: FamilySpec) -> str:
    """Of matrices in the layers that are most likely what the family misses there, as an error's sentence."""
    names, one = strange.names, len(strange.names) == 1
    are = "1 matrix in the layers has a name" if one else f"{len(names)} matrices in the layers have names"
    return (
        f"{are} that family {spec.name!r} does not know, such as {names[0]!r}, and some of those layers lack "
        f"{', '.join(strange.empty)}."
    )


DESCRIBE = "Describe them in a family file, which 'weightscope families draft' begins"
"""What to do about such matrices, without a full stop."""


def doubled(names: Mapping[str, tuple[str, Group]], spec: FamilySpec) -> Iterator[str]:
    """Of matrices that would have a role by another family's names, in layers where this one has it."""
    for name, (other, group) in names.items():
        yield (
            f"{name!r} would be {group} by the names of family {other!r}, and family {spec.name!r} has "
            "that in the same layer: group other."
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
