"""Numbers in sentences: one of a thing, or several."""

from collections.abc import Iterable


def counted(number: int, one: str, several: str = "") -> str:
    """`1 tensor`, `2 tensors`.

    Args:
        number: How many.
        one: The noun.
        several: Its plural; the noun and an `s` if left out.

    Examples:
        >>> counted(1, "tensor"), counted(0, "tensor"), counted(2, "matrix", "matrices")
        ('1 tensor', '0 tensors', '2 matrices')
    """
    return f"{number} {one if number == 1 else several or one + 's'}"


def listed(words: Iterable[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`; nothing of none."""
    *first, final = [*words] or [""]
    return f" {last} ".join(part for part in (", ".join(first), final) if part)
