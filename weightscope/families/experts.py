"""Mixtures of experts: where one tensor holds all experts of a layer, and how many a layer has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from weightscope.checkpoints.header import TensorInfo, piece_of
from weightscope.counting import counted
from weightscope.errors import FamilyMismatch
from weightscope.families.matrix import Matrix
from weightscope.families.spec import Group

# The largest layers have some thousands; a shape may say anything.
_MOST_EXPERTS = 100_000


def experts_of(info: TensorInfo, family: str, *, stated: int | None, routed: int | None) -> list[TensorInfo]:
    """The tensor of each expert, where a layer's experts are stored as one.

    Args:
        info: Of shape (experts, rows, columns), or (experts · rows, columns).
        family: For messages.
        stated: How many experts the config says there are.
        routed: How many the layer's router chooses among.

    Raises:
        FamilyMismatch: Shape, router and config contradict one another, or leave the number open.
    """
    counts = {
        f"its shape makes {info.shape[0]}": info.shape[0] if len(info.shape) == 3 else None,
        f"the router chooses among {routed}": routed,
        f"the config says {stated}": stated,
    }
    found = {how: count for how, count in counts.items() if count is not None}
    count = next(iter(found.values()), 0)
    if len(set(found.values())) > 1:
        problem = f"How many they are is contradictory: {', '.join(found)}."
    elif not count:
        problem = "How many they are is told neither by the shape, nor by a router, nor by the config."
    elif count > _MOST_EXPERTS:
        problem = f"{count:,} experts are beyond any model."
    elif info.shape[0] % count:
        problem = f"Its {info.shape[0]} rows do not divide into {count} experts."
    else:
        return [piece_of(info, number, count) for number in range(count)]
    raise FamilyMismatch(
        f"Tensor {info.name!r} of shape {list(info.shape)} was read as all experts of a layer, which is what "
        f"family {family!r} says.",
        problem,
        "Correct config.json, or pass another family with --family.",
    )


def check_experts(matrices: Sequence[Matrix], family: str, *, stated: int | None) -> None:
    """Refuse a layer with more experts than the config states or its router chooses among.

    Whether all are there is `wholeness.py`'s.

    Args:
        matrices: Of a whole checkpoint.
        family: For messages.
        stated: How many experts the config says there are.

    Raises:
        FamilyMismatch: There are more, or router and config contradict each other.
    """
    routers = {(m.stack, m.layer): m for m in matrices if m.group == Group.ROUTER}
    widths = {
        (m.stack, m.layer): m.shape[1] for m in matrices if m.group == Group.M1 and m.expert.isdecimal()
    }
    for place, experts in numbered_experts(matrices).items():
        stack, layer = place
        if stated is not None and len(experts) > stated:
            raise FamilyMismatch(
                f"The experts of layer {layer} of the {stack} were read as family {family!r}.",
                f"It has {counted(len(experts), 'expert')}, and the config says {stated}.",
                "Correct config.json, or pass another family with --family.",
            )
        if place in routers and (
            problem := _routed_otherwise(routers[place], experts, widths.get(place), stated)
        ):
            raise FamilyMismatch(
                f"{routers[place].parameter!r} was read as the router of layer {layer} of family {family!r}.",
                problem,
                "Check that the checkpoint is whole, or pass another family with --family.",
            )


def _routed_otherwise(router: Matrix, experts: Iterable[int], width: int | None, stated: int | None) -> str:
    """What of a router contradicts the experts, which are stored one by one; empty if nothing does."""
    rows, columns = router.shape
    if stated is not None and rows != stated:
        return f"It chooses among {rows} experts, and the config says {stated}."
    if rows <= max(experts):
        return f"It chooses among {rows} experts, and there is one of number {max(experts)}."
    if width is not None and columns != width:
        return f"It reads {columns} features, and the experts read {width}."
    return ""


def numbered_experts(matrices: Iterable[Matrix]) -> dict[tuple[str, int], dict[int, set[Group]]]:
    """For each layer with experts the roles that each of them has, by its number."""
    layers: dict[tuple[str, int], dict[int, set[Group]]] = {}
    for matrix in matrices:
        if matrix.expert.isdecimal() and matrix.layer is not None:
            experts = layers.setdefault((matrix.stack, matrix.layer), {})
            experts.setdefault(int(matrix.expert), set()).add(matrix.group)
    return layers
