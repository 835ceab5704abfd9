"""From one stored tensor to its matrices: itself, the parts of a fused weight, the experts of a layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

from weightscope.checkpoints.header import TensorInfo
from weightscope.errors import FamilyMismatch
from weightscope.families.experts import experts_of
from weightscope.families.heads import HeadCounts, LayoutError, Rows
from weightscope.families.layouts import LAYOUTS
from weightscope.families.matching import Match
from weightscope.families.matrix import Matrix, Slice
from weightscope.families.places import Place, Told
from weightscope.families.sizes import MOST, ConfigSizes
from weightscope.families.spec import ATTENTION_GROUPS, FamilySpec, Group, MatrixPattern


def unmatched(info: TensorInfo) -> Matrix:
    """A tensor that no template describes: of no layer, and of the group other, or a convolution."""
    group = Group.OTHER if len(info.shape) == 2 else Group.CONV
    return Matrix(stack="", layer=None, attention_kind="", group=group, slices=(Slice(tensor=info),))


def matched(
    info: TensorInfo,
    match: Match,
    pattern: MatrixPattern,
    spec: FamilySpec,
    sizes: ConfigSizes,
    place: Place,
    told: Told,
) -> Iterator[Matrix]:
    """The matrices of a tensor that a template describes.

    Args:
        info: The tensor.
        match: What its name means.
        pattern: The template's.
        spec: The family.
        sizes: What the config states of its stack.
        place: Where it belongs.
        told: What shapes tell.

    Raises:
        FamilyMismatch: It does not split as the family says, or its numbers are absurd.
    """
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
            f"{_remedy(pattern)}, or pass another family with --family.",
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


def _remedy(pattern: MatrixPattern) -> str:
    of_heads = pattern.group in ATTENTION_GROUPS
    return "Check the head counts in config.json" if of_heads else "Check that the weight is whole"


def _stacked(split: Mapping[str, Rows]) -> Rows | None:
    """The rows of Q, K and V one after another; None if that is how they are stored."""
    rows = tuple(some for part in "QKV" for some in split[part])
    in_order = all(one.stop == other.start for one, other in pairwise(rows))
    return None if in_order else rows


def stacked_qkv(matrices: list[Matrix]) -> Iterator[Matrix]:
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
