"""Which family a checkpoint belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as brief  # a config is somebody else's text, of any length
from typing import Any

from weightscope.checkpoints.header import TensorIndex
from weightscope.errors import FamilyMismatch
from weightscope.families.guess import UNKNOWN, guess_family
from weightscope.families.registry import FAMILIES
from weightscope.families.spec import FamilySpec, MatrixPattern, NameMatcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """The family and how it was found."""

    spec: FamilySpec
    """The family, or the draft of an unknown one."""
    notes: tuple[str, ...] = ()
    """Sentences the user should see."""
    guesses: tuple[str, ...] = ()
    """For an unknown family, one line a template: what it was taken for."""


def detect_family(
    index: TensorIndex, config: Mapping[str, Any], *, has_config: bool, asked: FamilySpec | None = None
) -> Detection:
    """The family the user asked for, or that config.json names, or that the tensors' names fit.

    Names alone decide only where there is no `model_type`: other models use GPT-2's names for weights
    that are stored differently.

    Raises:
        FamilyMismatch: The user's family matches no tensor.
    """
    if asked is not None:
        if not _layer_patterns_found(index, asked):
            raise FamilyMismatch(
                f"The family {asked.name!r} was asked for.",
                f"None of its layer templates matches any of the checkpoint's {len(index)} tensors, "
                f"such as {next(iter(index), 'none')!r}.",
                "Leave --family out, or correct the templates.",
            )
        return Detection(spec=asked)
    model_type = config.get("model_type")
    for spec in FAMILIES.values():
        if model_type in spec.model_types:
            if _layer_patterns_found(index, spec):
                return Detection(spec=spec)
            return _unknown(
                index, f"config.json says {brief(model_type)}, but no tensor has that family's names."
            )
    if isinstance(model_type, str) and model_type:
        return _unknown(index, f"The model_type {brief(model_type)} is not registered.")
    best = max(FAMILIES.values(), key=lambda spec: _layer_patterns_found(index, spec))
    if _layer_patterns_found(index, best) == _layer_patterns(best):
        note = () if has_config is False else ("config.json has no model_type: names decided the family.",)
        return Detection(spec=best, notes=note)
    return _unknown(index, "The tensors' names fit no registered family.")


def _unknown(index: TensorIndex, why: str) -> Detection:
    spec = guess_family(index)
    guesses = tuple(
        f"{pattern.template} -> {pattern.group}{' (transposed)' if pattern.transposed else ''}"
        for pattern in spec.patterns
    )
    matcher = NameMatcher(spec)
    mute = [name for name, info in index.items() if len(info.shape) == 2 and not matcher.match(name)]
    unguessed = (
        (f"No role was guessed for {len(mute)} tensors, such as {mute[0]!r}: group other.",) if mute else ()
    )
    return Detection(
        spec=spec,
        notes=(f"{why} Roles were guessed from names and shapes, family {UNKNOWN!r}.", *unguessed),
        guesses=guesses,
    )


def _layer_patterns(spec: FamilySpec) -> int:
    return sum("{layer}" in pattern.template for pattern in spec.patterns)


def _layer_patterns_found(index: TensorIndex, spec: FamilySpec) -> int:
    """How many of the family's layer templates occur in the checkpoint."""
    matcher = NameMatcher(spec)
    matches = (matcher.match(name) for name in index)
    return len(
        {
            match.pattern.template
            for match in matches
            if match and match.layer is not None and isinstance(match.pattern, MatrixPattern)
        }
    )
