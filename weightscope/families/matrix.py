"""What one row of the table is made of: parts of stored tensors, as the model uses them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from weightscope.checkpoints.header import TensorInfo
from weightscope.families.heads import Rows
from weightscope.families.spec import LATENT_ATTENTION_GROUPS, Group

# The order in which data run through them; others come after, by name.
_STACKS = ("encoder", "decoder", "text", "vision")
GROUP_ORDER = (*LATENT_ATTENTION_GROUPS, *(group for group in Group if group not in LATENT_ATTENTION_GROUPS))
"""The order in a block: latent attention has its factors before O, where others have Q, K and V."""


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
        order = GROUP_ORDER.index(self.group)
        head = -1 if self.head is None else self.head
        # The empty attention_kind comes last, and matrices outside the layers after all layers: a
        # block reads Q K V O QKV M1 G M2.
        kind = ("self", "cross", "").index(self.attention_kind)
        stack = (_STACKS.index(self.stack) if self.stack in _STACKS else len(_STACKS), self.stack)
        return (self.layer is None, stack, place, kind, order, expert, head, self.parameter)
