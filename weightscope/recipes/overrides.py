"""`--set key=value`: dotted keys into a recipe, values as in its file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weightscope.errors import RecipeError
from weightscope.recipes.document import Document, parse_value
from weightscope.recipes.training_spec import TRAINING
from weightscope.wording import named, nearest

# They belong to the source beside which they stand, and mean nothing beside another one.
_OF_THE_SOURCE = ("revision", "subfolder")


def apply_overrides(document: Document, settings: Sequence[str]) -> None:
    """Write `key=value` settings into a document, in their order.

    Of a recipe that trains, `samples=10` is short for `setting.samples=10`.

    A value of null means the key's default, and for a whole model that it is left out. Another `source` of a
    model takes the `revision` and `subfolder` of the recipe's own away too.

    Raises:
        RecipeError: A setting that is no `key=value`, or a key that leads nowhere.
    """
    parsed = [(setting, *_split(document, setting)) for setting in settings]
    for setting, keys, _ in parsed:
        if len(keys) == 3 and keys[0] == "models" and keys[2] == "source":
            for name in _OF_THE_SOURCE:
                _put(document, (*keys[:2], name), None, setting)
    for setting, keys, value in parsed:
        _put(document, keys, value, setting)


def _split(document: Document, setting: str) -> tuple[tuple[str, ...], Any]:
    recipe = document.name
    key, equals, text = setting.partition("=")
    keys = tuple(part.strip() for part in key.split("."))
    if not equals or not all(keys):
        raise RecipeError(
            f"The setting '--set {setting}' was given for the recipe '{recipe}'.",
            "It is not of the form key=value.",
            "Write for example --set options.device=cpu or --set models.phi-2.source=./phi-2.",
        )
    kind = TRAINING.get(str(document.content.get("experiment")))
    if kind and len(keys) == 1 and keys[0] not in kind.model_fields:
        keys = ("setting", *keys)  # the numbers of an experiment, by their own names
    try:
        return keys, parse_value(text)
    except ValueError as error:
        raise RecipeError(
            f"The setting '--set {setting}' was given for the recipe '{recipe}'.",
            f"The value of '{key}' is not YAML: {error}.",
            "Put it in quotes, for example --set 'title=\"a: b\"'.",
        ) from None


def _put(document: Document, keys: tuple[str, ...], value: Any, setting: str) -> None:
    place: Any = document.content
    for depth, key in enumerate(keys[:-1], start=1):
        if key not in place and keys[0] == "models":
            raise _no_model(document, keys, setting)
        # A key that does not exist is made and then judged by the schema, like one in the file.
        place = place.setdefault(key, {})
        if place is None:
            place = _emptied(document.content, keys[:depth])
        if not isinstance(place, dict):
            raise RecipeError(
                f"The setting '--set {setting}' was given for the recipe '{document.name}'.",
                f"'{'.'.join(keys[:depth])}' is {named(place)} there and has no keys of its own.",
                f"Set '{'.'.join(keys[:depth])}' as a whole.",
            )
    for path in [path for path in document.origins if path[: len(keys)] == keys]:
        del document.origins[path]
    document.origins[keys] = f"--set {setting}"
    if value is None and keys[0] == "models" and len(keys) == 2:
        if keys[1] not in place:
            raise _no_model(document, keys, setting)
        del place[keys[1]]
        return
    place[keys[-1]] = value


def _emptied(content: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """`options:` with nothing behind it is a mapping that is still empty."""
    for key in keys[:-1]:
        content = content[key]
    content[keys[-1]] = {}
    return content[keys[-1]]  # type: ignore[no-any-return]


def _no_model(document: Document, keys: tuple[str, ...], setting: str) -> RecipeError:
    """To misspell a model's name must not add one."""
    models = document.content.get("models")
    known = list(models) if isinstance(models, dict) else []
    return RecipeError(
        f"The setting '--set {setting}' was given for the recipe '{document.name}'.",
        f"It has no model '{keys[1]}'{nearest(keys[1], known)}.",
        f"Its models are {', '.join(known) or 'none'}; a further one is added as a whole, "
        f"--set 'models.{keys[1]}={{source: …}}'.",
    )
