"""Which family a checkpoint belongs to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as brief  # a config is somebody else's text, of any length
from typing import Any

from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.counting import counted, listed
from weightscope.errors import FamilyMismatch
from weightscope.families.agreement import check_heads, check_widths
from weightscope.families.assign import assign
from weightscope.families.guess import UNKNOWN, guess_family
from weightscope.families.matching import NUMBER, NameMatcher
from weightscope.families.mixture import check_one_family
from weightscope.families.refine import refined
from weightscope.families.registry import FAMILIES
from weightscope.families.sizes import stack_sizes
from weightscope.families.spec import FamilySpec, Group, MatrixPattern, StackRole
from weightscope.families.user_family import check_config_keys, check_templates

_SOUGHT = "Without a model_type in config.json, the family was sought by the tensors' names."


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
        FamilyMismatch: The user's family matches no tensor, or names alone leave more than one meaning.
    """
    if asked is not None:
        if _has_layers(asked) and not _places_found(index, asked):
            raise FamilyMismatch(
                f"The family {asked.name!r} was asked for.",
                f"None of its layer templates matches any of the checkpoint's {len(index)} tensors, "
                f"such as {next(iter(index), 'none')!r}.",
                "Leave --family out, or correct the templates.",
            )
        check_templates(index, asked)
        check_config_keys(config, asked)
        return Detection(spec=asked)
    model_type = config.get("model_type")
    if of_this_type := [spec for spec in FAMILIES.values() if model_type in spec.model_types]:
        fullest = max(of_this_type, key=lambda spec: len(_places_found(index, spec)))
        if _places_found(index, fullest):
            return Detection(spec=fullest)
        why = f"config.json says {brief(model_type)}, but no tensor has that family's names."
        return _unknown(index, why, _hint(index, config))
    if isinstance(model_type, str) and model_type:
        return _unknown(index, f"The model_type {brief(model_type)} is not registered.", _hint(index, config))
    if (best := _best_by_name(index, config)) is not None:
        note = () if has_config is False else ("config.json has no model_type: names decided the family.",)
        return Detection(spec=best, notes=note)
    return _unknown(index, "The tensors' names fit no registered family.")


def _best_by_name(index: TensorIndex, config: Mapping[str, Any]) -> FamilySpec | None:
    """The family whose matrices all occur in a layer, the more the better; None if there is none.

    A stack may be missing as a whole: an encoder is often kept without its decoder. Several may share names.
    Those whose matrices do not fit together drop out, and where the others mean the same matrices, the one
    that knows most of the tensors is as good as any.

    Raises:
        FamilyMismatch: Those that are left would split or turn the weights in different ways.
    """
    every, index = index, _one_layer(index)
    found = {name: _places_found(index, spec) for name, spec in FAMILIES.items()}
    whole = [spec for name, spec in FAMILIES.items() if found[name] and not _lacking(found[name], spec)]
    most = max((len(found[spec.name]) for spec in whole), default=0)
    named = [spec for spec in whole if len(found[spec.name]) == most]
    if len(named) < 2:
        return next(iter(named), None)  # whether its matrices fit together is checked with all the others
    meanings: dict[str, frozenset[object]] = {}
    unlike: dict[str, str] = {}
    for spec in named:
        try:
            sizes = stack_sizes(config, spec)
            # Whether two tensors in one place are copies tells no families apart.
            assignment = assign(index, spec, sizes, same=lambda one, other: True)
            check_heads(assignment, sizes)
            check_widths(assignment, sizes)
        except FamilyMismatch as error:
            unlike[spec.name] = error.found
            continue
        layered = (m for m in assignment.matrices if m.layer is not None)
        meanings[spec.name] = frozenset((m.layer, m.attention_kind, m.group, m.slices) for m in layered)
    # One that knows less of the layers than another, and means the same by it, contradicts nobody.
    meanings = {n: own for n, own in meanings.items() if not any(own < other for other in meanings.values())}
    if len(set(meanings.values())) > 1:
        _check_mixture(every, [spec for spec in named if spec.name in meanings])
        raise FamilyMismatch(
            _SOUGHT,
            f"They are those of the families {listed(meanings)}, which store different things in them, and "
            "the shapes fit all.",
            "Say which one it is with --family, or put its config.json beside the weights.",
        )
    if not meanings:
        reasons = dict.fromkeys(unlike.values())
        raise FamilyMismatch(
            _SOUGHT,
            f"They are those of the families {listed(unlike)}, and the checkpoint can be read as none of "
            f"them: {' '.join(reasons)}",
            "Put its config.json beside the weights, or say which one it is with --family.",
        )
    left = [spec for spec in named if spec.name in meanings]
    return max(left, key=lambda spec: sum(map(bool, map(NameMatcher(spec).match, index))))


def _check_mixture(index: TensorIndex, named: Sequence[FamilySpec]) -> None:
    """Refuse names of which each of several families knows some layers only.

    Raises:
        FamilyMismatch: As one of them, the checkpoint has layers of another.
    """
    errors = []
    for spec in named:
        try:
            check_one_family(index, spec)
        except FamilyMismatch as error:
            errors.append(error)
    if len(errors) == len(named):
        raise errors[0]


def _one_layer(index: TensorIndex) -> TensorIndex:
    """The first tensor of those whose names differ in their first number only: what tells families apart."""
    first: dict[str, TensorInfo] = {}
    for name, info in index.items():
        first.setdefault(NUMBER.sub("#", name, count=1), info)
    return TensorIndex({info.name: info for info in first.values()})


def _hint(index: TensorIndex, config: Mapping[str, Any]) -> str:
    """Which family has these names: others may store other things under them, hence it only is a hint."""
    try:
        best = _best_by_name(index, config)
    except FamilyMismatch:
        return ""
    return (
        f" The names are those of family {best.name!r}: --family {best.name} reads them so." if best else ""
    )


def _unknown(index: TensorIndex, why: str, hint: str = "") -> Detection:
    spec, doubts = refined(guess_family(index), index)
    guesses = tuple(dict.fromkeys(map(_guessed, spec.patterns)))
    matcher = NameMatcher(spec)
    mute = [name for name, info in index.items() if len(info.shape) == 2 and not matcher.match(name)]
    notes = [f"{why} Roles were guessed from names and shapes, family {UNKNOWN!r}.{hint}", *doubts]
    if mute:
        tensors = counted(len(mute), "tensor")
        notes.append(f"No role was guessed for {tensors}, such as {mute[0]!r}: group other.")
    return Detection(
        spec=spec,
        notes=tuple(notes),
        guesses=guesses,
    )


def _guessed(pattern: MatrixPattern) -> str:
    """A line for a template; convolutions that differ in numbers share one."""
    template = pattern.template
    if pattern.group == Group.CONV:
        template = NUMBER.sub("*", template)
    how = [pattern.layout] if pattern.layout else []
    how += ["cross attention"] if pattern.attention_kind == "cross" else []
    how += ["transposed"] if pattern.transposed else []
    return f"{template} -> {pattern.group}" + (f" ({', '.join(how)})" if how else "")


def _has_layers(spec: FamilySpec) -> bool:
    return any("{layer}" in pattern.template for pattern in spec.patterns)


def _places_found(index: TensorIndex, spec: FamilySpec) -> set[StackRole]:
    """What the checkpoint has of the family's layers, under whichever of its names."""
    matcher = NameMatcher(spec)
    matches = (matcher.match(name) for name in index)
    return {
        place
        for match in matches
        if match and match.layer is not None and isinstance(match.pattern, MatrixPattern)
        for place in spec.roles_of(match.pattern)
    }


def _lacking(found: set[StackRole], spec: FamilySpec) -> set[StackRole]:
    """What is not there of the stacks that are."""
    stacks = {stack for stack, _, _ in found}
    return {role for role in spec.always if role[0] in stacks} - found
