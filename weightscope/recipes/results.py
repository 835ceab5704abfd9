"""The files that a run of a recipe writes for all its models: beside, then renamed, all or none."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from errno import EISDIR
from hashlib import sha256
from pathlib import Path
from typing import Any

from weightscope.errors import OutputError
from weightscope.provenance import versions
from weightscope.recipes.document import write_document
from weightscope.recipes.load import LoadedRecipe
from weightscope.recipes.outcome import ModelOutcome
from weightscope.report import check_writable

RECIPE_FILE, PROVENANCE_FILE = "recipe.yaml", "provenance.json"
_STAGING = ".weightscope-"


def write_results(
    folder: Path,
    loaded: LoadedRecipe,
    models: Sequence[ModelOutcome],
    *,
    writers: Mapping[str, Callable[[Path], None]],
    optional: Iterable[str] = (),
    seconds: float,
) -> tuple[Path, ...]:
    """Write files into the run's folder, with the recipe as it was run and with provenance, and return them.

    Args:
        folder: Made if it is not there; files of other names in it are left alone.
        loaded: The recipe.
        models: What became of each model.
        writers: Name of the file to what writes it to a path.
        optional: Names that an earlier run may have left and that this one does not write: they are removed.
        seconds: What the run took so far.

    Raises:
        OutputError: Something could not be written; what an earlier run left is untouched.
    """
    check_writable(folder)
    for left in folder.glob(f"{_STAGING}*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
    try:
        for name, write in writers.items():
            write(staging / name)
        (staging / RECIPE_FILE).write_text(resolved_text(loaded), encoding="utf-8")
        (staging / PROVENANCE_FILE).write_text(
            json.dumps(_provenance(loaded, models, seconds), indent=2, ensure_ascii=False) + "\n",
            encoding="utf-8",
        )
        written = [*writers, RECIPE_FILE, PROVENANCE_FILE]
        for name in written:  # all or none: what would fail half-way is looked for first
            if (folder / name).is_dir():
                raise IsADirectoryError(EISDIR, "Is a directory", str(folder / name))
        for name in written:
            (staging / name).replace(folder / name)
        for name in set(optional) - set(written):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"The results of '{loaded.name}' were to be written to '{folder}'.",
            f"That failed: {error.strerror or error}.",
            "Make room there and run it again with --resume: the models' own reports stay.",
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return tuple(folder / name for name in written)


def resolved_text(loaded: LoadedRecipe) -> str:
    """The recipe as it was run: a recipe itself, which gives the same again."""
    settings = "".join(f"#   --set {setting!r}\n" for setting in loaded.settings)
    changed = f", with\n{settings}" if settings else ", as it was run\n"
    return f"# {' '.join(loaded.name.split())}{changed}{write_document(loaded.resolved())}"


def _provenance(loaded: LoadedRecipe, models: Sequence[ModelOutcome], seconds: float) -> dict[str, Any]:
    return {
        "recipe": {
            "name": loaded.name,
            "sha256": loaded.sha256,
            "settings": list(loaded.settings),
            # Of the recipe as it was run, whatever its comments and its layout.
            "resolved_sha256": sha256(json.dumps(loaded.resolved(), sort_keys=True).encode()).hexdigest(),
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "platform": platform.platform(),
        "models": {model.name: model.as_dict() for model in models},
        "seconds": {"total": seconds},
    }
