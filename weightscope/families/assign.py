"""From headers to matrices: which part of which tensor is which matrix, and what is left over.

The completeness law: every tensor of two or more dimensions becomes matrices or is skipped with a
reason. Nothing here reads a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Literal

from weightscope.checkpoints.dtypes import ELEMENT_TYPES
from weightscope.checkpoints.header import TensorIndex, TensorInfo
from weightscope.errors import FamilyMismatch
from weightscope.families.guess import UNKNOWN
from weightscope.families.layouts import LAYOUTS, HeadCounts, LayoutError, Rows
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
    index: TensorIndex,
    spec: FamilySpec,
    counts: HeadCounts,
    tied: Mapping[str, str] | None = None,
    same: Callable[[TensorInfo, TensorInfo], bool] = lambda one, other: False,
) -> Assignment:
    """Give every tensor of two or more dimensions its role.

    Args:
        index: The checkpoint's headers.
        spec: Its family.
        counts: Head counts from its config, for fused layouts.
        tied: Other names of tensors in the index, for live models.
        same: Whether two tensors in one place are copies of each other, bit for bit.

    Raises:
        FamilyMismatch: Two tensors claim one place, or a fused weight does not fit its layout.
    """
    matcher = NameMatcher(spec)
    matrices: list[Matrix] = []
    skipped: list[Skipped] = []
    buffers: set[str] = set()
    matches = {name: matcher.match(name) for name in index}
    query_rows = _query_rows(index, matches, spec)
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
            own = replace(counts, query_rows=query_rows.get(_attention(match, match.pattern, spec)))
            matrices.extend(_matched(info, match, match.pattern, spec, own))
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


def _attention(match: Match, pattern: MatrixPattern, spec: FamilySpec) -> tuple[str, int | None, str]:
    return pattern.stack or spec.stack, match.layer, pattern.attention_kind


def _query_rows(
    index: TensorIndex, matches: Mapping[str, Match | None], spec: FamilySpec
) -> dict[tuple[str, int | None, str], int]:
    """For each attention the features that its output O reads, one for each row of Q."""
    found: dict[tuple[str, int | None, str], int] = {}
    for name, match in matches.items():
        if match is None or not isinstance(match.pattern, MatrixPattern) or len(index[name].shape) != 2:
            continue
        if match.pattern.group == Group.O:
            whole = Slice(tensor=index[name], transposed=match.pattern.transposed)
            found[_attention(match, match.pattern, spec)] = whole.shape[1]
    return found


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
    if len(info.shape) > 2 and match is not None:
        return f"{len(info.shape)} dimensions where the family's {match.pattern.template!r} has 2"
    if len(info.shape) == 3 and "conv" not in info.name.lower():
        return "three dimensions whose roles no family describes"
    return ""


def _unmatched(info: TensorInfo) -> Matrix:
    group = Group.OTHER if len(info.shape) == 2 else Group.CONV
    return Matrix(stack="", layer=None, attention_kind="", group=group, slices=(Slice(tensor=info),))


def _matched(
    info: TensorInfo, match: Match, pattern: MatrixPattern, spec: FamilySpec, counts: HeadCounts
) -> Iterator[Matrix]:
    if (match.layer or 0) > _MOST or (match.expert or 0) > _MOST:
        raise FamilyMismatch(
            f"Tensor {info.name!r} was read as family {spec.name!r}.",
            "The number of its layer or expert is beyond any model.",
            "Rename it, or describe the checkpoint in a family file and pass it with --family.",
        )
    whole = Slice(tensor=info, transposed=pattern.transposed)
    parts: dict[Group, Slice] = {pattern.group: whole}
    if pattern.layout is not None:
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
    in_layer = match.layer is not None
    for group, part in parts.items():
        yield Matrix(
            stack=(pattern.stack or spec.stack) if in_layer else "",
            layer=match.layer,
            attention_kind=pattern.attention_kind if in_layer and group in ATTENTION_GROUPS else "",
            group=group,
            expert="" if match.expert is None else str(match.expert),
            slices=(part,),
        )


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
    compared: dict[tuple[str, str], bool] = {}
    for matrix in matrices:
        place = _place(matrix, matches)
        first = seen.setdefault(place, matrix)
        if first is matrix:
            settled.append(matrix)
            continue
        (one,), (other,) = first.slices, matrix.slices
        pair = (one.tensor.name, other.tensor.name)
        if pair not in compared:
            compared[pair] = same(one.tensor, other.tensor)
        guesses = [matches[name] for name in pair]
        if compared[pair] and (one.rows, one.transposed) == (other.rows, other.transposed):
            copies[other.tensor.name] = one.tensor.name
        elif spec.name == UNKNOWN and len({guess.pattern for guess in guesses if guess}) > 1:
            settled.append(
                replace(matrix, stack="", layer=None, attention_kind="", group=Group.OTHER, expert="")
            )
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


def _place(matrix: Matrix, matches: Mapping[str, Match | None]) -> tuple[object, ...]:
    """What only one tensor may be; outside the layers several share a group, but not a template."""
    if matrix.layer is not None:
        expert = (matrix.expert, matrix.head)
        return (matrix.stack, matrix.layer, matrix.attention_kind, matrix.group, *expert)
    name = matrix.slices[0].tensor.name
    match = matches[name]
    return (matrix.group, name if match is None else match.pattern.template)


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
