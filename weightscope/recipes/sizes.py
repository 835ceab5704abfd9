"""`size: quick`: one of the `sizes` of a recipe that trains, laid over its setting."""

from __future__ import annotations

from typing import Any

from weightscope.errors import RecipeError
from weightscope.recipes.document import Document, Place
from weightscope.recipes.training_spec import PAPER, TRAINING, setting_keys
from weightscope.wording import named, nearest


def trains(document: Document) -> bool:
    """Whether the recipe is of a kind that has sizes."""
    kind = document.content.get("experiment")
    return isinstance(kind, str) and kind in TRAINING


def choose_size(document: Document) -> None:
    """Lay the chosen size over the setting, and forget the others; nothing if the recipe does not train.

    Raises:
        RecipeError: There is no such size, or one of them is no mapping of numbers.
    """
    if not trains(document):
        return
    sizes = _sizes(document)
    size = document.content.get("size", PAPER)
    if size is None:
        size = document.content["size"] = PAPER
    written = not sizes and not document.origin(("size",)).startswith("--set")
    if size == PAPER or (written and isinstance(size, str)):
        return  # as an earlier run wrote it: its size is laid over already
    if not isinstance(size, str) or size not in sizes:
        known = [PAPER, *sizes]
        hint = nearest(size, known) if isinstance(size, str) else ""
        raise RecipeError(
            f"The recipe '{document.name}' was to be run at size {named(size)}.",
            f"At {document.origin(('size',))}: it has no such size{hint}.",
            f"Its sizes are {', '.join(known)}."
            if sizes
            else "It has no 'sizes'; one that a run wrote has one size only: take the recipe it came from.",
        )
    setting = document.content.get("setting")
    if setting is None:
        setting = document.content["setting"] = {}
    if not isinstance(setting, dict):
        return  # the schema says what is wrong with it
    for key, value in sizes[size].items():
        setting[key] = value
        _move(document, ("sizes", size, key), ("setting", key))


def _sizes(document: Document) -> dict[str, dict[str, Any]]:
    """The sizes by their names, taken out of the document; a key of one that is not chosen is checked too."""
    sizes = document.content.pop("sizes", None) or {}
    known = setting_keys(str(document.content["experiment"]))
    if not isinstance(sizes, dict):
        raise _wrong(document, ("sizes",), f"{named(sizes)} stands where a mapping is needed")
    for name, numbers in sizes.items():
        if name == PAPER:
            raise _wrong(document, ("sizes", name), f"'{PAPER}' is the setting as it is written")
        if not isinstance(numbers, dict):
            raise _wrong(document, ("sizes", name), f"{named(numbers)} stands where a mapping is needed")
        for key in numbers:
            if key not in known:
                found = f"there is no such key{nearest(key, known)}"
                raise _wrong(document, ("sizes", name, key), found, f"The keys there are {', '.join(known)}.")
    return sizes


def _wrong(document: Document, path: Place, found: str, advice: str = "Correct it.") -> RecipeError:
    asked = f"The recipe '{document.name}' was to be run."
    return RecipeError(asked, f"{document.place(path)}: {found}.", advice)


def _move(document: Document, old: Place, new: Place) -> None:
    """What is said of a value's place goes with it."""
    for path in [path for path in document.origins if path[: len(new)] == new]:
        del document.origins[path]
    for path, origin in list(document.origins.items()):
        if path[: len(old)] == old:
            document.origins[new + path[len(old) :]] = origin
