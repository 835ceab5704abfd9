"""`Padding`: inputs of a net that are zero for every sample, left out of its training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Fewer zeros than this share are not worth the gathering.
_WORTH = 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Padding:
    """Which columns of each net's inputs are kept; all if there is little to leave out."""

    kept: Int[Tensor, "nets kept"] | None
    """Ascending for each net; None for all. A net with fewer that are not zero keeps some that are."""

    @classmethod
    def of(cls, inputs: Float[Tensor, "nets samples width"]) -> Padding:
        """The padding of these inputs."""
        used = (inputs != 0).any(dim=1)
        most = max(1, int(used.sum(dim=1).max()))
        if most > (1 - _WORTH) * used.shape[1]:
            return cls(kept=None)
        first = torch.sort(used, dim=1, descending=True, stable=True).indices[:, :most]
        return cls(kept=first.sort(dim=1).values)

    def without(self, values: Float[Tensor, "nets rows width"]) -> Float[Tensor, "nets rows kept"]:
        """The kept columns; the tensor itself if all are."""
        return values if self.kept is None else values.gather(2, self._columns(values))

    def replaced(
        self, values: Float[Tensor, "nets rows width"], columns: Float[Tensor, "nets rows kept"]
    ) -> Float[Tensor, "nets rows width"]:
        """The values with others in the kept columns."""
        return columns if self.kept is None else values.scatter(2, self._columns(values), columns)

    def plus(
        self, values: Float[Tensor, "nets rows width"], columns: Float[Tensor, "nets rows kept"]
    ) -> Float[Tensor, "nets rows width"]:
        """The values with something added in the kept columns."""
        if self.kept is None:
            return values + columns
        return values.scatter_add(2, self._columns(values), columns)

    def _columns(self, values: Tensor) -> Tensor:
        assert self.kept is not None  # noqa: S101 - those who call have looked
        return self.kept[:, None].expand(-1, values.shape[1], -1)
