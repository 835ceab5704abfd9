"""Mixtures of experts: where one tensor holds all experts of a layer, and how many a layer has."""

from __future__ import annotations

from collections.abc import Iterable

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


def check_experts(matrices: Iterable[Matrix], family: str, *, stated: int | None) -> None:
    """Refuse a layer with more experts than the config states; whether all are there is `wholeness.py`'s.

    Args:
        matrices: Of a whole checkpoint.
        family: For messages.
        stated: How many experts the config says there are.

    Raises:
        FamilyMismatch: There are more.
    """
    for (stack, layer), experts in numbered_experts(matrices).items():
        if stated is not None and len(experts) > stated:
            raise FamilyMismatch(
                f"The experts of layer {layer} of the {stack} were read as family {family!r}.",
                f"It has {counted(len(experts), 'expert')}, and the config says {stated}.",
                "Correct config.json, or pass another family with --family.",
            )


def numbered_experts(matrices: Iterable[Matrix]) -> dict[tuple[str, int], dict[int, set[Group]]]:
    """For each layer with experts the roles that each of them has, by its number."""
    layers: dict[tuple[str, int], dict[int, set[Group]]] = {}
    for matrix in matrices:
        if matrix.expert.isdecimal() and matrix.layer is not None:
            experts = layers.setdefault((matrix.stack, matrix.layer), {})
            experts.setdefault(int(matrix.expert), set()).add(matrix.group)
    return layers
