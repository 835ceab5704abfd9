"""Mixtures of experts: where one tensor holds all experts of a layer, and whether all of them are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from weightscope.checkpoints.header import TensorInfo, piece_of
from weightscope.errors import FamilyMismatch
from weightscope.families.matrix import Matrix
from weightscope.families.spec import FEED_FORWARD_GROUPS

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
    """Refuse a layer that lacks some of its experts.

    Args:
        matrices: Of a whole checkpoint.
        family: For messages.
        stated: How many experts the config says there are.

    Raises:
        FamilyMismatch: One is not there, or more than the config states.
    """
    for (stack, layer), numbers in _numbers(matrices):
        most = stated or 1 + max(max(found) for found in numbers.values())
        for group, found in numbers.items():
            if len(found) < most:
                missing = next(number for number in range(most) if number not in found)
                problem = f"Of {most} experts it has {len(found)} in {group}; number {missing} is not there."
            elif len(found) > most:
                problem = f"It has {len(found)} experts in {group}, and the config says {most}."
            else:
                continue
            raise FamilyMismatch(
                f"The experts of layer {layer} of the {stack} were read as family {family!r}.",
                problem,
                "Fetch it again, correct the number in config.json, or take it as it is with --partial.",
            )


def _numbers(matrices: Iterable[Matrix]) -> Iterator[tuple[tuple[str, int], dict[str, set[int]]]]:
    """For each layer with numbered experts their numbers, by group."""
    layers: dict[tuple[str, int], dict[str, set[int]]] = {}
    for matrix in matrices:
        if matrix.expert.isdecimal() and matrix.layer is not None and matrix.group in FEED_FORWARD_GROUPS:
            groups = layers.setdefault((matrix.stack, matrix.layer), {})
            groups.setdefault(matrix.group, set()).add(int(matrix.expert))
    yield from layers.items()
