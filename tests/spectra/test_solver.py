"""The batch interface: what is wrong with one matrix never touches another, and scale does not matter."""

import math

import pytest
import torch

from weightscope.spectra.extremal import Bound
from weightscope.spectra.numbers import SpectralOptions
from weightscope.spectra.solver import StackSolver
from weightscope.spectra.workspace import Workspace

BOTH = SpectralOptions(with_spectrum=True)


def matrix_numbers(batch, options):
    """Each matrix of a batch through one solver, whose memory the next one reuses."""
    solver = StackSolver(options, Workspace(torch.device("cpu")))
    return [solver.solve([matrix], None, bf16_valued=False)[0] for matrix in batch]


def gaussian(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_statuses_and_isolation():
    good = gaussian(4, 20, 30)
    spoilt = good.clone()
    spoilt[1, 3, 3] = math.nan
    spoilt[2, 0, 0] = -math.inf
    spoilt[3] = 0
    found = matrix_numbers(spoilt, BOTH)
    assert [numbers.status for numbers in found] == ["ok", "non_finite", "non_finite", "zero"]
    assert found[0].values == matrix_numbers(good[:1].clone(), BOTH)[0].values
    assert found[1].values == {}
    assert found[1].singular_values is None
    zero = found[3].values
    assert zero["frobenius_norm"] == zero["spectral_norm"] == zero["max_abs"] == 0
    assert "stable_rank" not in zero
    assert found[3].singular_values.tolist() == [0.0] * 20


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (20, 30), (150, 140)])
def test_batched_is_looped(shape):
    batch = gaussian(3, *shape)
    together = matrix_numbers(batch.clone(), BOTH)
    for numbers, matrix in zip(together, batch, strict=True):
        alone = matrix_numbers(matrix[None].clone(), BOTH)[0]
        assert numbers.values == pytest.approx(alone.values, rel=0, abs=0, nan_ok=True)
        assert torch.equal(numbers.singular_values, alone.singular_values)


@pytest.mark.parametrize("power", [-1000, -120, -1, 1, 100, 900])
def test_a_power_of_two_scales_through_exactly(power):
    matrix, factor = gaussian(1, 140, 150), math.ldexp(1.0, power)
    plain = matrix_numbers(matrix.clone(), BOTH)[0]
    scaled = matrix_numbers(matrix * factor, BOTH)[0]
    homogeneous = {
        "frobenius_norm", "spectral_norm", "spectral_norm_upper", "max_abs", "mean", "std", "nuclear_norm",
        "smallest_singular_value", "mp_edge",
    }  # fmt: skip
    for name, value in plain.values.items():
        if name.startswith("alpha"):  # logarithms of values a power of two apart are rounded differently
            expected = value * factor**2 if name == "alpha_xmin" and abs(power) < 500 else None
            assert expected is None or scaled.values[name] == pytest.approx(expected, rel=1e-9)
        else:
            assert scaled.values[name] == (value * factor if name in homogeneous else value), name


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (torch.bfloat16, 1e-30),
        (torch.bfloat16, 1e30),
        (torch.float32, 1e-38),
        (torch.float32, 1e-43),  # subnormal in float32
        (torch.float64, 1e-300),
        (torch.float64, 1e250),
        (torch.float8_e4m3fn, 1.0),
        (torch.float8_e5m2, 1.0),
    ],
)
def test_extreme_scales_and_narrow_types(dtype, scale):
    stored = (gaussian(1, 60, 50) * scale).to(dtype)
    exact = stored.to(torch.float64)
    # LAPACK on values brought to the order of one by an exact power of two.
    power = math.ldexp(1.0, -math.frexp(float(exact.abs().max()))[1]) if scale < 1e300 else 1.0
    sigma = torch.linalg.svdvals(exact[0] * power)
    numbers = matrix_numbers(exact.clone(), BOTH)[0]
    assert numbers.status == "ok"
    assert numbers.values["spectral_norm"] * power == pytest.approx(float(sigma[0]), rel=1e-12)
    assert numbers.values["frobenius_norm"] * power == pytest.approx(float(sigma.norm()), rel=1e-12)
    assert torch.allclose(numbers.singular_values * power, sigma, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-43, 1e-38, 1e30, 1e38])
@pytest.mark.parametrize("shape", [(60, 50), (150, 140)])
def test_float32_is_scaled_as_it_is_stored(scale, shape):
    """The factor for a subnormal matrix, 2^142, is itself beyond float32."""
    stored = (gaussian(1, *shape).clamp(-3, 3) * scale).float()
    stored.clamp_(-3e38, 3e38)
    kept = stored.clone()
    numbers = matrix_numbers(stored, BOTH)[0]
    assert torch.equal(stored, kept)
    sigma = torch.linalg.svdvals(kept[0].double() / scale) * scale
    assert numbers.values["spectral_norm"] == pytest.approx(float(sigma[0]), rel=1e-11)
    assert numbers.values["frobenius_norm"] == pytest.approx(float(sigma.norm()), rel=1e-11)


def test_norms_do_not_depend_on_asking_for_the_spectrum():
    batch = gaussian(2, 140, 150)
    with_it = matrix_numbers(batch.clone(), BOTH)
    without = matrix_numbers(batch.clone(), SpectralOptions())
    for one, other in zip(with_it, without, strict=True):
        assert {name: one.values[name] for name in other.values} == other.values


def long_spectra(**options):
    """A stack of Q, K, V with its QKV and a long matrix, beyond the size that an SVD takes."""
    generator = torch.Generator().manual_seed(3)
    whole = torch.randn(900, 300, generator=generator).to(torch.bfloat16).float()
    long = torch.randn(400, 2000, generator=generator).to(torch.bfloat16).float()
    solver = StackSolver(SpectralOptions(with_spectrum=True, **options), Workspace(torch.device("cpu")))
    solver.add(list(whole.split(300)), whole, bf16_valued=True)
    solver.add([long], None, bf16_valued=True)
    return [*whole.split(300), whole, long], list(solver.finish())


@pytest.mark.parametrize("bound", list(Bound), ids=str)
def test_gram_spectra_of_a_stack(bound):
    matrices, found = long_spectra(bound=bound)
    expected = "gram_eigvalsh" if bound is Bound.PROVED else "mixed_gram_eigvalsh"
    assert [numbers.method for numbers in found] == ["lanczos+gram_eigvalsh"] * 4 + [f"lanczos+{expected}"]
    for matrix, numbers in zip(matrices, found, strict=True):
        sigma = torch.linalg.svdvals(matrix.double())
        values = numbers.values
        assert numbers.singular_values.numpy() == pytest.approx(
            sigma.numpy(), rel=0, abs=values["spectrum_error"] * float(sigma[0])
        )
        assert values["spectrum_error"] < 1e-6
        assert values["spectral_norm"] == pytest.approx(float(sigma[0]), rel=1e-10)
        assert values["spectral_norm"] <= sigma[0] * (1 + 1e-14)
        assert sigma[0] * (1 - 1e-14) <= values["spectral_norm_upper"] <= values["spectral_norm"] * (1 + 1e-6)
        assert numbers.bound == ("probable" if bound is Bound.RESIDUAL else bound)


def test_a_search_that_stopped_below_the_top_is_put_right():
    """Residual tiny from the first step, and not the largest: the eigenvalues know better."""
    values = torch.ones(300, dtype=torch.float64)
    values[0] += 4e-5
    solver = StackSolver(BOTH, Workspace(torch.device("cpu")))
    found = solver.solve([torch.diag(values)], None, bf16_valued=False)[0]
    assert found.values["spectral_norm"] == pytest.approx(1 + 4e-5, rel=1e-9)
    assert found.values["spectral_norm_upper"] >= 1 + 4e-5
    assert found.values["stable_rank"] == pytest.approx(float(values.norm()) / (1 + 4e-5), rel=1e-9)


def test_numbers_come_in_order_though_spectra_wait():
    solver = StackSolver(BOTH, Workspace(torch.device("cpu")))
    matrices = [gaussian(300, 300), torch.zeros(4, 4), gaussian(5, 3), torch.full((2, 2), math.nan)]
    early = []
    for matrix in matrices:
        solver.add([matrix], None, bf16_valued=False)
        early += [numbers.status for numbers in solver.results()]
    assert early + [numbers.status for numbers in solver.finish()] == ["ok", "zero", "ok", "non_finite"]
    assert list(solver.finish()) == []
