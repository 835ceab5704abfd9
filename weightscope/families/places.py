"""Where a tensor belongs, and what the shapes of some tensors tell of others in the same place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from weightscope.checkpoints.header import TensorIndex
from weightscope.families.guess import UNKNOWN
from weightscope.families.matching import Match
from weightscope.families.matrix import Slice
from weightscope.families.sizes import MOST, ConfigSizes
from weightscope.families.spec import ATTENTION_GROUPS, FamilySpec, Group, MatrixPattern

# A layer of a stack, and which of its attentions.
Place = tuple[str, int | None, str]


@dataclass(slots=True)
class Told:
    """What the shapes of some tensors tell of others, by the place they have in common."""

    query_rows: dict[Place, int] = field(default_factory=dict)
    """Features that an attention's output O reads, one for each row of Q."""
    latent_rows: dict[Place, int] = field(default_factory=dict)
    """Features that K_B reads, one for each row of KV_A."""
    routed: dict[Place, int] = field(default_factory=dict)
    """Experts among which a layer's router chooses."""


def layers_beyond(matches: Iterable[Match | None], spec: FamilySpec, sizes: ConfigSizes) -> frozenset[int]:
    """Layers that are of the stack for those beyond the config's count, told by a tensor or a number."""
    if not spec.stack_beyond:
        return frozenset()
    numbered = [match for match in matches if match is not None and match.layer is not None]
    if spec.beyond:
        marked = (match for match in numbered if match.pattern.template == spec.beyond)
    else:
        marked = (match for match in numbered if (match.layer or 0) >= (sizes.layers or MOST))
    return frozenset(match.layer for match in marked if match.layer is not None)


def place_of(match: Match, pattern: MatrixPattern, spec: FamilySpec, beyond: Collection[int]) -> Place:
    """Where a tensor belongs: its stack, its layer, and for attention which one."""
    kind = pattern.attention_kind if pattern.group in ATTENTION_GROUPS else ""
    stack = spec.stack_beyond if match.layer in beyond else pattern.stack or spec.stack
    return stack, match.layer, kind


def told_by_shapes(
    index: TensorIndex, matches: Mapping[str, Match | None], spec: FamilySpec, beyond: Collection[int]
) -> Told:
    """Gather the sizes that a family's outputs, routers and value projections tell."""
    told = Told()
    if spec.name == UNKNOWN:  # two attentions may have been guessed into one place
        return told
    kinds = {
        Group.O: (told.query_rows, 1),
        Group.K_B: (told.latent_rows, 1),
        Group.ROUTER: (told.routed, 0),
    }
    for name, match in matches.items():
        if match is None or not isinstance(match.pattern, MatrixPattern) or len(index[name].shape) != 2:
            continue
        if match.pattern.group in kinds and match.layer is not None:  # elsewhere there may be several
            found, axis = kinds[match.pattern.group]
            whole = Slice(tensor=index[name], transposed=match.pattern.transposed)
            found[place_of(match, match.pattern, spec, beyond)] = whole.shape[axis]
    return told
