"""The recipes that come with the package, and how a name becomes a file."""

from __future__ import annotations

import difflib
from pathlib import Path

import weightscope
from weightscope.errors import RecipeError

_ENDINGS = (".yaml", ".yml")


def shipped_folder() -> Path:
    """Where they lie: beside this file in a wheel, `recipes/` in a checkout."""
    package = Path(str(weightscope.__file__)).parent
    in_the_wheel = package / "recipes" / "shipped"
    return in_the_wheel if in_the_wheel.is_dir() else package.parent / "recipes"


def shipped_recipes() -> dict[str, Path]:
    """Name, such as `paper_a/figure1`, to file; sorted."""
    folder = shipped_folder()
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.glob("*/*.yaml"))
    }


def find_recipe(name: str) -> Path:
    """The file of a recipe: an existing file wins over a shipped name, which may end in `.yaml`.

    Raises:
        RecipeError: Neither.
    """
    path = Path(name)
    shipped = shipped_recipes()
    try:
        path = path.expanduser()
        if path.is_file():
            return path
        is_folder = path.is_dir()
    except (OSError, RuntimeError, ValueError):  # too long for a path; no such user behind "~"; a NUL
        is_folder = False
    bare = name.removesuffix(".yaml").removesuffix(".yml")
    if bare in shipped:
        return shipped[bare]
    close = difflib.get_close_matches(bare, shipped, n=1, cutoff=0.6) or [
        known for known in shipped if known.endswith(f"/{bare}")
    ]
    raise RecipeError(
        f"The recipe {name!r} was to be run.",
        "It is a folder."
        if is_folder
        else "There is no such file."
        if path.suffix in _ENDINGS
        else "There is no such file, and none of this name comes with weightscope.",
        f"Did you mean '{close[0]}'?" if close else "'weightscope run --list' names those that come with it.",
    )
