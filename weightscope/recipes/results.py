"""The files that a run of a recipe writes for all its models: beside, then renamed, all or none."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from weightscope.errors import OutputError
from weightscope.provenance import versions
from weightscope.publish import check_writable, publish
from weightscope.recipes.document import write_document
from weightscope.recipes.load import LoadedRecipe
from weightscope.recipes.outcome import ModelOutcome

RECIPE_FILE, PROVENANCE_FILE = "recipe.yaml", "provenance.json"


def write_results(
    folder: Path,
    loaded: LoadedRecipe,
    *,
    writers: Mapping[str, Callable[[Path], object]],
    provenance: Mapping[str, Any],
    optional: Iterable[str] = (),
    advice: str = "Make room there and run it again with --resume: the models' own reports stay.",
) -> tuple[Path, ...]:
    """Write files into the run's folder, with the recipe as it was run and with provenance, and return them.

    Args:
        folder: Made if it is not there; files of other names in it are left alone.
        loaded: The recipe.
        writers: Name of the file to what writes it to a path.
        optional: Names that an earlier run may have left and that this one does not write: they are removed.
        provenance: What stands in the provenance beside the recipe, the time and the versions.
        advice: What to do if that fails.

    Raises:
        OutputError: Something could not be written; what an earlier run left is untouched.
    """
    check_writable(folder)
    try:
        return tuple(
            publish(
                folder,
                {
                    **writers,
                    RECIPE_FILE: lambda path: path.write_text(resolved_text(loaded), encoding="utf-8"),
                    PROVENANCE_FILE: lambda path: path.write_text(
                        json.dumps(_provenance(loaded) | dict(provenance), indent=2, ensure_ascii=False)
                        + "\n",
                        encoding="utf-8",
                    ),
                },
                stale=optional,
            )
        )
    except OSError as error:
        raise OutputError(
            f"The results of '{loaded.name}' were to be written to '{folder}'.",
            f"That failed: {error.strerror or error}.",
            advice,
        ) from None


def resolved_text(loaded: LoadedRecipe) -> str:
    """The recipe as it was run: a recipe itself, which gives the same again."""
    settings = "".join(f"#   --set {setting!r}\n" for setting in loaded.settings)
    changed = f", with\n{settings}" if settings else ", as it was run\n"
    return f"# {' '.join(loaded.name.split())}{changed}{write_document(loaded.resolved())}"


def models_provenance(models: Sequence[ModelOutcome], seconds: float) -> dict[str, Any]:
    """What became of each model, and how long the run took."""
    return {"models": {model.name: model.as_dict() for model in models}, "seconds": {"total": seconds}}


def resolved_digest(loaded: LoadedRecipe) -> str:
    """Of the recipe as it is run, whatever its comments and its layout."""
    return sha256(json.dumps(loaded.resolved(), sort_keys=True).encode()).hexdigest()


def _provenance(loaded: LoadedRecipe) -> dict[str, Any]:
    return {
        "recipe": {
            "name": loaded.name,
            "sha256": loaded.sha256,
            "settings": list(loaded.settings),
            "resolved_sha256": resolved_digest(loaded),
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "platform": platform.platform(),
    }
