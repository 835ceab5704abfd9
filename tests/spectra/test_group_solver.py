"""The solver for GPUs, on a CPU, against the one for CPUs and against LAPACK."""

import math

import pytest
import torch

from tests.spectra.test_extremal import SPECTRA, with_spectrum
from weightscope.spectra.extremal import Bound
from weightscope.spectra.group_solver import GroupSolver
from weightscope.spectra.numbers import SpectralOptions
from weightscope.spectra.solver import StackSolver
from weightscope.spectra.workspace import Workspace

CPU = torch.device("cpu")


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stack(*rows, columns, seed=0, transposed=False):
    """Parts below one another, stored row by row or column by column."""
    whole = drawn(sum(rows), columns, seed=seed)
    whole = whole.mT.contiguous().mT if transposed else whole
    return list(torch.split(whole, list(rows))), whole


STACKS = {
    "square": lambda: stack(300, 300, 300, columns=300),
    "grouped queries": lambda: stack(300, 100, 100, columns=300),
    "short": lambda: stack(60, 60, 60, columns=60),
    "short and grouped": lambda: stack(60, 20, 20, columns=60, transposed=True),
    "wide whole": lambda: stack(50, 50, 50, columns=300),
    "transposed": lambda: stack(200, 200, 200, columns=200, transposed=True),
    "tall": lambda: ([drawn(900, 200)], None),
    "wide": lambda: ([drawn(200, 900)], None),
    "wide and transposed": lambda: ([drawn(900, 200).mT], None),
    "small": lambda: ([drawn(20, 30)], None),
    "row": lambda: ([drawn(1, 30)], None),
    "column": lambda: ([drawn(30, 1)], None),
    "number": lambda: ([drawn(1, 1)], None),
    "double": lambda: ([drawn(300, 200).double() * math.pi], None),
    "large mean": lambda: ([drawn(300, 200) + 5], None),
    "far scales": lambda: (lambda p, w: (p[0].mul_(1e-15), p[2].mul_(1e15), (p, w))[2])(
        *stack(150, 150, 150, columns=150)
    ),
    "tiny": lambda: ([drawn(300, 200).double() * 1e-290], None),
    "huge": lambda: ([drawn(300, 200) * 1e35], None),
    "zero": lambda: ([torch.zeros(40, 30)], None),
    "zero and not": lambda: (lambda p, w: (p[1].zero_(), (p, w))[1])(*stack(150, 150, columns=150)),
    "NaN": lambda: (lambda p, w: (p[1].fill_(math.nan), (p, w))[1])(*stack(150, 150, columns=150)),
    "infinite": lambda: (lambda p, w: (p[0][3, 4:5].fill_(-math.inf), (p, w))[1])(
        *stack(150, 150, columns=150)
    ),
    "bfloat16": lambda: stack(300, 300, columns=300),
}


def numbers(solver, names, device="cpu"):
    for name in names:
        parts, whole = STACKS[name]()
        bf16_valued = name == "bfloat16"
        if bf16_valued:
            whole.copy_(whole.bfloat16())
        if device != "cpu" and whole is not None:
            lengths = [len(part) for part in parts]
            whole = whole.to(device)
            parts = list(torch.split(whole, lengths))
        parts = [part.to(device) for part in parts]
        solver.add(parts, whole, bf16_valued=bf16_valued)
    return list(solver.finish())


def assert_same(found, expected, *, sigma_one=1e-9):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.status, one.method, one.bound) == (other.status, other.method, other.bound)
        assert one.values.keys() == other.values.keys()
        errors = max(other.values.get("spectrum_error", 0), one.values.get("spectrum_error", 0))
        for name, value in other.values.items():
            if name in ("spectrum_error", "alpha_ks_distance") or name.startswith("alpha"):
                continue
            if name in ("smallest_singular_value", "condition_number") and errors:
                continue  # compared below, with the stated error
            if name == "spectral_norm_upper":
                assert one.values["spectral_norm"] <= one.values[name] <= value * (1 + 2e-6)
                continue
            assert one.values[name] == pytest.approx(value, rel=sigma_one, abs=0, nan_ok=True), name
        if other.singular_values is None:
            assert one.singular_values is None
        elif other.status == "ok":
            first = float(other.singular_values[0])
            assert torch.allclose(
                one.singular_values / first, other.singular_values / first, rtol=0, atol=2 * errors + 1e-14
            )
        else:
            assert torch.equal(one.singular_values, other.singular_values)


@pytest.mark.parametrize("group_bytes", [1, 4_000_000, 2**30])
@pytest.mark.parametrize("bound", list(Bound), ids=str)
def test_same_numbers_as_the_solver_for_cpus(bound, group_bytes):
    options = SpectralOptions(bound=bound)
    found = numbers(GroupSolver(options, Workspace(CPU), group_bytes=group_bytes), STACKS)
    assert_same(found, numbers(StackSolver(options, Workspace(CPU)), STACKS))


@pytest.mark.parametrize("method", ["auto", "svdvals", "gram"])
@pytest.mark.parametrize("bound", [Bound.PROBABLE, Bound.PROVED], ids=str)
def test_same_spectra_as_the_solver_for_cpus(bound, method):
    options = SpectralOptions(bound=bound, with_spectrum=True, spectrum_method=method)
    found = numbers(GroupSolver(options, Workspace(CPU), group_bytes=4_000_000), STACKS)
    assert_same(found, numbers(StackSolver(options, Workspace(CPU)), STACKS))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bound", list(Bound), ids=str)
def test_intervals_of_hard_spectra_in_one_group(bound, dtype):
    """As test_extremal asks of one matrix: also those that a run does not reach."""
    solver = GroupSolver(SpectralOptions(bound=bound), Workspace(CPU))
    sigmas = []
    for name, values in SPECTRA.items():
        for rows in (len(values), 2 * len(values)):
            matrix = with_spectrum(values, rows).to(dtype)
            exact = matrix.double()
            sigmas.append((name, torch.linalg.svdvals(exact)))
            wide = matrix.to(torch.promote_types(dtype, torch.float32))
            solver.add([wide if rows % 600 else wide.mT], None, bf16_valued=dtype == torch.bfloat16)
    for (name, sigma), found in zip(sigmas, solver.finish(), strict=True):
        value, upper = found.values["spectral_norm"], found.values["spectral_norm_upper"]
        assert value <= sigma[0] * (1 + 1e-13), name
        if found.bound == Bound.RESIDUAL:
            assert float((sigma - value).abs().min()) <= (upper - value) * (1 + 1e-6) + 1e-13 * value, name
            continue
        assert found.bound in (bound, Bound.PROVED)
        assert sigma[0] * (1 - 1e-13) <= upper <= value * (1 + 1.0001e-6), name
        assert value == pytest.approx(float(sigma[0]), rel=1e-6), name


def test_what_a_search_stopped_below_is_put_right_by_the_eigenvalues():
    values = torch.ones(300, dtype=torch.float64)
    values[0] += 4e-5
    solver = GroupSolver(SpectralOptions(with_spectrum=True), Workspace(CPU))
    solver.add([torch.diag(values)], None, bf16_valued=False)
    found = next(solver.finish())
    assert found.values["spectral_norm"] == pytest.approx(1 + 4e-5, rel=1e-9)
    assert found.values["spectral_norm_upper"] >= 1 + 4e-5


def test_numbers_come_in_order_a_group_at_a_time():
    matrices = [drawn(200, 200, seed=i) for i in range(5)]
    needed = 200 * 200 * (4 + 8)
    solver = GroupSolver(SpectralOptions(), Workspace(CPU), group_bytes=2 * needed)
    early = []
    for matrix in matrices:
        solver.add([matrix], None, bf16_valued=False)
        matrix.zero_()  # its memory is the caller's again
        early.append(len(list(solver.results())))
    assert early == [0, 0, 2, 0, 2]
    assert [found.status for found in solver.finish()] == ["ok"]
    assert list(solver.finish()) == []


def test_nothing_is_fetched_while_stacks_are_taken_in(monkeypatch):
    """A GPU would stop at each number that is."""

    def fetched(*_):
        raise AssertionError("a number was fetched from the device")

    solver = GroupSolver(SpectralOptions(with_spectrum=True), Workspace(CPU))
    prepared = {name: STACKS[name]() for name in STACKS}
    with monkeypatch.context() as patched:
        for method in ("item", "tolist", "__float__", "__int__", "__bool__", "cpu", "numpy"):
            patched.setattr(torch.Tensor, method, fetched)
        for parts, whole in prepared.values():
            solver.add(parts, whole, bf16_valued=False)
    assert len(list(solver.finish())) == sum(len(p) + (w is not None) for p, w in prepared.values())
