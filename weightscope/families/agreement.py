"""Whether the matrices of a family agree with one another and with the heads that config.json states.

What is fused was checked where it was split (qkv_layouts.py); here are the projections stored apart.
"""

from collections.abc import Mapping

from weightscope.errors import FamilyMismatch
from weightscope.families.assign import Assignment
from weightscope.families.heads import HeadCounts
from weightscope.families.matrix import Matrix
from weightscope.families.sizes import ConfigSizes
from weightscope.families.spec import FEED_FORWARD_GROUPS, Group

_Block = dict[Group, Matrix]
_INPUTS = (Group.QKV, Group.Q, Group.K, Group.V, Group.Q_A, Group.KV_A)
_OUTPUTS = (Group.O, Group.M2)


def check_heads(assignment: Assignment, sizes: Mapping[str, ConfigSizes]) -> None:
    """Refuse attention that contradicts the config.

    Args:
        assignment: What each tensor is.
        sizes: What the config states, by stack. Of a stack that is not there only what Q writes and O reads
            is compared.

    Raises:
        FamilyMismatch: Q, K, V and O cannot have the heads that config.json states.
    """
    for (stack, _, _), block in _attentions(assignment).items():
        counts = sizes.get(stack, ConfigSizes()).head_counts
        if problem := _head_problem(block, counts) or _latent_problem(block):
            matrix = next(iter(block.values()))
            raise FamilyMismatch(
                f"The attention of layer {matrix.layer} was read as family {assignment.family.name!r}, "
                f"{matrix.parameter!r} first.",
                problem,
                "Correct config.json, or pass another family with --family.",
            )


def check_widths(assignment: Assignment, sizes: Mapping[str, ConfigSizes]) -> None:
    """Refuse blocks that read or write another width than the model has, or whose parts do not meet.

    A weight that is stored the other way round is found here unless it is square. The width is the config's;
    where it states none, what the layer's attention reads.

    Args:
        assignment: What each tensor is.
        sizes: What the config states, by stack.

    Raises:
        FamilyMismatch: It names a matrix and both sizes.
    """
    reading: dict[tuple[str, int], Matrix] = {}
    for matrix in assignment.matrices:
        if matrix.layer is not None and matrix.group in _INPUTS and matrix.attention_kind != "cross":
            reading.setdefault((matrix.stack, matrix.layer), matrix)
    for matrix in assignment.matrices:
        facing = None if matrix.layer is None else _facing(matrix)
        if facing is None:
            continue
        size, side = facing
        width = sizes.get(matrix.stack, ConfigSizes()).model_dimension
        first = reading.get((matrix.stack, matrix.layer or 0))
        if width is not None and size != width:
            said = f"the config states a model dimension of {width}."
        elif width is None and first is not None and size != first.shape[1]:
            said = f"{first.parameter!r} in the same layer reads {first.shape[1]} features."
        else:
            continue
        raise FamilyMismatch(
            f"{matrix.parameter!r} was read as {matrix.group} of family {assignment.family.name!r}.",
            f"It has {size} {side}, and {said}",
            "Correct config.json, or pass another family with --family.",
        )
    for block in _feed_forwards(assignment):
        if problem := _feed_forward_problem(block):
            raise FamilyMismatch(
                f"{next(iter(block.values())).parameter!r} was read as {next(iter(block))} of family "
                f"{assignment.family.name!r}.",
                problem,
                "Check that the checkpoint is whole, or pass another family with --family.",
            )


def _facing(matrix: Matrix) -> tuple[int, str] | None:
    """The size of a matrix that is the model's width, and which side it is; None if neither is."""
    rows, columns = matrix.shape
    if matrix.group in _OUTPUTS:
        return rows, "rows"
    cross = matrix.attention_kind == "cross"  # its keys and values are made of another model's output
    if matrix.group in ((Group.Q,) if cross else (*_INPUTS, Group.M1, Group.G)):
        return columns, "columns"
    return None


def _latent_problem(block: _Block) -> str:
    """What of latent attention's factors does not meet; empty if all do."""
    for second, first in ((Group.Q_B, Group.Q_A), (Group.K_B, Group.KV_A), (Group.V_B, Group.KV_A)):
        if first in block and second in block and block[second].shape[1] != block[first].shape[0]:
            return (
                f"{second}, {block[second].parameter!r}, reads {block[second].shape[1]} features, and "
                f"{first} has {block[first].shape[0]} rows."
            )
    return ""


def _feed_forward_problem(block: _Block) -> str:
    """What of a feed-forward part, or of one expert, does not fit the rest; empty if all does."""
    if Group.M2 not in block:
        return ""
    second = block[Group.M2]
    for group in (Group.M1, Group.G):
        first = block.get(group, second)
        if first is second:
            continue
        if first.shape[0] != second.shape[1]:
            return (
                f"{group} has {first.shape[0]} rows, and M2, {second.parameter!r}, reads {second.shape[1]} "
                "features."
            )
        if first.shape[1] != second.shape[0]:
            return (
                f"{group} reads {first.shape[1]} features, and M2, {second.parameter!r}, writes "
                f"{second.shape[0]}, although both are as wide as the model."
            )
    return ""


def _feed_forwards(assignment: Assignment) -> list[_Block]:
    """The matrices of each feed-forward part, of a mixture one for each expert."""
    blocks: dict[tuple[str, int, str], _Block] = {}
    for matrix in assignment.matrices:
        if matrix.layer is not None and matrix.group in FEED_FORWARD_GROUPS:
            blocks.setdefault((matrix.stack, matrix.layer, matrix.expert), {})[matrix.group] = matrix
    return list(blocks.values())


def _attentions(assignment: Assignment) -> dict[tuple[str, int, str], _Block]:
    """The matrices of each attention, by stack, layer and kind."""
    attentions: dict[tuple[str, int, str], _Block] = {}
    for matrix in assignment.matrices:
        if matrix.attention_kind and matrix.layer is not None:
            place = matrix.stack, matrix.layer, matrix.attention_kind
            attentions.setdefault(place, {})[matrix.group] = matrix
    return attentions


def _head_problem(block: _Block, counts: HeadCounts) -> str:
    """What of a block's attention contradicts the head counts; empty if nothing does."""
    rows = {group: block[group].shape[0] for group in (Group.Q, Group.K, Group.V) if group in block}
    apart = Group.K in rows or Group.V in rows  # latent attention's heads of Q and of V differ
    if apart and Group.Q in rows and Group.O in block and rows[Group.Q] != block[Group.O].shape[1]:
        return f"Q has {rows[Group.Q]} rows, and O reads {block[Group.O].shape[1]} features."
    head_dims: dict[str, int] = {}
    for group, height in rows.items():
        # Where only the queries' heads are stated, keys and values may have fewer: nothing to compare.
        heads = counts.heads if group == Group.Q else counts.kv_heads
        if heads is None:
            continue
        head_dims[group], rest = divmod(height, heads)
        if rest:
            return f"{group} has {height} rows, which do not divide into the config's {heads} heads."
        if counts.head_dim not in (None, head_dims[group]):
            return f"{group} has {height} rows, and the config says {heads} heads of {counts.head_dim}."
    if len(set(head_dims.values())) > 1:
        each = ", ".join(f"{head_dim} rows in {group}" for group, head_dim in head_dims.items())
        return f"The config's {counts.heads} and {counts.kv_heads} heads would each have {each}."
    return ""
