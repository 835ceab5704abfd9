"""No two matrices in one place: copies are told apart from contradictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from weightscope.checkpoints.header import TensorInfo
from weightscope.errors import FamilyMismatch
from weightscope.families.guess import UNKNOWN
from weightscope.families.matching import Match
from weightscope.families.matrix import Matrix
from weightscope.families.registry import FAMILIES
from weightscope.families.spec import FamilySpec, Group
from weightscope.families.split import unmatched


def without_duplicates(
    matrices: list[Matrix],
    spec: FamilySpec,
    matches: Mapping[str, Match | None],
    same: Callable[[TensorInfo, TensorInfo], bool],
) -> tuple[list[Matrix], dict[str, str]]:
    """The matrices, no two in one place, and the tensors that are copies of another in their place.

    Of two guesses for one place the later one is no guess at all.
    """
    seen: dict[tuple[object, ...], Matrix] = {}
    settled: list[Matrix] = []
    copies: dict[str, str] = {}
    without_role: set[str] = set()
    compared: dict[tuple[TensorInfo, TensorInfo], bool] = {}
    for matrix in matrices:
        place = _only_place(matrix, matches)
        first = matrix if place is None else seen.setdefault(place, matrix)
        if first is matrix:
            settled.append(matrix)
            continue
        (one,), (other,) = first.slices, matrix.slices
        pair = (one.tensor, other.tensor)
        if pair not in compared:
            compared[pair] = same(*pair)
        guesses = {match.pattern for info in pair if (match := matches[info.name])}
        if compared[pair] and (one.rows, one.transposed) == (other.rows, other.transposed):
            copies[other.tensor.name] = one.tensor.name
        elif spec.name == UNKNOWN and len(guesses) > 1:
            if other.tensor.name not in without_role:  # once, although it may have been split
                settled.append(unmatched(other.tensor))
                without_role.add(other.tensor.name)
        else:
            where = "" if matrix.layer is None else f" of layer {matrix.layer}"
            raise FamilyMismatch(
                f"The tensors were given their roles by family {spec.name!r}.",
                f"Both {first.parameter!r} and {matrix.parameter!r} are {matrix.group}{where}, and not the "
                "same weights.",
                "Remove one of them, or describe the checkpoint in a family file and pass it with --family."
                if spec in FAMILIES.values()
                else "Correct the family file: one of the two has another role.",
            )
    used = {part.tensor.name for matrix in settled for part in matrix.slices}
    return settled, {name: owner for name, owner in copies.items() if name not in used}


def _only_place(matrix: Matrix, matches: Mapping[str, Match | None]) -> tuple[object, ...] | None:
    """What no two may be; outside the layers several share a group, but not a template."""
    if matrix.layer is not None:
        alone = matrix.group not in (Group.OTHER, Group.CONV)
        place = (matrix.stack, matrix.layer, matrix.attention_kind, matrix.group, matrix.expert, matrix.head)
        return place if alone else None
    match = matches[matrix.slices[0].tensor.name]
    return None if match is None else (match.pattern.template, matrix.group, matrix.expert)
