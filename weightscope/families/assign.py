"""From headers to matrices: which part of which tensor is which matrix, and what is left over.

The completeness law: every tensor of two or more dimensions becomes matrices or is skipped with a
reason. Nothing here reads a weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod
from typing import Literal

from weightscope.checkpoints.dtypes import ELEMENT_TYPES
from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.errors import FamilyMismatch
from weightscope.families.experts import experts_of
from weightscope.families.guess import UNKNOWN
from weightscope.families.layouts import LAYOUTS, HeadCounts, LayoutError, Rows
from weightscope.families.sizes import ConfigSizes
from weightscope.families.spec import (
    ATTENTION_GROUPS,
    FamilySpec,
    Group,
    IgnoredPattern,
    Match,
    MatrixPattern,
    NameMatcher,
)

# Layers and experts are table cells of 64 bits; a model of a billion of either does not exist.
_MOST = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of a stored tensor, as the model uses it."""

    tensor: TensorInfo
    """Where it lies."""
    transposed: bool = False
    """Whether the tensor is stored (in_features, out_features)."""
    rows: Rows | None = None
    """Rows along out_features, transposition undone; None for all."""

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        first, rest = self.tensor.shape[0], prod(self.tensor.shape[1:])
        out_features, in_features = (rest, first) if self.transposed else (first, rest)
        return (out_features if self.rows is None else sum(map(len, self.rows))), in_features


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One row of the table before it has numbers."""

    stack: str
    """`encoder`, `decoder` …; empty outside the layers."""
    layer: int | None
    """Block, 0-based; None outside the layers."""
    attention_kind: str
    """`self`, `cross` or empty."""
    group: Group
    """The role."""
    expert: str = ""
    """Number of the expert, `shared`, or empty."""
    head: int | None = None
    """Number of the head; None for the whole matrix."""
    slices: tuple[Slice, ...]
    """What it is stacked from along out_features, in order."""

    @property
    def parameter(self) -> str:
        """Full names of the tensors, joined by `+`."""
        return "+".join(part.tensor.name for part in self.slices)

    @property
    def dtype(self) -> str:
        """Stored element type; several joined by `+`."""
        return "+".join(dict.fromkeys(part.tensor.dtype for part in self.slices))

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        return sum(part.shape[0] for part in self.slices), self.slices[0].shape[1]

    @property
    def sort_key(self) -> tuple[object, ...]:
        """The order of the table."""
        expert = (1, 0) if self.expert == "shared" else (0, int(self.expert or -1))
        place = -1 if self.layer is None else self.layer
        order = tuple(Group).index(self.group)
        head = -1 if self.head is None else self.head
        # The empty attention_kind comes last, and matrices outside the layers after all layers: a
        # block reads Q K V O QKV M1 G M2.
        kind = ("self", "cross", "").index(self.attention_kind)
        return (self.layer is None, self.stack, place, kind, order, expert, head, self.parameter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A tensor of two or more dimensions that is not analysed, and why."""

    tensor: TensorInfo
    """Which."""
    reason: str
    """Why, in words."""
    kind: Literal["buffer", "tied", "skipped"] = "skipped"
    """A mask or position ids; a second name of weights that are analysed; or something that is missed."""


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
    index: TensorIndex, spec: FamilySpec, sizes: ConfigSizes, tied: Mapping[str, str] | None = None
) -> Assignment:
    """Give every tensor of two or more dimensions its role.

    Args:
        index: The checkpoint's headers.
        spec: Its family.
        sizes: What its config states, for fused layouts and experts.
        tied: Other names of tensors in the index, for live models.

    Raises:
        FamilyMismatch: Two tensors claim one place, or a fused weight does not fit its layout.
    """
    matcher = NameMatcher(spec)
    matrices: list[Matrix] = []
    skipped: list[Skipped] = []
    buffers: set[str] = set()
    matches = {name: matcher.match(name) for name in index}
    told = _told_by_shapes(index, matches, spec, sizes)
    for info in index.values():
        match = matches[info.name]
        if (match and isinstance(match.pattern, IgnoredPattern)) or ELEMENT_TYPES[info.dtype].kind != "float":
            buffers.add(info.name)
        if len(info.shape) < 2:
            continue
        if reason := _unusable(info, match):
            kind: Literal["buffer", "skipped"] = "buffer" if info.name in buffers else "skipped"
            skipped.append(Skipped(tensor=info, reason=reason, kind=kind))
        elif match is None:
            matrices.append(_unmatched(info))
        else:
            assert isinstance(match.pattern, MatrixPattern)  # noqa: S101 - _unusable took the others
            matrices.extend(_matched(info, match, match.pattern, spec, sizes, told))
    for info in index.unindexed:
        if len(info.shape) >= 2:
            skipped.append(Skipped(tensor=info, reason=f"in {info.shard} but not named by the index"))
    for name, owner in (tied or {}).items():
        if len(index[owner].shape) >= 2:
            alias = index[owner]
            info = TensorInfo(
                name=name, dtype=alias.dtype, shape=alias.shape, shard="", start=alias.start, stop=alias.stop
            )
            skipped.append(Skipped(tensor=info, reason=f"tied to {owner}", kind="tied"))
    matrices = _without_duplicates(matrices, spec)
    matrices.extend(_stacked_qkv(matrices))
    matrices.sort(key=lambda matrix: matrix.sort_key)
    return Assignment(
        family=spec, matrices=tuple(matrices), skipped=tuple(skipped), buffers=frozenset(buffers)
    )


# A layer of a stack, and which of its attentions.
_Place = tuple[str, int | None, str]


@dataclass(slots=True)
class _Told:
    """What the shapes of some tensors tell of others, by the place they have in common."""

    query_rows: dict[_Place, int] = field(default_factory=dict)
    """Features that an attention's output O reads, one for each row of Q."""
    latent_rows: dict[_Place, int] = field(default_factory=dict)
    """Features that K_B reads, one for each row of KV_A."""
    routed: dict[_Place, int] = field(default_factory=dict)
    """Experts among which a layer's router chooses."""


def _place(match: Match, pattern: MatrixPattern, spec: FamilySpec, sizes: ConfigSizes) -> _Place:
    kind = pattern.attention_kind if pattern.group in ATTENTION_GROUPS else ""
    return _stack(match, pattern, spec, sizes), match.layer, kind


def _stack(match: Match, pattern: MatrixPattern, spec: FamilySpec, sizes: ConfigSizes) -> str:
    beyond = spec.stack_beyond and match.layer is not None and match.layer >= (sizes.layers or _MOST)
    return spec.stack_beyond if beyond else pattern.stack or spec.stack


def _told_by_shapes(
    index: TensorIndex, matches: Mapping[str, Match | None], spec: FamilySpec, sizes: ConfigSizes
) -> _Told:
    told = _Told()
    kinds = {
        Group.O: (told.query_rows, 1),
        Group.K_B: (told.latent_rows, 1),
        Group.ROUTER: (told.routed, 0),
    }
    for name, match in matches.items():
        if match is None or not isinstance(match.pattern, MatrixPattern) or len(index[name].shape) != 2:
            continue
        if match.pattern.group in kinds:
            found, axis = kinds[match.pattern.group]
            whole = Slice(tensor=index[name], transposed=match.pattern.transposed)
            found[_place(match, match.pattern, spec, sizes)] = whole.shape[axis]
    return told


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
    if match is None and len(info.shape) == 3 and "conv" not in info.name.lower():
        return "three dimensions whose roles no family describes"
    return ""


def _may_have_more_dimensions(info: TensorInfo, match: Match) -> bool:
    """Whether a tensor of three dimensions or more can be what it was taken for."""
    pattern = match.pattern
    if not isinstance(pattern, MatrixPattern):
        return False
    return pattern.group == Group.CONV or (pattern.expert == "stacked" and len(info.shape) == 3)


def _unmatched(info: TensorInfo) -> Matrix:
    group = Group.OTHER if len(info.shape) == 2 else Group.CONV
    return Matrix(stack="", layer=None, attention_kind="", group=group, slices=(Slice(tensor=info),))


def _matched(
    info: TensorInfo,
    match: Match,
    pattern: MatrixPattern,
    spec: FamilySpec,
    sizes: ConfigSizes,
    told: _Told,
) -> Iterator[Matrix]:
    if (match.layer or 0) > _MOST or (match.expert or 0) > _MOST:
        raise FamilyMismatch(
            f"Tensor {info.name!r} was read as family {spec.name!r}.",
            "The number of its layer or expert is beyond any model.",
            "Rename it, or describe the checkpoint in a family file and pass it with --family.",
        )
    stack, layer, kind = place = _place(match, pattern, spec, sizes)
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
                attention_kind=kind if layer is not None and group in ATTENTION_GROUPS else "",
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
    return parts


def _stacked(split: Mapping[str, Rows]) -> Rows | None:
    """The rows of Q, K and V one after another; None if that is how they are stored."""
    rows = tuple(some for part in "QKV" for some in split[part])
    in_order = all(one.stop == other.start for one, other in pairwise(rows))
    return None if in_order else rows


def _without_duplicates(matrices: list[Matrix], spec: FamilySpec) -> list[Matrix]:
    """The matrices, if no two claim one place; of two guesses that do, the later one is no guess at all."""
    seen: dict[tuple[object, ...], Matrix] = {}
    settled: list[Matrix] = []
    for matrix in matrices:
        place = (matrix.stack, matrix.layer, matrix.attention_kind, matrix.group, matrix.expert, matrix.head)
        alone = matrix.layer is not None and matrix.group not in (Group.OTHER, Group.CONV)
        if not alone or place not in seen:
            seen[place] = matrix
            settled.append(matrix)
        elif spec.name == UNKNOWN:
            settled.append(
                replace(matrix, stack="", layer=None, attention_kind="", group=Group.OTHER, expert="")
            )
        else:
            raise FamilyMismatch(
                f"The tensors were given their roles by family {spec.name!r}.",
                f"Both {seen[place].parameter!r} and {matrix.parameter!r} are {matrix.group} of layer "
                f"{matrix.layer}.",
                "Remove one copy, or describe the checkpoint in a family file and pass it with --family.",
            )
    return settled


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
