"""From headers to matrices: which part of which tensor is which matrix, and what is left over.

The completeness law: every tensor of two or more dimensions becomes matrices or is skipped with a
reason. Nothing here reads a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from weightscope.checkpoints.dtypes import ELEMENT_TYPES
from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.families.duplicates import without_duplicates
from weightscope.families.matching import Match, NameMatcher
from weightscope.families.matrix import Matrix
from weightscope.families.places import layers_beyond, place_of, told_by_shapes
from weightscope.families.sizes import ConfigSizes
from weightscope.families.spec import (
    FamilySpec,
    Group,
    IgnoredPattern,
    MatrixPattern,
)
from weightscope.families.split import matched, stacked_qkv, unmatched

# What torch's BatchNorm and InstanceNorm keep as buffers, beside `num_batches_tracked`, an integer.
_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A tensor of two or more dimensions that is not analysed, and why."""

    tensor: TensorInfo
    """Which."""
    reason: str
    """Why, in words."""
    kind: Literal["buffer", "bias", "tied", "skipped"] = "skipped"
    """A mask or position ids; biases of several experts; a second name of weights that are analysed; or
    something that is missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a checkpoint's tensors are."""

    family: FamilySpec
    """The family that said so."""
    matrices: tuple[Matrix, ...]
    """Every matrix, in the order of the table."""
    skipped: tuple[Skipped, ...]
    """Every tensor of two or more dimensions that is in no matrix."""
    buffers: frozenset[str]
    """Names of all tensors, of any dimension, that are no parameters: masks, position ids, running
    statistics, integers."""
    beyond: frozenset[int] = frozenset()
    """Layers of the family's `stack_beyond`."""


def assign(
    index: TensorIndex,
    spec: FamilySpec,
    sizes: Mapping[str, ConfigSizes],
    tied: Mapping[str, str] | None = None,
    same: Callable[[TensorInfo, TensorInfo], bool] = lambda one, other: False,
) -> Assignment:
    """Give every tensor of two or more dimensions its role.

    Args:
        index: The checkpoint's headers.
        spec: Its family.
        sizes: What its config states, by stack, for fused layouts and experts. For a stack that is not there
            the family's own serves.
        tied: Other names of tensors in the index, whether the index has them too or not.
        same: Whether two tensors in one place are copies of each other, bit for bit.

    Raises:
        FamilyMismatch: Two tensors claim one place, or a fused weight does not fit its layout.
    """
    matcher = NameMatcher(spec)
    matrices: list[Matrix] = []
    skipped: list[Skipped] = []
    buffers: set[str] = set()
    matches = {name: matcher.match(name) for name in index}
    own = sizes[spec.stack]
    beyond = layers_beyond(matches.values(), spec, own)
    told = told_by_shapes(index, matches, spec, beyond)
    for stored in index.values():
        match = matches[stored.name]
        info = _without_leading_one(stored, match)
        ignored = match.pattern if match and isinstance(match.pattern, IgnoredPattern) else None
        trained = ignored is not None and ignored.trained
        statistic = info.name.rpartition(".")[2] in _STATISTICS and len(info.shape) == 1
        if (ignored is not None and not trained) or statistic or ELEMENT_TYPES[info.dtype].kind != "float":
            buffers.add(info.name)
        if len(info.shape) < 2 or info.name in (tied or {}):
            continue
        if reason := _unusable(info, match):
            untrained: Literal["buffer", "skipped"] = "buffer" if info.name in buffers else "skipped"
            skipped.append(Skipped(tensor=stored, reason=reason, kind="bias" if trained else untrained))
        elif match is None:
            matrices.append(unmatched(info))
        else:
            assert isinstance(match.pattern, MatrixPattern)  # noqa: S101 - _unusable took the others
            place = place_of(match, match.pattern, spec, beyond)
            matrices.extend(matched(info, match, match.pattern, spec, sizes.get(place[0], own), place, told))
    for info in index.unindexed:
        if len(info.shape) >= 2:
            skipped.append(Skipped(tensor=info, reason=f"in {info.shard} but not named by the index"))
    for name, owner in (tied or {}).items():
        if len(index[owner].shape) >= 2:
            info = index.get(name) or index[owner]._replace(name=name, shard="")
            skipped.append(Skipped(tensor=info, reason=f"tied to {owner}", kind="tied"))
    matrices, copies = without_duplicates(matrices, spec, matches, same)
    skipped.extend(
        Skipped(tensor=index[name], reason=f"the same weights as {owner}", kind="tied")
        for name, owner in copies.items()
    )
    matrices.extend(stacked_qkv(matrices))
    matrices.sort(key=lambda matrix: matrix.sort_key)
    return Assignment(
        family=spec,
        matrices=tuple(matrices),
        skipped=tuple(skipped),
        buffers=frozenset(buffers),
        beyond=beyond,
    )


def _unusable(info: TensorInfo, match: Match | None) -> str:
    """Why a tensor can be no matrix; empty if it can."""
    element = ELEMENT_TYPES[info.dtype]
    if match is not None and isinstance(match.pattern, IgnoredPattern):
        return match.pattern.reason
    if element.kind != "float":
        return f"{element.kind} values ({info.dtype}), not weights"
    if element.torch_name is None:
        return f"packed {info.dtype} values, for which torch has no type"
    if info.elements == 0:
        return f"empty: shape {list(info.shape)}"
    if len(info.shape) > 2 and match is not None and not _may_have_more_dimensions(info, match):
        return f"{len(info.shape)} dimensions where the family's {match.pattern.template!r} has 2"
    name = info.name.lower()
    if match is None and len(info.shape) == 3 and ("conv" not in name or "expert" in name):
        return "three dimensions whose roles no family describes"
    return ""


def _may_have_more_dimensions(info: TensorInfo, match: Match) -> bool:
    """Whether a tensor of three dimensions or more can be what it was taken for."""
    pattern = match.pattern
    if not isinstance(pattern, MatrixPattern):
        return False
    return pattern.group == Group.CONV or (pattern.expert == "stacked" and len(info.shape) == 3)


def _without_leading_one(info: TensorInfo, match: Match | None) -> TensorInfo:
    """A table kept as (1, rows, columns), to be added to a batch, as (rows, columns)."""
    tables = (Group.POSITION, Group.EMBEDDING, Group.OTHER)
    if match is None:
        table = "conv" not in info.name.lower()
    else:
        table = isinstance(match.pattern, MatrixPattern) and match.pattern.group in tables
    return info._replace(shape=info.shape[1:]) if table and info.shape[:-2] == (1,) else info
