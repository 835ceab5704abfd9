"""What a run of a recipe tells while it goes on, and what it is at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from weightscope.checkpoints.reference import CheckpointRef
from weightscope.errors import OptionError, WeightscopeError
from weightscope.recipes.spec import ModelSpec

if TYPE_CHECKING:
    from weightscope.sweep.run import Progress
    from weightscope.training.follow import TrainingProgress

Status = Literal["done", "kept", "failed"]


class Listener:
    """What a run says while it goes on; this one hears nothing."""

    def begins(self, label: str, reference: str, number: int, count: int) -> None:
        """A model is next."""

    def notes(self, sentences: Sequence[str], guesses: Sequence[str] = ()) -> None:
        """What was assumed or passed over."""

    def fails(self, label: str, error: WeightscopeError) -> None:
        """A model was given up; the run goes on."""

    def progress(self, label: str) -> AbstractContextManager[Callable[[Progress], None] | None]:
        """An observer for `analyze` while it works on a model."""
        return nullcontext()

    def training(self, label: str) -> AbstractContextManager[Callable[[TrainingProgress], None] | None]:
        """An observer for an experiment that trains."""
        return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOutcome:
    """What became of one model."""

    name: str
    """Its key in the recipe."""
    label: str
    """What it is called in figures and tables."""
    reference: str
    """The checkpoint, as it would be typed."""
    status: Status
    """`done`; `kept`, its report being there already; or `failed`."""
    error: WeightscopeError | None = None
    """Why it failed."""

    def as_dict(self) -> dict[str, Any]:
        """For the provenance."""
        error = self.error
        return {
            "label": self.label,
            "checkpoint": self.reference,
            "status": self.status,
            "error": None if error is None else {"type": type(error).__name__, "message": str(error)},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a recipe."""

    models: tuple[ModelOutcome, ...]
    """Each of its models, in its order."""
    files: tuple[Path, ...]
    """What was written for all of them together; empty if every one failed."""
    reservations: tuple[str, ...]
    """Sentences on what is there and not whole or not as expected; `--strict` minds them."""

    @property
    def failed(self) -> tuple[ModelOutcome, ...]:
        """The models that failed."""
        return tuple(model for model in self.models if model.status == "failed")


def stated(model: ModelSpec) -> str:
    """The reference as the recipe states it, whether it can be one or not."""
    revision = f"@{model.revision}" if model.revision else ""
    return f"{model.source}{revision}{f':{model.subfolder}' if model.subfolder else ''}"


def reference_of(model: ModelSpec) -> str:
    """The reference that a recipe's source, revision and subfolder amount to.

    Raises:
        CheckpointNotFound: The source is neither.
        OptionError: A revision or subfolder stands beside what has none, or is stated twice.
    """
    parsed = CheckpointRef.parse(model.source)
    for what, beside, within in (
        ("revision", model.revision, parsed.revision),
        ("subfolder", model.subfolder, parsed.subfolder),
    ):
        if beside and (parsed.kind != "hub" or within):
            raise OptionError(
                f"The {what} {beside!r} of {model.source!r} was asked for.",
                f"The source states {what} {within!r} itself."
                if within
                else "That is a path here, and revisions and subfolders are the Hub's.",
                f"Leave out one of the two {what}s."
                if within
                else f"Leave the {what} out, or write hf://{model.source} for the repository of this name.",
            )
    return str(
        replace(
            parsed,
            revision=model.revision or parsed.revision,
            subfolder=model.subfolder or parsed.subfolder,
        )
    )
