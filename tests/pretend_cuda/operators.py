"""What there is to know of an operator before it is carried out, from its schema and tags; once for each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

_ATEN = torch.ops.aten
# Their C++ looks at what LAPACK says of its success.
_CHECKED = {_ATEN._linalg_eigh.default, _ATEN._linalg_svd.default, _ATEN._linalg_solve_ex.default}
_INDEXING = {_ATEN.index.Tensor, _ATEN.index_put_.default, _ATEN.index_put.default}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One overload of an operator."""

    name: str
    """Without namespace and overload."""
    composite: bool
    """Whether it is made of others."""
    view: bool
    """Whether its results lie in its first argument's memory."""
    writes: tuple[tuple[int, str], ...]
    """The arguments that it writes to, by place and name."""
    random: bool
    """Whether it draws."""
    fetches: bool
    """Whether the host waits for it: for a number, for a shape, for word of its success."""
    pointwise: bool
    """Whether it takes a number that lies on the host."""
    moves: bool
    """Whether it takes such a tensor, and copies it to the device first."""
    indexing: bool
    """Whether its second argument is indices."""

    @property
    def allocates_only(self) -> bool:
        """Whether it leaves its result as the memory was."""
        return self.name.removeprefix("new_").startswith("empty")


@cache
def known(func: Any) -> Operator:
    """What there is to know."""
    schema, tags = func._schema, func.tags
    aliases = [one.alias_info for one in schema.returns]
    fetching = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
    return Operator(
        name=schema.name.split("::")[1],
        composite=torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"),
        view=any(alias is not None and not alias.is_write for alias in aliases),
        writes=tuple(
            (place, one.name)
            for place, one in enumerate(schema.arguments)
            if one.alias_info is not None and one.alias_info.is_write
        ),
        random=torch.Tag.nondeterministic_seeded in tags,
        fetches=func in _CHECKED or (bool(fetching & set(tags)) and func not in _INDEXING),
        pointwise=torch.Tag.pointwise in tags or func is _ATEN.fill_.Tensor,
        moves=func in _INDEXING or func is _ATEN.where.self,
        indexing=func in _INDEXING,
    )
