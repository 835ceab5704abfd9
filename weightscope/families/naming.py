"""How templates and names of a family may be written."""

import re

from weightscope.errors import UnknownFamily

_PLACEHOLDERS = {"prefix", "layer", "expert"}


def check_template(template: str) -> None:
    """Refuse a name template that could never match.

    Raises:
        UnknownFamily: It holds other placeholders, or one twice, or stray braces, or nothing.
    """
    names = re.findall(r"\{(.*?)\}", template)
    stray = re.sub(r"\{\w+\}", "", template)
    unknown = [name for name in names if name not in _PLACEHOLDERS]
    if unknown or "{" in stray or "}" in stray or len(set(names)) < len(names) or not template:
        raise UnknownFamily(
            f"The name template {template!r} was given.",
            "A template may hold {prefix}, {layer} and {expert}, each at most once, and plain text.",
            "Correct the template.",
        )


def check_word(what: str, word: str) -> None:
    """Refuse what cannot be a cell of tables and the legend of a figure.

    Raises:
        UnknownFamily: It has other characters, or too many.
    """
    if not re.fullmatch(r"[\w.-]{1,60}", word):
        raise UnknownFamily(
            f"The {what} {word[:80]!r} was given.",
            "A name has letters, digits, '.', '_' and '-', at most 60.",
            "Choose another.",
        )
