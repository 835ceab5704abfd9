"""Says of a test which families' spellings it judges by formula, for `weightscope families --verified`."""

from collections.abc import Callable
from typing import Any

FAMILIES_BY_FORMULA: dict[str, set[str]] = {}
"""Family to the tests that put one of its spellings together."""


def by_formula(*families: str) -> Callable[[Any], Any]:
    """Mark a test that judges a spelling of these families without transformers writing it."""

    def mark(test: Any) -> Any:
        for family in families:
            FAMILIES_BY_FORMULA.setdefault(family, set()).add(test.__name__)
        return test

    return mark
