"""`inspect`: a checkpoint's sizes and roles from headers and config alone (paper A's Table 1)."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from reprlib import repr as brief
from typing import TYPE_CHECKING, Any, Unpack

from weightscope.checkpoint import Checkpoint, Opening, open_checkpoint
from weightscope.families.matching import NameMatcher
from weightscope.families.matrix import Matrix
from weightscope.families.sizes import ConfigSizes
from weightscope.families.spec import Group, IgnoredPattern
from weightscope.group_entries import GroupEntry, group_entries
from weightscope.over_experts import NUMBERED

if TYPE_CHECKING:
    from weightscope.checkpoints.stream import Openable

# A config names one.
_MOST_ARCHITECTURES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSizes:
    """The sizes of one stack. What neither headers nor config tell is None."""

    stack: str
    """`encoder`, `decoder` …; empty if no layer was found."""
    layers: int | None
    """Transformer blocks."""
    model_dimension: int | None
    """Width of the residual stream."""
    feed_forward_dimension: int | None
    """Width of the MLP, of dense layers where there are experts."""
    expert_feed_forward_dimension: int | None
    """Width of one of the experts among which a router chooses; None for models without."""
    heads: int | None
    """Query heads."""
    kv_heads: int | None
    """Key and value heads."""
    head_dimension: int | None
    """Rows of Q that one head has; of latent attention those of Q_B."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What headers and config tell. A size that neither tells is None.

    Of several stacks, `layers` to `head_dimension` are the sizes of the family's own, such as the decoder.
    """

    checkpoint: str
    """The reference as given."""
    family: str
    """Family, or `unknown`."""
    architectures: tuple[str, ...]
    """As config.json states them."""
    layers: int | None
    """Transformer blocks."""
    model_dimension: int | None
    """Width of the residual stream."""
    feed_forward_dimension: int | None
    """Width of the MLP, of dense layers where there are experts."""
    expert_feed_forward_dimension: int | None
    """Width of one of the experts among which a router chooses; None for models without."""
    heads: int | None
    """Query heads."""
    kv_heads: int | None
    """Key and value heads."""
    head_dimension: int | None
    """Rows of Q that one head has; of latent attention those of Q_B."""
    stacks: tuple[StackSizes, ...]
    """The same for each stack, in the order of the table; one entry for most models."""
    experts: int | None
    """Experts of a layer among which a router chooses; None for models without."""
    vocabulary: int | None
    """Tokens."""
    parameters: int
    """Elements of all tensors that are no buffers, tied ones counted once. Of a file a buffer is told by its
    name, such as BatchNorm's `running_mean`; a live module is asked."""
    dtypes: dict[str, int]
    """Elements by stored type, buffers and copies left out."""
    bytes: int
    """Bytes of all tensors."""
    shards: int
    """Files the tensors lie in; 0 for tensors in memory."""
    groups: tuple[GroupEntry, ...]
    """Which parameters go to which group."""
    skipped: tuple[tuple[str, str], ...]
    """Tensors of two or more dimensions in no matrix, with the reason."""
    notes: tuple[str, ...]
    """What was passed over, assumed or contradictory."""
    guesses: tuple[str, ...]
    """For an unknown family, what each name template was taken for."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def inspect(source: Openable, **opening: Unpack[Opening]) -> Inspection:
    """Read headers and config and tell what is there; no weight is read.

    Args:
        source: As for `open_checkpoint`.
        **opening: As for `open_checkpoint`: revision, subfolder, family, allow_pickle …

    Raises:
        WeightscopeError: As `open_checkpoint` raises them.
    """
    with open_checkpoint(source, **opening) as checkpoint:
        return _inspect(checkpoint)


def _inspect(checkpoint: Checkpoint) -> Inspection:
    sizes, matrices = checkpoint.sizes, checkpoint.matrices
    stacks = _stacks(checkpoint)
    own = next((stack for stack in stacks if stack.stack == checkpoint.detection.spec.stack), stacks[0])
    tied = {entry.tensor.name for entry in checkpoint.skipped if entry.kind == "tied"}
    buffers = checkpoint.assignment.buffers | checkpoint.source.buffers | tied
    elements: Counter[str] = Counter()
    for info in checkpoint.tensors.values():
        if info.name not in buffers:
            elements[info.dtype] += info.elements
    architectures = checkpoint.config.get("architectures")
    return Inspection(
        checkpoint=checkpoint.source.reference,
        family=checkpoint.detection.spec.name,
        architectures=tuple(_printable(name) for name in architectures[:_MOST_ARCHITECTURES])
        if isinstance(architectures, list)
        else (),
        layers=own.layers,
        model_dimension=own.model_dimension,
        feed_forward_dimension=own.feed_forward_dimension,
        expert_feed_forward_dimension=own.expert_feed_forward_dimension,
        heads=own.heads,
        kv_heads=own.kv_heads,
        head_dimension=own.head_dimension,
        stacks=stacks,
        experts=_experts(matrices),
        vocabulary=sizes.vocabulary or _first(matrices, (Group.UNEMBEDDING, Group.EMBEDDING), axis=0),
        parameters=sum(elements.values()),
        dtypes=dict(elements.most_common()),
        bytes=checkpoint.tensors.nbytes,
        shards=len(checkpoint.source.files),
        groups=group_entries(matrices),
        skipped=tuple((entry.tensor.name, entry.reason) for entry in checkpoint.skipped),
        notes=checkpoint.notes,
        guesses=checkpoint.detection.guesses,
    )


def _printable(name: object) -> str:
    """A config is somebody else's text: nothing in it may command the terminal, or flood it."""
    return name if isinstance(name, str) and name.isprintable() and len(name) <= 200 else brief(name)


def _first(matrices: tuple[Matrix, ...], groups: tuple[Group, ...], *, axis: int) -> int | None:
    """A size of the first matrix of these groups."""
    return next((matrix.shape[axis] for matrix in matrices if matrix.group in groups), None)


def _stacks(checkpoint: Checkpoint) -> tuple[StackSizes, ...]:
    """The sizes of each stack that has layers, in the table's order; of the whole if there is none."""
    found = {matrix.stack: None for matrix in checkpoint.matrices if matrix.layer is not None}
    if not found:
        return (_stack(checkpoint, "", checkpoint.matrices, checkpoint.sizes),)
    several = []
    for stack in found:
        members = tuple(m for m in checkpoint.matrices if m.stack == stack and m.attention_kind != "cross")
        sizes = checkpoint.stack_sizes.get(stack)
        if sizes is None:  # the config tells nothing apart
            sizes = checkpoint.sizes if len(found) == 1 else ConfigSizes()
        several.append(_stack(checkpoint, stack, members, sizes))
    return tuple(several)


def _stack(
    checkpoint: Checkpoint, stack: str, matrices: tuple[Matrix, ...], sizes: ConfigSizes
) -> StackSizes:
    heads = sizes.heads or _heads(checkpoint, stack, matrices, sizes.head_dim)
    # What a config states of the width is the experts' in some families, and in others of layers not there.
    routed = any(matrix.expert.isdecimal() for matrix in matrices)
    return StackSizes(
        stack=stack,
        layers=len({m.layer for m in matrices if m.layer is not None}) or sizes.layers,
        model_dimension=_first(matrices, (Group.QKV, Group.Q), axis=1) or sizes.model_dimension,
        feed_forward_dimension=_width(matrices, expert="")
        or (None if routed else sizes.feed_forward_dimension),
        expert_feed_forward_dimension=_width(matrices, expert=NUMBERED)
        or (sizes.expert_dimension if routed else None),
        heads=heads,
        kv_heads=sizes.kv_heads or _kv_heads(matrices, heads),
        head_dimension=_head_dimension(matrices, heads) or sizes.head_dim,
    )


def _width(matrices: tuple[Matrix, ...], *, expert: str) -> int | None:
    """Rows of the first M1 outside the experts, or of the first numbered expert."""
    of_kind = (m for m in matrices if (NUMBERED if m.expert.isdecimal() else m.expert) == expert)
    return _first(tuple(of_kind), (Group.M1,), axis=0)


def _head_dimension(matrices: tuple[Matrix, ...], heads: int | None) -> int | None:
    """What Q has rows for, a head; a config need not state it, and DeepSeek's states its rotary part."""
    rows = _first(matrices, (Group.Q, Group.Q_B), axis=0)
    return rows // heads if rows and heads and rows % heads == 0 else None


def _heads(
    checkpoint: Checkpoint, stack: str, matrices: tuple[Matrix, ...], head_dim: int | None
) -> int | None:
    """As many as Q has rows for, if the config or the norm of one head tells how high a head is."""
    spec = checkpoint.detection.spec
    if not head_dim and spec.head_norm and stack == spec.stack:
        own = replace(spec, patterns=(), ignored=(IgnoredPattern(template=spec.head_norm, reason="a norm"),))
        matcher = NameMatcher(own)
        norms = (info for name, info in checkpoint.tensors.items() if matcher.match(name))
        head_dim = next((info.elements for info in norms), None)
    rows = _first(matrices, (Group.Q,), axis=0)
    return rows // head_dim if rows and head_dim and rows % head_dim == 0 else None


def _kv_heads(matrices: tuple[Matrix, ...], heads: int | None) -> int | None:
    """As many as K has rows for, a head of K being as high as one of Q; `heads` where neither is there."""
    queries, keys = (_first(matrices, (group,), axis=0) for group in (Group.Q, Group.K))
    if heads is None or not queries or not keys or heads * keys % queries:
        return heads
    return heads * keys // queries


def _experts(matrices: tuple[Matrix, ...]) -> int | None:
    return max((1 + int(m.expert) for m in matrices if m.expert.isdecimal()), default=None)
