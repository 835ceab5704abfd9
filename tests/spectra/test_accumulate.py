"""Blocks of rows add up to the matrix, however it is cut, and the error that is stated holds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weightscope.spectra import accumulate
from weightscope.spectra.accumulate import Accumulator
from weightscope.spectra.moments import sums_and_product
from weightscope.spectra.workspace import Workspace

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
# Sums of a few hundred float64 terms in another order.
ROUNDING = 1e-13


def workspace():
    return Workspace(torch.device("cpu"))


def accumulated(matrix, cuts, *, name="gram", memory=None):
    found = Accumulator(matrix.shape[1], memory or workspace(), name=name)
    for block in matrix.tensor_split(cuts):
        found.add([block])
    return found


@st.composite
def cut_matrices(draw):
    rows, columns = draw(st.integers(1, 90)), draw(st.integers(1, 50))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    matrix = matrix.to(draw(st.sampled_from(DTYPES)))
    if draw(st.booleans()):  # lying column by column
        matrix = matrix.mT.contiguous().mT
    return matrix, sorted(draw(st.lists(st.integers(0, rows), max_size=5)))


@given(cut_matrices(), st.integers(1, 40))
def test_blocks_add_up(given_, height):
    matrix, cuts = given_
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accumulate, "_ROWS", height)
        patch.setattr(accumulate, "_ELEMENTS", 1)
        found = accumulated(matrix, cuts)
    exact = matrix.double()
    values = exact.numpy()
    found.finish()
    scale = np.abs(values).max() ** 2 * len(values)
    assert np.abs(found.gram.numpy() - values.T @ values).max() <= ROUNDING * scale
    assert found.peak == np.abs(values).max()
    assert found.rows == len(values)
    whole, _ = sums_and_product(exact, workspace=workspace())
    for name in ("row_squares", "column_squares"):
        assert getattr(found.sums, name).numpy() == pytest.approx(getattr(whole, name).numpy(), rel=1e-13)
    assert found.sums.mean == pytest.approx(values.mean(), abs=1e-14)
    assert found.sums.spread == pytest.approx(((values - values.mean()) ** 2).sum(), rel=1e-12, abs=1e-13)


@given(cut_matrices())
def test_the_error_that_is_stated_holds(given_):
    matrix, cuts = given_
    found = accumulated(matrix, cuts)
    found.finish()
    values = matrix.double().numpy().astype(np.longdouble)
    off = np.linalg.norm((found.gram.numpy() - values.T @ values).astype(np.float64), 2)
    # Its own evaluation rounds too, so an error of nothing but rounding may be found to be none.
    assert off <= found.gram_error() + 1e-15 * (values.astype(np.float64) ** 2).sum()


def test_an_error_of_the_gram_matrix_is_seen():
    matrix = torch.randn(200, 40, dtype=torch.float64)
    found = accumulated(matrix, [70])
    found.finish()
    assert found.gram_error() < 1e-10
    found.gram[3, 5] += 1e-4
    found.gram[5, 3] += 1e-4
    assert found.gram_error() >= 1e-4


@given(cut_matrices(), st.integers(1, 4))
def test_side_by_side_and_in_parts(given_, columns):
    """Blocks beside one another are their rows; parts that are merged are their rows below one another."""
    matrix, cuts = given_
    once = accumulated(matrix, cuts)
    beside = Accumulator(matrix.shape[1], workspace(), name="gram")
    for block in matrix.tensor_split(cuts):
        beside.add(block.tensor_split(columns, dim=1))
    memory, (first, *others) = workspace(), matrix.tensor_split(cuts)
    merged = accumulated(first, [], name="first", memory=memory)
    for i, other in enumerate(others):
        merged.merge(accumulated(other, [], name=f"other{i}", memory=memory))
    for found in (once, beside, merged):
        found.finish()
    for found in (beside, merged):
        assert torch.allclose(found.gram, once.gram, rtol=ROUNDING, atol=ROUNDING)
        assert found.peak == once.peak
        assert found.rows == once.rows
        assert torch.allclose(found.sums.row_squares, once.sums.row_squares, rtol=ROUNDING)
        assert found.gram_error() == pytest.approx(once.gram_error(), abs=1e-11)


@pytest.mark.parametrize(
    "scales", [(1e-320, 1e300), (1e300, 1e-320), (1e-200, 1e-160, 1.0), (0.0, 1e-310), (1e307,)]
)
def test_a_scale_that_is_not_known_beforehand(scales):
    """Nothing over- or underflows that matters, in whatever order the large and the small come."""
    base = torch.randn(50, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = torch.cat([base * scale for scale in scales])
    found = accumulated(matrix, [50 * i for i in range(1, len(scales))])
    found.finish()
    largest = float(matrix.abs().max())
    exact = (matrix / largest).numpy()  # what underflows here is not seen in any square either
    factor = 2.0**found.exponent / largest
    assert found.peak == largest
    assert 2.0**-31 < largest / 2.0**found.exponent < 2.0**31
    assert found.gram.numpy() * factor**2 == pytest.approx(exact.T @ exact, rel=1e-12, abs=1e-13)
    assert found.sums.squares * factor**2 == pytest.approx((exact**2).sum(), rel=1e-12)
    assert found.gram_error() * factor**2 < 1e-10


def test_merging_brings_to_one_scale():
    base = torch.randn(30, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    memory = workspace()
    small, large = (
        accumulated(base * scale, [9], name=str(scale), memory=memory) for scale in (1e-220, 1e200)
    )
    for one in (small, large):
        one.finish()
    assert small.exponent < -600
    assert large.exponent > 600
    small.merge(large)
    small.finish()
    factor = 2.0**small.exponent / 1e200
    assert small.gram.numpy() * factor**2 == pytest.approx((base.T @ base).numpy(), rel=1e-12)
    assert len(small.sums.row_squares) == 60


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("row", [0, 49, 99])
def test_not_finite(value, row):
    matrix = torch.randn(100, 7)
    matrix[row, 3] = value
    found = accumulated(matrix, [50])
    assert not found.is_finite
    sound = accumulated(torch.randn(100, 7), [50])
    sound.merge(found)
    assert not sound.is_finite


def test_sums_of_many_blocks_are_kept_short(monkeypatch):
    monkeypatch.setattr(accumulate, "_FEW", 3)
    matrix = torch.randn(100, 7)
    found = accumulated(matrix, list(range(10, 100, 10)))
    assert len(found._found) <= 3
    assert len(found.sums.row_squares) == 100
    assert found.sums.squares == pytest.approx(float(matrix.double().square().sum()), rel=1e-13)
