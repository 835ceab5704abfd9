"""Whole models under a prefix that their own family does not have: said, since they are of group other."""

from collections import defaultdict

from weightscope.checkpoints.header import TensorIndex
from weightscope.families.matching import NUMBER, NameMatcher, without_wrappers
from weightscope.families.mixture import is_block
from weightscope.families.registry import FAMILIES
from weightscope.families.spec import FamilySpec, Group, MatrixPattern

# As in `vision_tower.vision_model.encoder.`; what stands deeper is a part of a module.
_DEEPEST = 3


def models_beside(index: TensorIndex, spec: FamilySpec) -> tuple[str, ...]:
    """A sentence for each prefix behind which there are blocks with the names of a family."""
    own = NameMatcher(spec)
    strange: dict[str, str] = {}
    for name, info in index.items():
        if len(info.shape) >= 2 and own.match(name) is None:
            plain = without_wrappers(name)
            strange.setdefault(NUMBER.sub("#", plain), plain)
    if len(strange) < 4:  # a block has more
        return ()
    matchers = {family: NameMatcher(other) for family, other in FAMILIES.items()}
    found: dict[tuple[str, str], dict[Group, str]] = defaultdict(dict)
    for name in strange.values():
        parts = name.split(".")
        for depth in range(1, min(_DEEPEST, len(parts) - 1) + 1):
            before, rest = ".".join(parts[:depth]), ".".join(parts[depth:])
            for family, matcher in matchers.items():
                match = matcher.match(rest)
                if match is None or match.layer is None or not isinstance(match.pattern, MatrixPattern):
                    continue
                found[before, family] |= dict.fromkeys(match.pattern.groups, name)
    said: dict[str, str] = {}
    for (before, family), groups in found.items():
        if is_block(groups) and not any(before.startswith(f"{other}.") for other in said):
            layers = f"layers with the names of family {family!r}"
            said.setdefault(before, f"Under {before + '.'!r} there are {layers}: group other.")
    return tuple(said.values())
