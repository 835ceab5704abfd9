"""From headers to matrices: which part of which tensor is which matrix, and what is left over.

The completeness law: every tensor of two or more dimensions becomes matrices or is skipped with a
reason. Nothing here reads a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from weightscope.checkpoints.dtypes import ELEMENT_TYPES
from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.errors import FamilyMismatch
from weightscope.families.experts import experts_of
from weightscope.families.guess import UNKNOWN
from weightscope.families.heads import HeadCounts, LayoutError, Rows
from weightscope.families.layouts import LAYOUTS
from weightscope.families.matrix import Matrix, Slice
from weightscope.families.places import Place, Told, place_of, told_by_shapes
from weightscope.families.sizes import MOST, ConfigSizes
from weightscope.families.spec import (
    ATTENTION_GROUPS,
    FamilySpec,
    Group,
    IgnoredPattern,
    Match,
    MatrixPattern,
    NameMatcher,
)


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
    """Names of all tensors, of any dimension, that are no parameters: masks, position ids, integers."""


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
    told = told_by_shapes(index, matches, spec, own)
    for stored in index.values():
        match = matches[stored.name]
        info = _without_leading_one(stored, match)
        ignored = match is not None and isinstance(match.pattern, IgnoredPattern)
        trained = ignored and match is not None and getattr(match.pattern, "trained", False)
        if (ignored and not trained) or ELEMENT_TYPES[info.dtype].kind != "float":
            buffers.add(info.name)
        if len(info.shape) < 2 or info.name in (tied or {}):
            continue
        if reason := _unusable(info, match):
            untrained: Literal["buffer", "skipped"] = "buffer" if info.name in buffers else "skipped"
            skipped.append(Skipped(tensor=stored, reason=reason, kind="bias" if trained else untrained))
        elif match is None:
            matrices.append(_unmatched(info))
        else:
            assert isinstance(match.pattern, MatrixPattern)  # noqa: S101 - _unusable took the others
            place = place_of(match, match.pattern, spec, own)
            matrices.extend(_matched(info, match, match.pattern, spec, sizes.get(place[0], own), place, told))
    for info in index.unindexed:
        if len(info.shape) >= 2:
            skipped.append(Skipped(tensor=info, reason=f"in {info.shard} but not named by the index"))
    for name, owner in (tied or {}).items():
        if len(index[owner].shape) >= 2:
            info = index.get(name) or index[owner]._replace(name=name, shard="")
            skipped.append(Skipped(tensor=info, reason=f"tied to {owner}", kind="tied"))
    matrices, copies = _without_duplicates(matrices, spec, matches, same)
    skipped.extend(
        Skipped(tensor=index[name], reason=f"the same weights as {owner}", kind="tied")
        for name, owner in copies.items()
    )
    matrices.extend(_stacked_qkv(matrices))
    matrices.sort(key=lambda matrix: matrix.sort_key)
    return Assignment(
        family=spec, matrices=tuple(matrices), skipped=tuple(skipped), buffers=frozenset(buffers)
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


def _unmatched(info: TensorInfo) -> Matrix:
    group = Group.OTHER if len(info.shape) == 2 else Group.CONV
    return Matrix(stack="", layer=None, attention_kind="", group=group, slices=(Slice(tensor=info),))


def _matched(
    info: TensorInfo,
    match: Match,
    pattern: MatrixPattern,
    spec: FamilySpec,
    sizes: ConfigSizes,
    place: Place,
    told: Told,
) -> Iterator[Matrix]:
    if (match.layer or 0) > MOST or (match.expert or 0) > MOST:
        raise FamilyMismatch(
            f"Tensor {info.name!r} was read as family {spec.name!r}.",
            "The number of its layer or expert is beyond any model.",
            "Rename it, or describe the checkpoint in a family file and pass it with --family.",
        )
    stack, layer, kind = place
    expert = pattern.expert if match.expert is None else str(match.expert)
    pieces = {expert: info}
    if pattern.expert == "stacked":
        routed = told.routed.get((stack, layer, ""))
        experts = experts_of(info, spec.name, stated=sizes.experts, routed=routed)
        pieces = {str(number): piece for number, piece in enumerate(experts)}
    for number, piece in pieces.items():
        counts = replace(
            sizes.head_counts,
            query_rows=told.query_rows.get(place),
            latent_rows=told.latent_rows.get(place),
        )
        for group, part in _parts(piece, pattern, spec, counts).items():
            yield Matrix(
                stack="" if layer is None else stack,
                layer=layer,
                attention_kind=kind if group in ATTENTION_GROUPS else "",
                group=group,
                expert=number,
                slices=(part,),
            )


def _parts(
    info: TensorInfo, pattern: MatrixPattern, spec: FamilySpec, counts: HeadCounts
) -> dict[Group, Slice]:
    """A tensor's matrices by their roles: itself, or what its layout splits it into."""
    whole = Slice(tensor=info, transposed=pattern.transposed)
    parts: dict[Group, Slice] = {pattern.group: whole}
    if pattern.layout is None:
        return parts
    try:
        split = LAYOUTS[pattern.layout](whole.shape[0], counts)
    except LayoutError as error:
        raise FamilyMismatch(
            f"Tensor {info.name!r} of shape {list(info.shape)} was split as {pattern.layout!r}, which is "
            f"what family {spec.name!r} says.",
            str(error),
            "Check the head counts in config.json, or pass another family with --family.",
        ) from None
    parts |= {
        Group(part): Slice(tensor=info, transposed=pattern.transposed, rows=rows)
        for part, rows in split.items()
    }
    if pattern.group == Group.QKV:
        parts[Group.QKV] = replace(whole, rows=_stacked(split))
        if pattern.attention_kind == "cross":  # two inputs: nothing is multiplied by all three
            del parts[Group.QKV]
    return parts


def _stacked(split: Mapping[str, Rows]) -> Rows | None:
    """The rows of Q, K and V one after another; None if that is how they are stored."""
    rows = tuple(some for part in "QKV" for some in split[part])
    in_order = all(one.stop == other.start for one, other in pairwise(rows))
    return None if in_order else rows


def _without_duplicates(
    matrices: list[Matrix],
    spec: FamilySpec,
    matches: Mapping[str, Match | None],
    same: Callable[[TensorInfo, TensorInfo], bool],
) -> tuple[list[Matrix], dict[str, str]]:
    """The matrices, no two in one place, and the tensors that are copies of another in their place.

    Of two guesses for one place the later one is no guess at all.
    """
    seen: dict[tuple[object, ...], Matrix] = {}
    settled: list[Matrix] = []
    copies: dict[str, str] = {}
    without_role: set[str] = set()
    compared: dict[tuple[TensorInfo, TensorInfo], bool] = {}
    for matrix in matrices:
        place = _only_place(matrix, matches)
        first = matrix if place is None else seen.setdefault(place, matrix)
        if first is matrix:
            settled.append(matrix)
            continue
        (one,), (other,) = first.slices, matrix.slices
        pair = (one.tensor, other.tensor)
        if pair not in compared:
            compared[pair] = same(*pair)
        guesses = {match.pattern for info in pair if (match := matches[info.name])}
        if compared[pair] and (one.rows, one.transposed) == (other.rows, other.transposed):
            copies[other.tensor.name] = one.tensor.name
        elif spec.name == UNKNOWN and len(guesses) > 1:
            if other.tensor.name not in without_role:  # once, although it may have been split
                settled.append(_unmatched(other.tensor))
                without_role.add(other.tensor.name)
        else:
            where = "" if matrix.layer is None else f" of layer {matrix.layer}"
            raise FamilyMismatch(
                f"The tensors were given their roles by family {spec.name!r}.",
                f"Both {first.parameter!r} and {matrix.parameter!r} are {matrix.group}{where}, and not the "
                "same weights.",
                "Remove one of them, or describe the checkpoint in a family file and pass it with --family.",
            )
    used = {part.tensor.name for matrix in settled for part in matrix.slices}
    return settled, {name: owner for name, owner in copies.items() if name not in used}


def _only_place(matrix: Matrix, matches: Mapping[str, Match | None]) -> tuple[object, ...] | None:
    """What no two may be; outside the layers several share a group, but not a template."""
    if matrix.layer is not None:
        alone = matrix.group not in (Group.OTHER, Group.CONV)
        place = (matrix.stack, matrix.layer, matrix.attention_kind, matrix.group, matrix.expert, matrix.head)
        return place if alone else None
    match = matches[matrix.slices[0].tensor.name]
    return None if match is None else (match.pattern.template, matrix.group, matrix.expert)


def _stacked_qkv(matrices: list[Matrix]) -> Iterator[Matrix]:
    """Q, K and V of one self-attention, stacked along out_features; cross attention reads two inputs."""
    attentions: dict[tuple[str, int | None, str], dict[Group, Matrix]] = {}
    for matrix in matrices:
        if matrix.group in (Group.Q, Group.K, Group.V, Group.QKV) and matrix.attention_kind != "cross":
            key = (matrix.stack, matrix.layer, matrix.attention_kind)
            attentions.setdefault(key, {})[matrix.group] = matrix
    for (stack, layer, kind), found in attentions.items():
        if found.keys() != {Group.Q, Group.K, Group.V}:
            continue
        parts = [found[group] for group in (Group.Q, Group.K, Group.V)]
        if len({matrix.shape[1] for matrix in parts}) == 1:
            slices = tuple(part for matrix in parts for part in matrix.slices)
            yield Matrix(stack=stack, layer=layer, attention_kind=kind, group=Group.QKV, slices=slices)
