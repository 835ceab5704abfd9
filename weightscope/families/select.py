"""Which matrices the user wants: groups and layers, parsed and checked."""

import re
from collections.abc import Iterable, Sequence

from weightscope.errors import SelectionError
from weightscope.families.matrix import Matrix
from weightscope.families.spec import Group
from weightscope.wording import nearest


def parse_groups(groups: str | Iterable[str]) -> tuple[Group, ...]:
    """Groups from `"Q,K"`, `"all"` or an iterable of names, in the order of the table.

    Raises:
        SelectionError: A name that is no group.
    """
    names = [part.strip() for part in groups.split(",")] if isinstance(groups, str) else list(groups)
    if names == ["all"]:
        return tuple(Group)
    known = {group.value: group for group in Group}
    for name in names:
        if name not in known:
            raise SelectionError(
                f"The group {name!r} was asked for.",
                f"There is no such group{nearest(str(name), known)}. The groups are: {', '.join(known)}.",
                "Use some of these, separated by commas, or 'all'.",
            )
    return tuple(group for group in Group if group.value in names)


def parse_layers(layers: str | int | Iterable[int] | None) -> tuple[int, ...] | None:
    """Layers from `"0-3,7"` or an iterable of numbers, sorted; None for all.

    Raises:
        SelectionError: The text is no list of numbers and ranges.
    """
    if layers is None:
        return None
    if isinstance(layers, int):
        return (layers,)
    if not isinstance(layers, str):
        return tuple(sorted(set(layers)))
    chosen: set[int] = set()
    for part in layers.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise SelectionError(
                f"The layers {layers!r} were asked for.",
                f"{part!r} is no layer and no range of layers.",
                "Write them like 0-3,7, the first layer being 0.",
            )
        chosen.update(range(first, last + 1))
    return tuple(sorted(chosen))


def select(
    matrices: Sequence[Matrix], groups: Sequence[Group], layers: Sequence[int] | None
) -> tuple[Matrix, ...]:
    """The matrices of these groups and layers; with layers given, those outside the layers are out.

    Raises:
        SelectionError: A layer that the checkpoint does not have.
    """
    if layers is not None:
        present = sorted({matrix.layer for matrix in matrices if matrix.layer is not None})
        for layer in layers:
            if layer not in present:
                found = f"its layers are {present[0]} to {present[-1]}" if present else "it has no layers"
                raise SelectionError(
                    f"Layer {layer} was asked for.",
                    f"The checkpoint does not have it: {found}.",
                    "Choose among these.",
                )
    return tuple(
        matrix for matrix in matrices if matrix.group in groups and (layers is None or matrix.layer in layers)
    )
