"""Matrices that hypothesis makes up, every interval the engine gives them, and what it has to hold.

The truth is bounded from both sides. From below by ‖Wv‖/‖v‖ in 80-bit arithmetic, for LAPACK's v: no vector
gives more than σ₁, and squares of the vector's error are all that it lacks, so an upper bound below it is
broken without any tolerance. From above by LAPACK's σ₁ and the error stated for it, max(m, n)·ε.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st

from weightscope.spectra import extremal
from weightscope.spectra.extremal import Bound, Problem
from weightscope.spectra.numbers import SpectralOptions
from weightscope.spectra.solver import StackSolver
from weightscope.spectra.workspace import Workspace

BOUNDS = (Bound.PROBABLE, Bound.AUDITED, Bound.PROVED)
EPS = float(np.finfo(np.float64).eps)
DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
# Powers of two that the elements, of the order of one, are multiplied by: to where squares leave the range of
# the type, to where the elements themselves lose digits, and to both ends of what is left unscaled, 2^±30.
_WIDE = [0, 0, -31, -27, 24, 29, -100, -128, 100, 118]
EXPONENTS = {
    "float64": [*_WIDE, -900, 900],
    "float32": [*_WIDE, -140],
    "float16": [0, -4, 4],
    "bfloat16": _WIDE,
}
# What parts of a stack are multiplied by beside that.
STAGGERS = [(0, 0, 0), (0, 0, 0), (-40, 0, -3), (0, -12, -60)]


def _spectrum(kind: str, n: int) -> np.ndarray:
    """n singular values, the largest of the order of one."""
    i = np.arange(n)
    return {
        "geometric": lambda: 0.9**i,
        "power law": lambda: (i + 1) ** -0.7,
        "clustered": lambda: np.where(i < max(1, n // 8), 1 - 1e-7 * i, 0.5),
        "close pair": lambda: np.where(i < 2, 1 - 1e-9 * i, 0.3),
        "flat": lambda: np.ones(n),
        "hidden spike": lambda: np.where(i == 0, 1 + 4e-5, 1.0),
        "hidden ulp": lambda: np.where(i == 0, 1 + 2.0**-22, 1.0),
        "one spike": lambda: np.where(i == 0, 100.0, 1.0),
        "rank deficient": lambda: np.where(i < max(1, n // 3), 1 / (i + 1), 0.0),
        "within a thousandth": lambda: np.linspace(1.001, 0.999, n),
        "Chebyshev edge": lambda: np.cos(i * math.pi / (2 * n)),
    }[kind]()


SPECTRA = (
    "geometric", "power law", "clustered", "close pair", "flat", "hidden spike", "hidden ulp", "one spike",
    "rank deficient", "within a thousandth", "Chebyshev edge", "gaussian", "sparse", "positive", "constant",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One stored matrix and how the engine is asked; its printed form is enough to make it again."""

    spectrum: str
    rows: int
    columns: int
    dtype: str
    exponent: int
    """Everything is multiplied by this power of two."""
    stagger: tuple[int, int, int]
    """And the thirds of its rows by these, where they are parts of a stack."""
    rtol: float
    seed: int
    """Of the matrix and of the random start."""
    route: str
    """`sweep`: as a matrix of a checkpoint; `stack`: as QKV with its parts; `lanczos`: at any size."""
    rotated: bool
    """With random singular vectors; else with those of a permutation."""
    turned: bool
    """Stored transposed."""

    def matrix(self) -> torch.Tensor:
        """In float32 or float64, with values that the stored type holds."""
        generator = torch.Generator().manual_seed(self.seed)

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        n = min(self.rows, self.columns)
        made = random(self.rows, self.columns)
        if self.spectrum == "sparse":
            made = torch.where(made.abs() > 2.2, made, 0)
            made[0, -1] = 1.0
        elif self.spectrum == "positive":
            made = made.abs()
        elif self.spectrum == "constant":
            made = 1 + made / 64
        elif self.spectrum != "gaussian":
            values = torch.from_numpy(_spectrum(self.spectrum, n))
            if self.rotated:
                left = torch.linalg.qr(random(self.rows, n)).Q
                made = left * values @ torch.linalg.qr(random(self.columns, n)).Q.mT
            else:
                made.zero_()
                order = torch.randperm(n, generator=generator)
                made[order, order.roll(1)] = values
        for part, exponent in zip(self.parts(made), self.stagger, strict=False):
            part *= 2.0**exponent
        stored = (made * 2.0**self.exponent).to(DTYPES[self.dtype])
        exact = stored.to(torch.float64 if self.dtype == "float64" else torch.float32)
        return exact.mT.contiguous().mT if self.turned else exact

    def parts(self, whole: torch.Tensor) -> list[torch.Tensor]:
        """Up to three parts of a stack: views of the whole, whose rows lie below one another."""
        third = max(1, self.rows // 3)
        thirds = (whole[:third], whole[third : 2 * third], whole[2 * third :])
        return [part for part in thirds if len(part)] if self.route == "stack" else []


@st.composite
def cases(draw) -> Case:
    """Short sides to 320, on both sides of the engine's 128; long sides up to five times that."""
    short = draw(
        st.one_of(*(st.integers(*ends) for ends in ((1, 16), (17, 128), (129, 160), (161, 200), (201, 320))))
    )
    ratio = draw(st.sampled_from([1.0, 1.0, 1.15, 4.0, 5.0]))
    sides = [short, math.ceil(short * ratio)]
    route = draw(st.sampled_from(["sweep", "stack", "lanczos"]))
    if route == "sweep" and draw(st.booleans()):
        sides.reverse()
    dtype = draw(st.sampled_from(list(DTYPES)))
    return Case(
        spectrum=draw(st.sampled_from(SPECTRA)),
        rows=sides[1],
        columns=sides[0],
        dtype=dtype,
        exponent=draw(st.sampled_from(EXPONENTS[dtype])),
        stagger=draw(st.sampled_from(STAGGERS)) if route == "stack" else (0, 0, 0),
        rtol=draw(st.sampled_from([1e-2, 1e-4, 1e-6, 1e-6, 1e-7, 1e-9, 1e-12])),
        seed=draw(st.integers(0, 2**31 - 1)),
        route=route,
        rotated=draw(st.booleans()),
        turned=draw(st.booleans()),
    )


@dataclass(frozen=True)
class Interval:
    """What the engine says of one matrix, and what LAPACK does."""

    case: Case
    asked: Bound
    bound: str
    method: str
    value: float
    upper: float
    truth: "Truth"

    @property
    def width(self) -> float:
        return self.upper / self.value - 1

    @property
    def shortfall(self) -> float:
        """How far σ₁ lies above the upper bound, at least; negative where the bound holds."""
        return float(self.truth.low / self.upper - 1)

    @property
    def wrong(self) -> str:
        """What is wrong with it, or nothing."""
        if not (math.isfinite(self.value) and math.isfinite(self.upper)):
            return "not finite"
        if self.value > self.truth.high:
            return "value above σ₁"
        if self.upper < self.truth.low:
            return "upper bound below σ₁"
        if self.upper < self.value:
            return "ends exchanged"
        if self.bound not in (self.asked, Bound.PROVED):
            return "a weaker bound than asked"
        # Only where the proof's own rounding margin is wider than rtol may a row be: there is nothing to try.
        if self.upper > self.value * (1 + self.case.rtol) and (
            self.method != "gram_eigh" or self.case.rtol > self.truth.margin
        ):
            return "wider than rtol"
        return ""


@dataclass(frozen=True)
class Truth:
    """σ₁ between two ends, and what a proof by Cholesky cannot resolve, relative."""

    low: np.longdouble
    high: float
    margin: float

    @classmethod
    def of(cls, matrix: torch.Tensor) -> "Truth":
        exact = matrix.detach().to(torch.float64).numpy()
        rows, columns = max(exact.shape), min(exact.shape)
        power = math.frexp(np.abs(exact).max())[1]
        exact = np.ldexp(exact, -power)  # LAPACK sees elements of the order of one
        _, values, right = np.linalg.svd(exact, full_matrices=False)
        vector = right[0].astype(np.longdouble)
        image = exact.astype(np.longdouble) @ vector
        low = np.sqrt((image @ image) / (vector @ vector))
        stable_rank_squared = float((values**2).sum() / values[0] ** 2)
        margin = 1.1 * EPS / 2 * ((columns + 1) * columns + (rows + 3) * stable_rank_squared)
        return cls(
            low=np.ldexp(low, power),
            high=math.ldexp(values[0] * (1 + (rows + 8) * EPS), power),
            margin=margin,
        )


def intervals(case: Case) -> Iterator[Interval]:
    """Everything the engine says when it is asked as the case asks it, for each bound."""
    whole = case.matrix()
    bf16_valued = case.dtype == "bfloat16"
    parts = case.parts(whole)
    truths = [Truth.of(piece) if piece.any() else None for piece in (*parts, whole)]
    for asked in BOUNDS:
        workspace = Workspace(torch.device("cpu"))
        if case.route == "lanczos":
            top = _largest(whole, case, asked, bf16_valued, workspace)
            said = [(str(top.bound), top.method, top.value, top.upper)]
        else:
            options = SpectralOptions(rtol=case.rtol, bound=asked, seed=case.seed)
            solver = StackSolver(options, workspace)
            found = solver.solve(parts or [whole], whole if parts else None, bf16_valued=bf16_valued)
            said = [
                (one.bound, one.method, one.values["spectral_norm"], one.values["spectral_norm_upper"])
                for one in found
            ]
        for truth, (bound, method, value, upper) in zip(truths, said, strict=True):
            if truth is not None:
                yield Interval(case, asked, bound, method, value, upper, truth)
            else:
                assert value == upper == 0


def _largest(matrix, case, asked, bf16_valued, workspace) -> extremal.Top:
    """The engine's own function, which takes matrices with squares in range, with evaluations not its own."""
    power = math.frexp(float(matrix.abs().max()))[1]
    exact = matrix.double() * math.ldexp(1.0, -power)
    matrix = exact.to(matrix.dtype)
    problem = Problem(
        tall=matrix,
        evaluate=lambda vector: float((exact @ vector).square().sum()),
        squares=lambda: float(exact.square().sum()),
        bf16_valued=bf16_valued,
    )
    top = extremal.largest_singular_value(
        problem, rtol=case.rtol, bound=asked, seed=case.seed, workspace=workspace, method="lanczos"
    )
    unit = math.ldexp(1.0, power)
    return extremal.Top(
        value=top.value * unit, upper=top.upper * unit, bound=top.bound, steps=top.steps, method=top.method
    )
