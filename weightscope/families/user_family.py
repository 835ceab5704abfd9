"""Whether the templates of a family that a user describes are those of this checkpoint.

A family of the registry knows spellings that a checkpoint need not have. One that is described for a
checkpoint is held to it: a template that fits nothing is a slip, and a name that two templates understand in
two ways another.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from weightscope.checkpoints.header import TensorIndex
from weightscope.counting import counted
from weightscope.errors import FamilyMismatch
from weightscope.families.matching import NUMBER, NameMatcher
from weightscope.families.registry import FAMILIES
from weightscope.families.spec import FamilySpec, MatrixPattern

# A checkpoint has below a thousand names once their numbers are taken out.
_MOST_NAMES = 5000


def check_templates(index: TensorIndex, spec: FamilySpec) -> None:
    """Refuse a user's family with templates that match nothing, or that contradict each other.

    Raises:
        FamilyMismatch: It names the template and the tensor name that is nearest, or both templates.
    """
    if spec in FAMILIES.values():
        return
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
    known = FAMILIES[spec.name].patterns if spec.name in FAMILIES else ()
    for pattern in spec.patterns:
        if pattern.template not in used and pattern not in known and not pattern.optional:
            raise FamilyMismatch(
                f"The template {pattern.template!r} of family {spec.name!r} was to be found.",
                f"It matches none of the checkpoint's {counted(len(index), 'tensor')}; "
                f"{nearest(pattern, spec, index)}.",
                "Correct the template or the family's prefixes, or take the template out.",
            )


def check_config_keys(config: Mapping[str, Any], spec: FamilySpec) -> None:
    """Refuse a user's family that looks for a size where config.json has nothing.

    Raises:
        FamilyMismatch: It names the key and the one that is nearest.
    """
    if not config or spec.name in FAMILIES:  # the registry's own know spellings that a config need not have
        return
    for size, key in spec.config_keys.items():
        if key and not _states(config, key):
            close = get_close_matches(key, [*config], n=1, cutoff=0.0)
            raise FamilyMismatch(
                f"The config key {key!r} of family {spec.name!r} was to be read, for {size!r}.",
                f"config.json has no such key; the nearest is {close[0]!r}.",
                "Correct it under config_keys, or take it out.",
            )


def _states(config: Mapping[str, Any], key: str) -> bool:
    text = config.get("text_config")
    for level in (text, config) if isinstance(text, Mapping) else (config,):
        found: Any = level
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None:
            return True
    return False


def nearest(pattern: MatrixPattern, spec: FamilySpec, names: Iterable[str]) -> str:
    """The tensor name that a template comes closest to, in words."""
    wanted = {
        NUMBER.sub("#", re.sub(r"\{(layer|expert)\}", "0", pattern.template.replace("{prefix}", prefix)))
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


def _said(pattern: object) -> str:
    role = f" ({pattern.group})" if isinstance(pattern, MatrixPattern) else " (ignored)"
    return f"{getattr(pattern, 'template', '')!r}{role}"
