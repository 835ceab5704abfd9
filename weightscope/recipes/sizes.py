"""`size: quick`: one of the `sizes` of a recipe that trains, laid over its setting."""

from __future__ import annotations

from weightscope.errors import RecipeError
from weightscope.recipes.document import Document, Place
from weightscope.recipes.training_spec import PAPER, TRAINING
from weightscope.recipes.wording import named, nearest


def trains(document: Document) -> bool:
    """Whether the recipe is of a kind that has sizes."""
    return document.content.get("experiment") in TRAINING


def choose_size(document: Document) -> None:
    """Lay the chosen size over the setting, and forget the others; nothing if the recipe does not train.

    Raises:
        RecipeError: There is no such size, or it is no mapping.
    """
    if not trains(document):
        return
    sizes = document.content.pop("sizes", None) or {}
    size = document.content.get("size", PAPER)
    if size == PAPER:
        return
    if not isinstance(sizes, dict) or not isinstance(sizes.get(size), dict):
        known = [PAPER, *sizes] if isinstance(sizes, dict) else [PAPER]
        if not sizes:  # the recipe as an earlier run wrote it: its size is laid over already
            return
        hint = nearest(size, known) if isinstance(size, str) else ""
        raise RecipeError(
            f"The recipe '{document.name}' was to be run at size {named(size)}.",
            f"At {document.origin(('size',))}: it has no such size{hint}.",
            f"Its sizes are {', '.join(map(str, known))}.",
        )
    setting = document.content.setdefault("setting", {})
    if not isinstance(setting, dict):
        return  # the schema says what is wrong with it
    for key, value in sizes[size].items():
        setting[key] = value
        _move(document, ("sizes", size, key), ("setting", key))


def _move(document: Document, old: Place, new: Place) -> None:
    """What is said of a value's place goes with it."""
    for path in [path for path in document.origins if path[: len(new)] == new]:
        del document.origins[path]
    for path, origin in list(document.origins.items()):
        if path[: len(old)] == old:
            document.origins[new + path[len(old) :]] = origin
