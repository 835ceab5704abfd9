"""Whether the templates of a family that a user describes are those of this checkpoint.

A family of the registry knows spellings that a checkpoint need not have. One that is described for a
checkpoint is held to it: a template that fits nothing is a slip, and a name that two templates understand in
two ways another.
"""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

from weightscope.checkpoints.header import TensorIndex
from weightscope.errors import FamilyMismatch
from weightscope.families.matching import NameMatcher
from weightscope.families.registry import FAMILIES
from weightscope.families.spec import FamilySpec, MatrixPattern

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
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
                f"It matches none of the checkpoint's {len(index)} tensors; {nearest(pattern, spec, index)}.",
                "Correct the template or the family's prefixes, or take the template out.",
            )


def nearest(pattern: MatrixPattern, spec: FamilySpec, names: Iterable[str]) -> str:
    """The tensor name that a template comes closest to, in words."""
    wanted = {
        _NUMBER.sub("#", re.sub(r"\{(layer|expert)\}", "0", pattern.template.replace("{prefix}", prefix)))
        for prefix in spec.prefixes or ("",)
    }
    distinct: dict[str, str] = {}
    for name in names:
        if len(distinct) < _MOST_NAMES:
            distinct.setdefault(_NUMBER.sub("#", name), name)
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
