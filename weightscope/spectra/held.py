"""A matrix that waits on the device for its group, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from weightscope.spectra.device_pass import Scaled
from weightscope.spectra.device_sums import DeviceSums, exponent_of, peak_of, power_of_two
from weightscope.spectra.group_tops import Member
from weightscope.spectra.numbers import MatrixNumbers

_FLOAT64_BYTES = 8


@dataclass(slots=True, eq=False)
class Held:
    """A matrix that waits for its group."""

    matrix: Float[Tensor, "rows columns"]
    peak: Float[Tensor, ""]
    exponent: Int[Tensor, ""]
    bf16_valued: bool
    sums: DeviceSums | None = None
    gram: Float[Tensor, "size size"] | None = None
    gram_error: Float[Tensor, ""] | None = None
    numbers: MatrixNumbers | None = None

    @classmethod
    def of(
        cls,
        matrix: Float[Tensor, "rows columns"],
        *,
        bf16_valued: bool,
        peak: Float[Tensor, ""] | None = None,
    ) -> Held:
        """With its largest element, unless that is known, and the power of two to take off."""
        peak = peak_of(matrix) if peak is None else peak
        return cls(matrix=matrix, peak=peak, exponent=exponent_of(peak), bf16_valued=bf16_valued)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def is_tall(self) -> bool:
        """Whether its columns are the short side."""
        return self.shape[0] >= self.shape[1]

    @property
    def scaled(self) -> Scaled:
        """What is solved: its columns the short side, its elements of the order of one."""
        tall = self.matrix if self.is_tall else self.matrix.mT
        return Scaled(tall=tall, factor=power_of_two(-self.exponent))

    @property
    def member(self) -> Member:
        """To find its largest singular value."""
        assert self.gram is not None and self.sums is not None  # noqa: S101, PT018 - set when it was taken in
        return Member(matrix=self.scaled, gram=self.gram, squares=self.sums.squares)

    def numbers_on_device(self) -> Float[Tensor, " numbers"]:
        """What the host needs to know: peak, exponent, error of the Gram matrix, then the moments."""
        assert self.sums is not None  # noqa: S101 - set when it was taken in
        error = torch.zeros_like(self.peak) if self.gram_error is None else self.gram_error
        head = torch.stack([self.peak, self.exponent.to(torch.float64), error])
        return torch.cat([head, self.sums.moments()])

    def release(self) -> None:
        """Give its memory back: its place in the order may be kept for long."""
        self.matrix, self.gram, self.sums = self.matrix[:0], None, None


def kept_copy(matrix: Float[Tensor, "rows columns"], stored: torch.dtype | None) -> Tensor:
    """A copy, laid out alike, in the type it was stored in where that is narrower."""
    copy = torch.empty_like(matrix, dtype=stored or matrix.dtype)
    return copy.copy_(matrix)


def bytes_of(parts: Sequence[Tensor], whole: Tensor | None, *, bf16_valued: bool) -> int:
    """What a stack takes: its values once, as the whole's or the parts', and a Gram matrix each."""
    matrices = [*parts, *([] if whole is None else [whole])]
    stored = torch.bfloat16.itemsize if bf16_valued else parts[0].element_size()
    values = sum(part.numel() for part in parts)
    return values * stored + sum(_FLOAT64_BYTES * min(matrix.shape) ** 2 for matrix in matrices)
