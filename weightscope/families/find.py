"""One matrix by its key columns, or what might have been meant."""

from collections.abc import Mapping, Sequence
from typing import Any

from weightscope.counting import counted, listed
from weightscope.errors import SelectionError
from weightscope.families.matrix import Matrix
from weightscope.families.select import parse_groups

# Values that are listed one by one; of more the first and the last.
_FEW = 8


def find_matrix(matrices: Sequence[Matrix], **key: Any) -> Matrix:
    """The one matrix with these key columns, such as `layer=5, group="Q"`.

    Raises:
        SelectionError: None or several have them.
    """
    if "group" in key:
        key["group"] = parse_groups([key["group"]])[0]
    if "expert" in key:
        key["expert"] = str(key["expert"])
    found = [matrix for matrix in matrices if _has(matrix, key)]
    if len(found) == 1:
        return found[0]
    asked = ", ".join(f"{name}={value!s}" for name, value in key.items())
    what = f"{len(found)} matrices have it, such as {found[0].parameter!r}" if found else "None has it"
    raise SelectionError(
        f"The matrix with {asked} was asked for.",
        f"{what}; the checkpoint has {counted(len(matrices), 'matrix', 'matrices')}.",
        f"{_nearby(matrices, key)}; .matrices lists them all.",
    )


def _has(matrix: Matrix, key: Mapping[str, Any]) -> bool:
    return all(getattr(matrix, name) == value for name, value in key.items())


def _nearby(matrices: Sequence[Matrix], key: Mapping[str, Any]) -> str:
    """What a key might be: where all its other columns fit, the values that one has."""
    for name in key if len(key) > 1 else ():
        others = {other: value for other, value in key.items() if other != name}
        values = list(dict.fromkeys(getattr(matrix, name) for matrix in matrices if _has(matrix, others)))
        if values and key[name] not in values:
            some = [str(value) for value in values]
            shown = listed(some) if len(some) < _FEW else f"{some[0]} to {some[-1]}"
            return f"With the rest of it, {name} is {shown}"
    return "Give stack, layer, attention_kind, group, expert or parameter"
