"""What stands in the place of attention in hybrid models, such as Mamba: whether it is there, and whole.

Its matrices are of group other or conv. Those of one container, `mamba.` in `layers.{layer}.mamba.in_proj`,
belong together; where no attention stands under the same name, the container is another way to mix tokens.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from weightscope.families.assign import Assignment
from weightscope.families.spec import ATTENTION_GROUPS, FEED_FORWARD_GROUPS, FamilySpec, Group

_OTHERS = (Group.OTHER, Group.CONV)
_ROLES = (*ATTENTION_GROUPS, *FEED_FORWARD_GROUPS)


def missing_mixers(assignment: Assignment, stack: str, layers: Iterable[int]) -> str:
    """Which layers lack a part of such a container, or have neither it nor an attention; empty if none.

    Args:
        assignment: What each tensor is.
        stack: Of which stack.
        layers: The numbers of its layers.
    """
    mixers = _mixers(assignment.family, stack)
    if not mixers:
        return ""
    attention: set[int] = set()
    held: dict[str, dict[int, set[str]]] = {mixer: defaultdict(set) for mixer in mixers}
    for matrix in assignment.matrices:
        if matrix.stack != stack or matrix.layer is None:
            continue
        if matrix.group in ATTENTION_GROUPS:
            attention.add(matrix.layer)
        for mixer, ends in mixers.items():
            name = matrix.slices[0].tensor.name
            held[mixer][matrix.layer] |= {end for end in ends if name.endswith(end)}
    for found in held.values():
        every = set().union(*found.values())
        whole = sum(ends == every for ends in found.values())
        for layer, ends in sorted(found.items()):
            if ends and ends != every and 2 * whole >= sum(map(bool, found.values())):
                return f"Layer {layer} lacks {min(every - ends)!r}, which other layers have."
    bare = [n for n in layers if n not in attention and not any(found.get(n) for found in held.values())]
    if bare:
        of = f"layer {bare[0]}" + (f" and {len(bare) - 1} more" if len(bare) > 1 else "")
        return f"Neither attention nor {' or '.join(sorted(mixers))} is in {of}."
    return ""


def _mixers(spec: FamilySpec, stack: str) -> Mapping[str, set[str]]:
    """The containers of a family's layers that hold several matrices, and none that has a role."""
    ends: dict[str, set[str]] = defaultdict(set)
    roles: set[str] = set()
    for pattern in spec.patterns:
        _, numbered, end = pattern.template.partition("{layer}.")
        container, dotted, _ = end.partition(".")
        if not numbered or not dotted or (pattern.stack or spec.stack) != stack:
            continue
        if pattern.group in _ROLES:
            roles.add(container)
        elif pattern.group in _OTHERS and not pattern.optional and "{expert}" not in end:
            ends[container].add(f".{end}")
    return {name: several for name, several in ends.items() if len(several) > 1 and name not in roles}
