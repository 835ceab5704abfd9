"""Numbers from one pass over blocks, against LAPACK and against the matrix held in memory."""

import math

import numpy as np
import pytest
import torch

from tests import oracles
from weightscope.spectra import gram_top
from weightscope.spectra.accumulate import Accumulator
from weightscope.spectra.extremal import Bound
from weightscope.spectra.gram_top import KnownGram, top_of_gram
from weightscope.spectra.numbers import SpectralOptions
from weightscope.spectra.solver import StackSolver
from weightscope.spectra.streamed import numbers_of
from weightscope.spectra.workspace import Workspace

RTOL = 1e-6
# n·eps for n of a few hundred, and as much for the subtraction of the Gram matrix' error.
ROUNDING = 1e-12


def workspace():
    return Workspace(torch.device("cpu"))


def streamed(matrix, *, block=100, across=None, **options):
    """The numbers of a matrix whose rows, or columns if `across`, come in blocks."""
    across = matrix.shape[0] < matrix.shape[1] if across is None else across
    rows = matrix.mT if across else matrix
    memory = workspace()
    found = Accumulator(rows.shape[1], memory, name="gram")
    with torch.inference_mode():
        for some in rows.split(block):
            found.add([some])
        return numbers_of(
            found,
            tuple(matrix.shape),
            transposed=across,
            options=SpectralOptions(**options),
            workspace=memory,
        )


def held(matrix, **options):
    exact = matrix.clone() if matrix.dtype == torch.float64 else matrix.float()
    solver = StackSolver(SpectralOptions(**options), workspace())
    return solver.solve([exact], None, bf16_valued=matrix.dtype == torch.bfloat16)[0]


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def with_values(rows, columns, values):
    left, _, right = torch.linalg.svd(random(rows, columns), full_matrices=False)
    return left * torch.as_tensor(values, dtype=torch.float64) @ right


KINDS = {
    "gaussian": random(700, 200),
    "wide": random(200, 700),
    "square": random(200, 200),
    "geometric": with_values(500, 200, torch.logspace(0, -8, 200)),
    "one spike": with_values(500, 200, [50.0] + [1.0] * 199),
    "clustered": with_values(500, 200, 1 - 1e-9 * torch.arange(200, dtype=torch.float64)),
    "flat": with_values(400, 200, [1.0] * 200),
    "rank deficient": random(500, 60) @ random(60, 200),
    "rank one": random(500, 1) @ random(1, 200),
    "single row": random(1, 300),
    "single column": random(300, 1),
    "small": random(300, 40),
    "large mean": random(400, 150) + 100,
}


@pytest.mark.parametrize("bound", Bound)
@pytest.mark.parametrize("kind", KINDS)
def test_against_lapack(kind, bound):
    matrix = KINDS[kind]
    sigma = oracles.singular_values(matrix)
    found = streamed(matrix, bound=bound, rtol=RTOL)
    value, upper = found.values["spectral_norm"], found.values["spectral_norm_upper"]
    assert sigma[0] * (1 - RTOL) <= value <= sigma[0] * (1 + 1e-15)
    assert upper <= value * (1 + RTOL) * (1 + 1e-15)
    if bound is not Bound.RESIDUAL:
        assert upper >= sigma[0] * (1 - 1e-15)
    assert found.bound == bound or (bound, found.bound) == ("residual", "probable")
    assert found.method in ("streamed_lanczos", "streamed_eigvalsh")
    assert found.values["frobenius_norm"] == pytest.approx(oracles.frobenius_norm(matrix), rel=1e-12)


@pytest.mark.parametrize("bound", ["probable", "audited", "proved"])
@pytest.mark.parametrize("kind", KINDS)
def test_spectra_against_lapack(kind, bound):
    matrix = KINDS[kind]
    sigma = oracles.singular_values(matrix)
    found = streamed(matrix, bound=Bound(bound), with_spectrum=True)
    values = found.singular_values.numpy()
    assert values.shape == sigma.shape
    assert np.abs(values - sigma).max() <= found.values["spectrum_error"] * sigma[0] * (1 + 1e-9)
    assert found.values["spectrum_error"] <= 1e-6
    assert sigma[0] * (1 - RTOL) <= found.values["spectral_norm"] <= sigma[0] * (1 + 1e-15)
    assert sigma[0] * (1 - 1e-15) <= found.values["spectral_norm_upper"] <= sigma[0] * (1 + RTOL)
    assert (found.method, found.bound) == ("streamed_eigvalsh+gram_eigvalsh", bound)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("shape", [(400, 150), (150, 400)])
def test_either_gram_matrix_will_do(shape, across):
    """The larger one has zeros besides: a part of a whole may be wider than it is high."""
    matrix = random(*shape)
    found = streamed(matrix, across=across, with_spectrum=True, spectrum_method="gram")
    expected = held(matrix, with_spectrum=True, spectrum_method="gram")
    assert set(found.values) == set(expected.values)
    for name, value in expected.values.items():
        if name not in ("spectral_norm_upper", "spectrum_error"):
            assert found.values[name] == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2],
)
@pytest.mark.parametrize("scale", [1.0, 1e-2])
def test_every_type_as_if_it_were_held(dtype, scale):
    matrix = (scale * random(600, 180)).to(dtype)
    found, expected = streamed(matrix), held(matrix)
    for name, value in expected.values.items():
        tolerance = RTOL if name == "spectral_norm_upper" else ROUNDING
        assert found.values[name] == pytest.approx(value, rel=tolerance, abs=1e-18), name


@pytest.mark.parametrize(
    ("exponent", "dtype"),
    [(-100, torch.bfloat16), (100, torch.bfloat16), (-133, torch.float32), (123, torch.float32),
     (-1030, torch.float64), (1010, torch.float64)],
)  # fmt: skip
@pytest.mark.parametrize("bound", Bound)
def test_huge_and_tiny(exponent, dtype, bound):
    """Some of these are subnormal, so they are compared with what they became."""
    matrix = torch.from_numpy(np.ldexp(random(400, 150).numpy(), exponent)).to(dtype)
    unscaled = torch.from_numpy(np.ldexp(matrix.double().numpy(), -exponent))
    sigma = oracles.singular_values(unscaled)[0]
    found = streamed(matrix, bound=bound, with_spectrum=bound is Bound.AUDITED).values
    assert math.ldexp(found["spectral_norm"], -exponent) == pytest.approx(sigma, rel=RTOL)
    assert found["stable_rank"] == pytest.approx(
        oracles.frobenius_norm(unscaled) / sigma, rel=RTOL if bound is Bound.RESIDUAL else 1e-11
    )
    assert found["spectral_norm_upper"] / found["spectral_norm"] <= 1 + 1.01 * RTOL


@pytest.mark.parametrize("with_spectrum", [False, True])
def test_zero_and_not_finite(with_spectrum):
    zero = streamed(torch.zeros(300, 150), with_spectrum=with_spectrum)
    expected = held(torch.zeros(300, 150), with_spectrum=with_spectrum)
    assert zero.status == "zero"
    assert zero.values.keys() == expected.values.keys()
    assert all(value == expected.values[name] or math.isnan(value) for name, value in zero.values.items())
    if with_spectrum:
        assert not zero.singular_values.any()
    spoilt = torch.randn(300, 150)
    spoilt[250, 3] = float("nan")
    assert streamed(spoilt, with_spectrum=with_spectrum).status == "non_finite"


def known(matrix, error=0.0):
    return KnownGram(
        matrix=matrix.T @ matrix, error=error, squares=float(matrix.square().sum()), rows=len(matrix)
    )


@pytest.mark.parametrize("bound", ["probable", "audited", "proved"])
def test_where_lanczos_does_not_do_eigenvalues_take_over(bound, monkeypatch):
    monkeypatch.setattr(gram_top, "MAX_STEPS", 5)
    matrix = with_values(400, 200, torch.cos(torch.arange(200) * math.pi / 400))
    top = top_of_gram(known(matrix), rtol=RTOL, bound=Bound(bound), seed=0, workspace=workspace())
    assert (top.method, top.bound) == ("streamed_eigvalsh", bound)
    assert 1 - RTOL <= top.value <= 1 + ROUNDING
    assert 1 - ROUNDING <= top.upper <= 1 + 2 * RTOL


@pytest.mark.parametrize("error", [1e-9, 1e-5, 1e-2])
@pytest.mark.parametrize("bound", ["residual", "probable", "audited"])
def test_the_error_of_the_gram_matrix_is_in_the_interval(error, bound):
    """Whatever it is: σ₁² may lie anywhere within it of the Gram matrix' largest eigenvalue."""
    matrix = KINDS["geometric"]
    top = top_of_gram(known(matrix, error), rtol=RTOL, bound=Bound(bound), seed=0, workspace=workspace())
    assert top.value**2 <= 1 - error + ROUNDING
    assert top.value**2 >= (1 - error) * (1 - 3 * RTOL)
    if bound != "residual" or top.bound != "residual":
        assert top.upper**2 >= 1 + error - ROUNDING
    if error < RTOL:
        assert top.upper <= top.value * (1 + RTOL)


def test_narrow_tolerances_are_reached():
    found = streamed(KINDS["gaussian"], rtol=1e-12)
    assert found.values["spectral_norm_upper"] / found.values["spectral_norm"] - 1 <= 1e-12
    sigma = oracles.singular_values(KINDS["gaussian"])[0]
    assert found.values["spectral_norm"] == pytest.approx(sigma, rel=1e-12)


def test_the_block_size_changes_nothing_but_rounding():
    matrix = KINDS["gaussian"].float()
    first = streamed(matrix, block=700, with_spectrum=True)
    for block in (1, 13, 256):
        found = streamed(matrix, block=block, with_spectrum=True)
        for name, value in first.values.items():
            if name != "spectrum_error":
                assert found.values[name] == pytest.approx(value, rel=1e-11), name
