"""Norms and moments of a matrix on a device, without waiting for it.

As in `moments`, with the same definitions; each number stays on the device until those of a whole group are
fetched together. Values are taken times a power of two that is found on the device as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from weightscope.spectra.moments import Moments

# As in `moments` and in `solver`.
_LARGE_MEAN, _SAFE_EXPONENT, _LARGEST_EXPONENT = 0.1, 30, 1000
_BIAS, _MANTISSA_BITS = 1023, 52


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceSums:
    """Sums over a matrix from which its moments follow; additive over stacked parts. All float64."""

    row_squares: Float[Tensor, " rows"]
    """Squared norm of each row."""
    column_squares: Float[Tensor, " columns"]
    """Squared norm of each column."""
    mean: Float[Tensor, ""]
    """Mean of the elements."""
    spread: Float[Tensor, ""]
    """Sum of squared deviations from the mean."""

    @property
    def count(self) -> int:
        """Number of elements."""
        return len(self.row_squares) * len(self.column_squares)

    @property
    def squares(self) -> Float[Tensor, ""]:
        """‖W‖_F²."""
        return self.row_squares.sum()

    def transposed(self) -> DeviceSums:
        """Those of Wᵀ."""
        return DeviceSums(
            row_squares=self.column_squares,
            column_squares=self.row_squares,
            mean=self.mean,
            spread=self.spread,
        )

    def scaled(self, factor: Float[Tensor, ""]) -> DeviceSums:
        """Those of `factor`·W."""
        square = factor * factor
        return DeviceSums(
            row_squares=self.row_squares * square,
            column_squares=self.column_squares * square,
            mean=self.mean * factor,
            spread=self.spread * square,
        )

    def moments(self) -> Float[Tensor, " moments"]:
        """The moments, in the order of the fields of `Moments`."""
        return torch.stack(
            [
                self.squares.sqrt(),
                self.mean,
                (self.spread.clamp(min=0) / self.count).sqrt(),
                _max_over_median(self.row_squares),
                _max_over_median(self.column_squares),
            ]
        )


def fetched(moments: Sequence[float]) -> Moments:
    """From the numbers that `DeviceSums.moments` gives."""
    frobenius_norm, mean, std, row_norm_ratio, column_norm_ratio = moments
    return Moments(
        frobenius_norm=frobenius_norm,
        mean=mean,
        std=std,
        row_norm_ratio=row_norm_ratio,
        column_norm_ratio=column_norm_ratio,
    )


def stacked(parts: Sequence[DeviceSums]) -> DeviceSums:
    """The sums of parts that lie below one another."""
    # Shares as Python numbers: a tensor made of a list would be copied to the device, and waited for.
    total = sum(part.count for part in parts)
    mean = torch.stack([part.mean * (part.count / total) for part in parts]).sum()
    between = torch.stack([(part.mean - mean).square() * part.count for part in parts]).sum()
    # Chan, Golub and LeVeque 1979: each part's own deviations, and those of the parts' means.
    own = torch.stack([part.spread for part in parts]).sum()
    return DeviceSums(
        row_squares=torch.cat([part.row_squares for part in parts]),
        column_squares=torch.stack([part.column_squares for part in parts]).sum(dim=0),
        mean=mean,
        spread=own + between,
    )


class Accumulator:
    """Collects the sums of a matrix that comes in row blocks."""

    def __init__(self, sample: Float[Tensor, "few columns"], rows: int) -> None:
        """Takes about the mean of a sample off first where it is large: else E[x²] − E[x]² would cancel."""
        mean = sample.mean()
        large = mean.abs() > _LARGE_MEAN * sample.square().mean().sqrt()
        self._shift = torch.where(large, mean, 0.0)
        self._row_squares = sample.new_empty(rows)
        self._column_squares = sample.new_zeros(sample.shape[1])
        self._total = sample.new_zeros(())
        self._deviations = sample.new_zeros(())

    def add(
        self, start: int, block: Float[Tensor, "few columns"], scratch: Float[Tensor, "few columns"]
    ) -> None:
        """Rows from `start` on, float64; `scratch` is overwritten."""
        torch.mul(block, block, out=scratch)
        torch.sum(scratch, dim=1, out=self._row_squares[start : start + len(block)])
        self._column_squares += scratch.sum(dim=0)
        self._total += block.sum()
        self._deviations += torch.sub(block, self._shift, out=scratch).square_().sum()

    def sums(self) -> DeviceSums:
        """When all rows are in."""
        count = len(self._row_squares) * len(self._column_squares)
        mean = self._total / count
        return DeviceSums(
            row_squares=self._row_squares,
            column_squares=self._column_squares,
            mean=mean,
            spread=self._deviations - count * (mean - self._shift).square(),
        )


def peak_of(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, ""]:
    """Largest absolute element, float64; NaN or infinite where one is."""
    lowest, highest = torch.aminmax(matrix)  # NaN propagates through both
    return torch.maximum(-lowest, highest).to(torch.float64)


def exponent_of(peak: Float[Tensor, ""]) -> Int[Tensor, ""]:
    """The power of two to take off before squares are formed; 0 within the safe range or if there is none."""
    usable = torch.isfinite(peak) & (peak > 0)
    exponent = torch.frexp(torch.where(usable, peak, 1.0)).exponent.to(torch.int64)
    exponent = exponent.clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    return torch.where(exponent.abs() > _SAFE_EXPONENT, exponent, 0)


def power_of_two(exponent: Int[Tensor, ""]) -> Float[Tensor, ""]:
    """2^exponent, exact; 0 below the smallest normal number. No library's exp2 promises as much."""
    bits = (exponent.clamp(1 - _BIAS, _BIAS) + _BIAS) << _MANTISSA_BITS
    return torch.where(exponent < 1 - _BIAS, 0.0, bits.view(torch.float64))


def _max_over_median(squares: Float[Tensor, " length"]) -> Float[Tensor, ""]:
    norms = squares.sqrt().sort().values
    middle = len(norms) // 2
    median = norms[middle] if len(norms) % 2 else (norms[middle - 1] + norms[middle]) / 2
    return torch.where(median > 0, norms[-1] / median, torch.nan)
