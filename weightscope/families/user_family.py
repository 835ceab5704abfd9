"""Whether the templates of a family that a user describes are those of this checkpoint.

A family of the registry knows spellings that a checkpoint need not have. One that is described for a
checkpoint is held to it: a template that fits nothing is a slip, and a name that two templates understand in
two ways another.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from weightscope.checkpoints.header import TensorIndex
from weightscope.counting import counted
from weightscope.errors import FamilyMismatch
from weightscope.families.matching import NUMBER, NameMatcher, without_wrappers
from weightscope.families.registry import FAMILIES
from weightscope.families.sizes import config_levels, value_at
from weightscope.families.spec import (
    ATTENTION_GROUPS,
    FEED_FORWARD_GROUPS,
    FamilySpec,
    Group,
    IgnoredPattern,
    MatrixPattern,
)

# A checkpoint has below a thousand names once their numbers are taken out.
_MOST_NAMES = 5000


def check_templates(index: TensorIndex, spec: FamilySpec) -> None:
    """Refuse a user's family with templates that match nothing, or that contradict each other.

    Raises:
        FamilyMismatch: It names the template and the tensor name that is nearest, or both templates.
    """
    if spec in FAMILIES.values():
        return
    _check_first_layer(index, spec)
    _check_numbers(index, spec)
    matcher = NameMatcher(spec)
    used: set[str] = set()
    for name in index:
        matches = matcher.matches(name)
        used.update(match.pattern.template for match in matches)
        if len({(match.meaning, match.layer, match.expert) for match in matches}) > 1:
            first, second = (match.pattern for match in matches[:2])
            raise FamilyMismatch(
                f"Tensor {name!r} was read as family {spec.name!r}.",
                f"Two templates match it and mean different things: {_said(first)} and {_said(second)}.",
                "Correct one of them, or take it out.",
            )
    # The registry's own templates stay in a copy of its entry: checkpoints of that family may have them.
    own = FAMILIES.get(spec.name)
    known = {p.template for p in own.patterns} | {p.template for p in own.ignored} if own else set()
    known |= {p.template for p in spec.patterns if p.optional}
    marks = {own.head_norm, own.beyond} if own else set()
    templates = [p.template for p in spec.patterns] + [p.template for p in spec.ignored]
    for template in templates:
        if template not in used | known:
            raise _unmatched(template, spec, index)
    for template in filter(None, (spec.head_norm, spec.beyond)):
        mark = NameMatcher(
            replace(spec, patterns=(), ignored=(IgnoredPattern(template=template, reason="mark"),))
        )
        if template not in marks and not any(map(mark.match, index)):
            raise _unmatched(template, spec, index)


def _unmatched(template: str, spec: FamilySpec, index: TensorIndex) -> FamilyMismatch:
    return FamilyMismatch(
        f"The template {template!r} of family {spec.name!r} was to be found.",
        f"It matches none of the checkpoint's {counted(len(index), 'tensor')}; "
        f"{nearest(template, spec, index)}.",
        "Correct the template or the family's prefixes, or take the template out.",
    )


def _check_first_layer(index: TensorIndex, spec: FamilySpec) -> None:
    """Refuse a first layer that leaves out a layer which the templates describe."""
    own, all_of_them = NameMatcher(spec), NameMatcher(replace(spec, first_layer=0))
    for name in index if spec.first_layer else ():
        match = all_of_them.match(name)
        if match is not None and match.layer is not None and own.match(name) is None:
            raise FamilyMismatch(
                f"The layers of family {spec.name!r} were to be counted from first_layer {spec.first_layer}.",
                f"{name!r} is of layer {match.layer}, before that.",
                "Correct first_layer, which is the number of the first block in the names.",
            )


def _check_numbers(index: TensorIndex, spec: FamilySpec) -> None:
    """Refuse a template of one layer beside others like it that no template describes."""
    matcher = NameMatcher(spec)
    unknown = {NUMBER.sub("#", without_wrappers(name)): name for name in index if not matcher.match(name)}
    for pattern in spec.patterns:
        in_layers = pattern.group in (*ATTENTION_GROUPS, *FEED_FORWARD_GROUPS, Group.ROUTER)
        if not in_layers or "{layer}" in pattern.template:
            continue
        for prefix in spec.prefixes if "{prefix}" in pattern.template else ("",):
            text = pattern.template.replace("{prefix}", prefix).replace("{expert}", "0")
            number = NUMBER.search(text)  # at the beginning it is a module's in a list of unlike ones
            if number and number.start() and (other := unknown.get(NUMBER.sub("#", text))):
                raise FamilyMismatch(
                    f"The template {pattern.template!r} of family {spec.name!r} was to be found.",
                    f"The number in it is that of one layer, and {other!r} would have no role.",
                    "Write {layer} in its place; 'weightscope analyze --layers' selects layers.",
                )


def check_config_keys(config: Mapping[str, Any], spec: FamilySpec) -> None:
    """Refuse a user's family that looks for a size where config.json has nothing.

    Raises:
        FamilyMismatch: It names the key and the one that is nearest.
    """
    if not config or spec.name in FAMILIES:  # the registry's own know spellings that a config need not have
        return
    for size, key in spec.config_keys.items():
        if key and all(value_at(level, key) is None for level in config_levels(config)):
            close = get_close_matches(key, [*config], n=1, cutoff=0.0)
            raise FamilyMismatch(
                f"The config key {key!r} of family {spec.name!r} was to be read, for {size!r}.",
                f"config.json has no such key; the nearest is {close[0]!r}.",
                "Correct it under config_keys, or take it out.",
            )


def nearest(template: str, spec: FamilySpec, names: Iterable[str]) -> str:
    """The tensor name that a template comes closest to, in words."""
    wanted = {
        NUMBER.sub("#", re.sub(r"\{(layer|expert)\}", "0", template.replace("{prefix}", prefix)))
        for prefix in spec.prefixes or ("",)
    }
    distinct: dict[str, str] = {}
    for name in names:
        if len(distinct) < _MOST_NAMES:
            distinct.setdefault(NUMBER.sub("#", name), name)
    if not distinct:
        return "there are none"
    scores = {
        name: max(SequenceMatcher(None, text, shape, autojunk=False).ratio() for text in wanted)
        for shape, name in distinct.items()
    }
    return f"the nearest is {max(scores, key=lambda name: scores[name])!r}"


def _said(pattern: MatrixPattern | IgnoredPattern) -> str:
    if not isinstance(pattern, MatrixPattern):
        return f"{pattern.template!r} (ignored)"
    told = [str(pattern.group), *(["transposed"] if pattern.transposed else [])]
    told += [word for word in (pattern.layout, pattern.stack, pattern.expert) if word]
    return f"{pattern.template!r} ({', '.join(told)})"
