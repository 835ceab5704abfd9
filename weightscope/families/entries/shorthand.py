"""What keeps the entries short: several templates at once, and the buffers that old files hold."""

from collections.abc import Mapping
from typing import Literal

from weightscope.families.spec import Group, IgnoredPattern, MatrixPattern

MASK = "causal mask kept as a buffer"
POSITION_IDS = "position ids kept as a buffer"
FREQUENCIES = "rotary frequencies"


def matrix(
    template: str,
    group: Group,
    *,
    transposed: bool = False,
    layout: str | None = None,
    stack: str = "",
    kind: str = "self",
    optional: bool = False,
    expert: Literal["", "stacked", "shared"] = "",
) -> MatrixPattern:
    """One pattern."""
    return MatrixPattern(
        template=template,
        group=group,
        transposed=transposed,
        layout=layout,
        stack=stack,
        attention_kind=kind,
        optional=optional,
        expert=expert,
    )


def linears(
    container: str,
    roles: Mapping[str, Group],
    *,
    stack: str = "",
    expert: Literal["", "stacked", "shared"] = "",
) -> tuple[MatrixPattern, ...]:
    """The `.weight` of several plain `nn.Linear`s or embeddings of one container, such as a layer."""
    return tuple(
        matrix(f"{container}{name}.weight", group, stack=stack, expert=expert)
        for name, group in roles.items()
    )


def buffers(container: str, *names: str, reason: str) -> tuple[IgnoredPattern, ...]:
    """Tensors of one container that are no weights."""
    return tuple(IgnoredPattern(template=f"{container}{name}", reason=reason) for name in names)
