"""`load_recipe`: from a name or a path to a recipe that is checked, settings and all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pydantic import ValidationError

from weightscope.errors import RecipeError
from weightscope.recipes.document import read_document
from weightscope.recipes.overrides import apply_overrides
from weightscope.recipes.problems import refuse
from weightscope.recipes.shipped import find_recipe, shipped_recipes
from weightscope.recipes.sizes import choose_size
from weightscope.recipes.spec import RECIPE, AnyRecipe, InspectRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRecipe:
    """A recipe and where it came from."""

    name: str
    """As asked for: a shipped name or a path."""
    stem: str
    """The last part of its name: what its folder and files are called."""
    recipe: AnyRecipe
    """What is to be done."""
    content: dict[str, Any]
    """The same as plain values."""
    settings: tuple[str, ...]
    """What `--set` changed."""
    sha256: str
    """Of the file's bytes, before the settings."""

    def resolved(self) -> dict[str, Any]:
        """The recipe as it is run, ready for YAML: with the settings, and with the name of its files."""
        part = "table" if isinstance(self.recipe, InspectRecipe) else "figure"
        stated = _without_empty(self.content)
        return {**stated, part: {**stated.get(part, {}), "file": self.file}}

    @property
    def file(self) -> str:
        """What the joint picture or table is called, without its ending."""
        part = self.recipe.table if isinstance(self.recipe, InspectRecipe) else self.recipe.figure
        return part.file or self.stem


def load_recipe(name: str, settings: Sequence[str] = ()) -> LoadedRecipe:
    """Read and check a recipe.

    Args:
        name: A shipped recipe's name, or the path of a YAML file.
        settings: `key=value` with dotted keys, applied in order and checked like the file itself.

    Raises:
        RecipeError: No such recipe, or something in it is wrong; the message names file, line and key.
    """
    path = find_recipe(name)
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(name, f"It cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise _unreadable(
            name, f"It is no UTF-8 text: byte {error.start} is {content[error.start]:#04x}."
        ) from None
    document = read_document(text, name=name, file=path.name)
    first = [setting for setting in settings if setting.partition("=")[0].strip() == "size"]
    apply_overrides(document, first)
    choose_size(document)
    apply_overrides(document, [setting for setting in settings if setting not in first])
    try:
        recipe = RECIPE.validate_python(document.content)
    except ValidationError as error:
        raise refuse(document, error) from None
    return LoadedRecipe(
        name=name,
        stem=re.sub(r"[^\w. -]+", "-", path.stem)[:100].strip(" .-") or "recipe",
        recipe=recipe,
        content=document.content,
        settings=tuple(settings),
        sha256=sha256(content).hexdigest(),
    )


def list_recipes() -> dict[str, LoadedRecipe]:
    """Every recipe that comes with the package, by name."""
    return {name: load_recipe(str(path)) for name, path in shipped_recipes().items()}


def _without_empty(content: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_empty(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if value is not None
    }


def _unreadable(name: str, found: str) -> RecipeError:
    return RecipeError(f"The recipe '{name}' was to be run.", found, "Check the file and its permissions.")
