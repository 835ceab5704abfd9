"""The compiled passes against torch in float64: every type, layout, ragged size and number of threads."""

import math
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weightscope.kernels import compiling, library
from weightscope.spectra import compiled, moments
from weightscope.spectra.workspace import Workspace

pytestmark = pytest.mark.skipif(not compiled.available(), reason="built without a C compiler")
CPU = torch.device("cpu")
TYPES = [torch.bfloat16, torch.float32]
SHAPES = [
    (1, 1),
    (1, 50),
    (50, 1),
    (4, 32),
    (5, 33),
    (31, 31),
    (130, 67),
    (67, 130),
    (700, 64),
    (64, 2100),
    (513, 512),
]
LAYOUTS = ["rows", "columns", "inside"]
U32 = torch.finfo(torch.float32).eps / 2


def drawn(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def laid(shape, layout, dtype):
    """A matrix stored by rows, by columns, or inside a larger one that is full of NaN."""
    made = drawn(*shape, dtype=dtype)
    if layout == "columns":
        return made.mT.contiguous().mT
    if layout == "inside":
        around = torch.full((shape[0] + 2, shape[1] + 5), math.nan, dtype=dtype)
        around[1:-1, 2:-3] = made
        return around[1:-1, 2:-3]
    return made


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    """Matrices of the size of these tests would get one."""
    monkeypatch.setattr(compiled, "_WORTH_THREADS", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def tall_of(matrix):
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT


def check_product(matrix):
    tall = tall_of(matrix)
    vector, out = drawn(tall.shape[1], seed=1), torch.full((tall.shape[1],), math.nan)
    workspace = Workspace(CPU)
    compiled.gram_product(tall, vector, out, workspace)
    exact, wide = tall.double(), tall.double().abs()
    found = exact.mT @ (exact @ vector.double())
    # Higham 2002, (3.7): each sum is off by γ of the sum of magnitudes; √ of it is what rounding does.
    allowed = 3 * U32 * math.sqrt(sum(tall.shape)) * (wide.mT @ (wide @ vector.double().abs()))
    assert bool(((out - found).abs() <= allowed + 1e-30).all())
    again = torch.empty_like(out)
    compiled.gram_product(tall, vector, again, workspace)
    assert torch.equal(out, again)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gram_products(shape, layout, dtype, threads):
    check_product(laid(shape, layout, dtype))


@pytest.mark.parametrize("size", [1, 2, 31, 32, 33, 100, 257])
def test_symmetric_products(size, threads):
    factor = drawn(size, size)
    matrix = factor @ factor.mT
    matrix = (matrix + matrix.mT) / 2
    vector, out = drawn(size, seed=1), torch.full((size,), math.nan)
    compiled.symmetric_product(matrix, vector, out, Workspace(CPU))
    allowed = 3 * U32 * math.sqrt(size) * (matrix.abs() @ vector.abs())
    assert bool(((out - matrix.double() @ vector.double()).abs() <= allowed).all())


@pytest.mark.parametrize("out", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES, (1100, 300), (257, 256), (513, 31)], ids=str)
def test_gram_matrices_by_the_matrix_units(shape, layout, out, threads):
    matrix = laid(shape, layout, torch.bfloat16)
    tall = tall_of(matrix)
    if not compiled.has_gram_of(tall):
        pytest.skip("no matrix units for bfloat16")
    exact, gram = tall.double(), torch.full((tall.shape[1],) * 2, math.nan, dtype=out)
    compiled.gram(tall, gram, Workspace(CPU))
    assert torch.equal(gram, gram.mT)
    allowed = 3 * U32 * math.sqrt(len(tall)) * (exact.abs().mT @ exact.abs())
    assert bool(((gram - exact.mT @ exact).abs() <= allowed).all())


def test_gram_matrices_do_not_depend_on_the_number_of_threads(monkeypatch):
    tall = drawn(1500, 700, dtype=torch.bfloat16)
    if not compiled.has_gram_of(tall):
        pytest.skip("no matrix units for bfloat16")
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(compiled, "_threads", lambda _, threads=threads: threads)
        gram = torch.empty(700, 700)
        compiled.gram(tall, gram, Workspace(CPU))
        found.append(gram)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize(("steps", "size"), [(1, 1), (1, 40), (3, 33), (4, 64), (30, 200), (150, 331)])
def test_vectors_are_made_orthogonal(steps, size):
    basis = torch.linalg.qr(drawn(size, steps).double()).Q.mT.contiguous()
    vector = drawn(size, seed=1).double() + 3 * basis[-1]
    left = vector - basis.mT @ (basis @ vector)
    narrow, found = basis.float(), vector.float()
    assert compiled.orthogonalises(narrow)
    along, length = compiled.orthogonalise(narrow, found, Workspace(CPU))
    assert along == pytest.approx(float(basis[-1] @ vector), rel=1e-5)
    assert length == pytest.approx(float(found.double().norm()), rel=1e-14)
    assert float((narrow @ found).abs().max()) <= 1e-6 * float(vector.norm()) * max(length, 1e-3)
    assert torch.allclose(found.double(), left, atol=1e-5)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("side", ["right", "left", None])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", ["rows", "inside"])
def test_sums(shape, layout, side, dtype, threads):
    matrix = laid(shape, layout, dtype)
    exact = matrix.double()
    vector = drawn(shape[1] if side == "right" else shape[0], seed=2).double()
    found = compiled.sums(
        matrix, vector if side == "right" else None, vector if side == "left" else None, Workspace(CPU)
    )
    assert torch.allclose(found.row_squares, exact.square().sum(1), rtol=1e-13, atol=0)
    assert torch.allclose(found.column_squares, exact.square().sum(0), rtol=1e-13, atol=0)
    assert torch.allclose(found.row_sums, exact.sum(1), rtol=0, atol=1e-12)
    if side is None:
        assert found.products is None
    else:
        expected = exact @ vector if side == "right" else exact.mT @ vector
        assert torch.allclose(found.products, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("extreme", [None, -7.0, math.inf, -math.inf, math.nan, -math.nan])
def test_largest_elements(shape, dtype, extreme, threads):
    matrix = laid(shape, "rows", dtype)
    if extreme is not None:
        matrix[-1, -1] = extreme
    found = compiled.largest(matrix)
    if extreme is not None and math.isnan(extreme):
        assert math.isnan(found)
    else:
        assert found == float(matrix.abs().max())


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-38, 9.2e-41, 3.3e38])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_largest_elements_at_the_ends_of_the_range(value, dtype):
    matrix = torch.full((3, 40), value).to(dtype)
    assert compiled.largest(matrix) == abs(float(matrix[0, 0]))


@given(
    diagonal=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30),
    seed=st.integers(0, 100),
    scale=st.sampled_from([0.0, 1e-12, 1.0, 1e4]),
)
def test_largest_eigenvalues_of_tridiagonal_matrices(diagonal, seed, scale):
    below = (scale * drawn(len(diagonal), seed=seed).double()).tolist()
    dense = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    side = torch.tensor(below[:-1], dtype=torch.float64)
    dense += torch.diag(side, 1) + torch.diag(side, -1)
    exact = torch.linalg.eigvalsh(dense)
    size = float(exact.abs().max())
    assert compiled.largest_eigenvalue(diagonal, below) == pytest.approx(float(exact[-1]), abs=1e-13 * size)


def test_what_is_not_taken():
    matrix = drawn(20, 30)
    assert compiled.takes(matrix)
    assert compiled.takes(matrix[:, 3:9])
    assert not compiled.takes(matrix.mT)
    assert not compiled.takes(matrix[:, ::2])
    assert not compiled.takes(matrix.double())
    assert not compiled.takes(matrix.half())
    assert not compiled.takes(matrix.to("meta"))
    assert not compiled.takes(matrix[:0])
    assert not compiled.has_gram_of(matrix)
    assert not compiled.orthogonalises(matrix.double())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_moments_are_those_of_torch(layout, shift, monkeypatch):
    matrix = laid((300, 70), layout, torch.float32) + shift
    matrix = matrix.mT.contiguous().mT if layout == "columns" else matrix
    right = drawn(70, seed=3).double()
    workspace = Workspace(CPU)
    mine, product = moments.sums_and_product(matrix, right=right, workspace=workspace)
    monkeypatch.setattr(compiled, "takes", lambda _: False)
    others, expected = moments.sums_and_product(matrix, right=right, workspace=workspace)
    assert product == pytest.approx(expected, rel=1e-13)
    for name in ("frobenius_norm", "mean", "std", "row_norm_ratio", "column_norm_ratio"):
        assert getattr(mine.moments(), name) == pytest.approx(getattr(others.moments(), name), rel=1e-12)


def test_several_threads_of_python_at_once():
    matrices = [drawn(300, 200, seed=seed) for seed in range(8)]
    expected = [compiled.sums(matrix, None, None, Workspace(CPU)).row_squares for matrix in matrices]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = pool.map(lambda matrix: compiled.sums(matrix, None, None, Workspace(CPU)), matrices)
            assert all(torch.equal(one.row_squares, two) for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("flags", [["-march=x86-64"], ["-march=x86-64-v3"]], ids=str)
def test_the_versions_for_other_processors(flags, tmp_path, monkeypatch):
    """Those that this one is too good for; a file with one version each stands in for them."""
    if shutil.which("cc") is None or "x86" not in __import__("platform").machine():
        pytest.skip("no C compiler for x86")
    compiling.compile_kernels(tmp_path / "one.so", [*flags, "-DWEIGHTSCOPE_ONE_VERSION"])
    loaded = library.load(tmp_path / "one.so")
    assert loaded is not None
    monkeypatch.setattr(compiled, "library", lambda: loaded)
    for dtype in TYPES:
        for shape in SHAPES:
            matrix = laid(shape, "inside", dtype)
            check_product(matrix)
            assert compiled.largest(matrix) == float(matrix.abs().max())
            found = compiled.sums(matrix, None, None, Workspace(CPU))
            assert torch.allclose(found.column_squares, matrix.double().square().sum(0), rtol=1e-13, atol=0)
