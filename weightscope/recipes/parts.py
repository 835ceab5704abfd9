"""What recipes of every kind have: how their mappings are read, and which published result they reproduce."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from weightscope.recipes.fields import Text


class Part(BaseModel):
    """A mapping of a recipe: exact types, no unknown key; a key without a value has its default."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {k: v for k, v in content.items() if v is not None or k not in cls.model_fields}


class PaperSpec(Part):
    """Which published result a recipe reproduces."""

    reference: Text
    """Authors, title, year."""
    item: Text
    """The table or figure."""
    outcome: Text
    """What must come out, in a sentence."""


class Experiment(Part):
    """What every kind of recipe has."""

    experiment: str
    """The kind."""
    title: Text
    """In one line."""
    paper: PaperSpec | None = None
    """What it reproduces."""
