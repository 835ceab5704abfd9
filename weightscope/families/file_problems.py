"""What is wrong with a family file, in our words: the line, what stands there, what may stand there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from weightscope.counting import counted
from weightscope.families.spec import CopyPattern, FamilySpec, Group, IgnoredPattern, MatrixPattern
from weightscope.wording import named, nearest

if TYPE_CHECKING:
    import yaml
    from pydantic import ValidationError

_ENTRIES: dict[str, type] = {"patterns": MatrixPattern, "ignored": IgnoredPattern, "copies": CopyPattern}
_UNKNOWN_FIELD = ("extra_forbidden", "unexpected_keyword_argument")
_NO_MAPPING = ("dataclass_type", "dict_type", "mapping_type")
_WANTED = {
    **dict.fromkeys(_NO_MAPPING, "a mapping"),
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "tuple_type": "a list",
    "list_type": "a list",
}
# A list that is closed where it begins, and comments or empty lines before an entry all the same.
_CLOSED = re.compile(r"^(\w+): *\[\] *(?:#.*)?\n(?:[ \t]*(?:#.*)?\n)*[ \t]*- ", re.MULTILINE)
# What YAML reads as a mapping of its own, and was meant for a template.
_BARE_BRACE = re.compile(r"[:-] +\{(prefix|layer|expert)\}")


class Problem(NamedTuple):
    """What was found, and what to do about it; the latter is empty where the fields are to be looked up."""

    found: str
    advice: str = ""


def of_fields(text: str, error: ValidationError) -> Problem:
    """The most telling thing that pydantic found, and how many more there are.

    Args:
        text: Of the file, which is YAML.
        error: As validating its content as a `FamilySpec` raised it.
    """
    # An unknown field often is a misspelt one that is then missing too: say the former.
    found = sorted(error.errors(), key=lambda e: (e["type"] == "missing", e["type"] not in _UNKNOWN_FIELD))
    sentence, advice = _describe(text, found[0])
    more = f" (and {counted(len(found) - 1, 'more problem')})" if len(found) > 1 else ""
    return Problem(f"{sentence}{more}.", advice)


def of_yaml(text: str, error: Exception, name: str) -> Problem:
    """Why a text is no YAML, and in which line.

    Args:
        text: Of the file.
        error: As YAML's reader raised it.
        name: Of the file.
    """
    line, why = _line_and_reason(text, error)
    lines = text.splitlines()
    brace = next((n for n in range(1, len(lines) + 1) if _BARE_BRACE.search(lines[n - 1])), None)
    advice = ""
    if brace is not None:
        placeholder = _BARE_BRACE.search(lines[brace - 1])
        advice = (
            f"In line {brace} put what begins with {{{placeholder[1]}}} in quotes." if placeholder else ""
        )
    place = name if line is None else f"{name}, line {line}"
    return Problem(f"It is not YAML: {place}: {' '.join(why.split())[:200]}.", advice)


def _line_and_reason(text: str, error: Exception) -> tuple[int | None, str]:
    import yaml

    if closed := _CLOSED.search(text):
        line = text.count("\n", 0, closed.start()) + 1
        return line, f"'{closed[1]}: []' is a whole list, and entries follow it"
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        begun = error.context_mark
        after = f", {error.context} of line {begun.line + 1}" if begun and begun.line != mark.line else ""
        return mark.line + 1, f"{error.problem or error.context}{after}"
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position] if isinstance(error.position, int) else ""
        return before.count("\n") + 1, f"{error.reason}, and there is {chr(error.character)!r}"
    if isinstance(error, RecursionError):
        return None, "it is nested too deep"
    return None, str(error)


def _describe(text: str, entry: Mapping[str, Any]) -> Problem:
    kind, path, given = entry["type"], tuple(entry["loc"]), entry["input"]
    if not path:
        if given is None:
            return Problem("There is nothing in the file, where a mapping of fields is needed")
        return Problem(f"In the file stands {named(given)}, where a mapping of fields is needed")
    line, entry_of = _place(text, path)
    field, known = str(path[-1]), _fields_beside(path)
    if kind in _UNKNOWN_FIELD:
        found = f"In line {line}{entry_of} there is no field {field!r}{nearest(field, known)}"
        return Problem(found, f"The fields there are {', '.join(known)}." if known else "")
    if kind == "missing":
        found = f"In line {line}{entry_of} there is no {field!r}" if len(path) > 1 else f"It has no {field!r}"
        return Problem(found, f"Add it; the fields there are {', '.join(known)}." if known else "")
    where = f"In line {line}{entry_of} at {'.'.join(map(str, path))}"
    if kind == "enum" and field == "group":
        groups = [group.value for group in Group]
        hint = nearest(str(given), groups)
        return Problem(
            f"{where}: there is no group {named(given)}{hint}", f"The groups are {', '.join(groups)}."
        )
    if wanted := _WANTED.get(kind):
        return Problem(f"{where}: {named(given)} stands where {wanted} is needed")
    return Problem(f"{where}: {named(given)}; {str(entry['msg']).lower()}")


def _fields_beside(path: Sequence[str | int]) -> list[str]:
    """The fields that may stand where the last of the path stands."""
    if len(path) == 1:
        return [field.name for field in fields(FamilySpec)]
    kind = _ENTRIES.get(str(path[0])) if len(path) == 3 else None
    return [field.name for field in fields(kind)] if kind else []


def _place(text: str, path: Sequence[str | int]) -> tuple[int, str]:
    """The line of the innermost part of a path that is there, and of which entry it is, by its template."""
    import yaml

    node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
    line, template = 1, ""
    for part in path:
        inner: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    inner, line = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            inner = node.value[part]
            line = inner.start_mark.line + 1
        if inner is None:
            break
        node = inner
        if isinstance(node, yaml.MappingNode):
            named_so = (v.value for k, v in node.value if k.value == "template")
            template = str(next(named_so, template))
    return line, f" (template {template[:200]!r})" if template else ""
