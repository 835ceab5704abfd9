"""What pydantic finds wrong in a recipe, in our words: where it stands, what is there, what to do."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from weightscope.errors import RecipeError, WeightscopeError
from weightscope.recipes.document import Document, Place
from weightscope.recipes.fields import described
from weightscope.recipes.spec import KINDS
from weightscope.wording import named, nearest

# What pydantic's types of error ask for.
_WANTED = {
    "string_type": "text",
    "string_too_short": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def refuse(document: Document, error: ValidationError) -> RecipeError:
    """The first thing wrong, and how many more there are."""
    # An unknown key often is a misspelt one that is then missing too: say the former.
    found = sorted(error.errors(), key=lambda entry: entry["type"] == "missing")
    sentence, advice = _describe(document, found[0])
    more = len(found) - 1
    if more:
        sentence += f" (and {more} more problem{'s' * (more > 1)})"
    return RecipeError(f"The recipe '{document.name}' was to be run.", f"{sentence}.", advice)


def _describe(document: Document, entry: Any) -> tuple[str, str]:
    kind, context = entry["type"], entry.get("ctx", {})
    path: Place = tuple(part for part in entry["loc"] if part != "[key]")
    if path and path[0] in KINDS:  # the branch of the union, which the file does not have
        path = path[1:]
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        asked = document.content.get("experiment")
        there = "there is no 'experiment'" if asked is None else f"there is no experiment {named(asked)}"
        hint = nearest(asked, KINDS) if isinstance(asked, str) else ""
        where = document.origin(("experiment",) if asked is not None else ())
        return f"At {where}, {there}{hint}", f"Write 'experiment:' and one of {', '.join(KINDS)}."
    path = tuple(context.get("at") or path)
    if kind == "extra_forbidden":
        known = _keys_beside(document, path)
        return (
            f"{document.place(path)}: there is no such key{nearest(str(path[-1]), known)}",
            f"The keys there are {', '.join(known)}.",
        )
    if isinstance(refused := context.get("error"), WeightscopeError):
        return f"{document.place(path)}: {described(refused)}", refused.advice
    if kind == "missing":
        return (
            f"{document.place(path)}: it is missing",
            f"Add it; the keys there are {', '.join(_keys_beside(document, path))}.",
        )
    if kind == "recipe":
        return f"{document.place(path)}: {context['found']}", context["advice"] or "Correct it."
    if kind == "too_short":
        return f"{document.place(path)}: it is empty", "Name at least one."
    if wanted := _WANTED.get(kind):
        quotes = wanted == "text" and isinstance(entry["input"], (int, float))
        return (
            f"{document.place(path)}: {named(entry['input'])} stands where {wanted} is needed",
            "Put it in quotes if it is meant." if quotes else "Correct it.",
        )
    return f"{document.place(path)}: {named(entry['input'])}; {entry['msg'].lower()}", "Correct it."


def _keys_beside(document: Document, path: Place) -> list[str]:
    """The keys that may stand where the last of the path stands."""
    part: type | None = KINDS.get(str(document.content.get("experiment")))
    rest = path[:-1]
    while part and rest:
        if not issubclass(part, BaseModel):
            return []
        annotation = part.model_fields[str(rest[0])].annotation
        rest = rest[2 if get_origin(annotation) is dict else 1 :]  # a name of a model is no key of ours
        part = _part_in(annotation)
    return _fields(part) if part else []


def _fields(part: type) -> list[str]:
    if issubclass(part, BaseModel):
        return list(part.model_fields)
    return [field.name for field in fields(part)] if is_dataclass(part) else []


def _part_in(annotation: Any) -> type | None:
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        return annotation
    return next(filter(None, map(_part_in, get_args(annotation))), None)
