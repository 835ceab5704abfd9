"""The methods for whole spectra beside one another, by size: what `spectra/spectrum.py` chooses from.

    python -m tests.benchmarks.bench_methods

Milliseconds a matrix, best of five (of two from 1536 on), two matrices at a time through the package's own
`SideBySide`, Gram matrices and their errors included; `svdvals` in float32 one after the other for
comparison. Errors are against float64 LAPACK, over the largest value. Gaussian weights in bfloat16, square
and four times as long as wide.
"""

import argparse
from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor

from weightscope.spectra.side_by_side import SideBySide, Waiting
from weightscope.spectra.spectrum import Spectrum
from weightscope.spectra.stack_gram import StackGram
from weightscope.spectra.workspace import Workspace

CPU = torch.device("cpu")


def best(work: Callable[[], None], repeats: int) -> float:
    """Milliseconds."""
    seconds = []
    for _ in range(repeats):
        started = perf_counter()
        work()
        seconds.append(perf_counter() - started)
    return 1e3 * min(seconds)


def svd(pair: list[Tensor], beside: SideBySide) -> list[Spectrum]:
    found: list[Spectrum] = []
    for matrix in pair:
        beside.add(Waiting(matrix=matrix.double(), is_gram=False, done=found.append))
    beside.run()
    return found


def gram(pair: list[Tensor], beside: SideBySide, grams: StackGram, *, mixed: bool) -> list[Spectrum]:
    found: list[Spectrum] = []
    for matrix in pair:
        one = grams.of(matrix, mixed=mixed)

        def done(spectrum: Spectrum, one=one) -> None:
            grams.release(one)
            found.append(spectrum)

        beside.add(Waiting(matrix=one.double, is_gram=True, gram_error=one.error, mixed=mixed, done=done))
    beside.run()
    return found


def row(side: int, long: int) -> str:
    generator = torch.Generator().manual_seed(side)
    pair = [torch.randn(long, side, generator=generator).bfloat16() for _ in range(2)]
    wide = [matrix.float() for matrix in pair]
    beside, grams, repeats = SideBySide(CPU), StackGram(Workspace(CPU)), 5 if side < 1536 else 2
    times = [
        best(lambda: [torch.linalg.svdvals(matrix) for matrix in wide], repeats) / 2,
        best(lambda: svd(pair, beside), repeats) / 2,
        best(lambda: gram(pair, beside, grams, mixed=False), repeats) / 2,
        best(lambda: gram(pair, beside, grams, mixed=True), repeats) / 2,
    ]
    exact = torch.linalg.svdvals(pair[0].double())
    off = [
        float((found.double() - exact).abs().max() / exact[0])
        for found in (
            torch.linalg.svdvals(wide[0]),
            gram(pair[:1], beside, grams, mixed=False)[0].values,
            gram(pair[:1], beside, grams, mixed=True)[0].values,
        )
    ]
    return (
        f"{side:5} x {long:5} {times[0]:9.2f} {times[1]:9.2f} {times[2]:9.2f} {times[3]:9.2f}"
        f"      {off[0]:8.1e} {off[1]:8.1e} {off[2]:8.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sides = [64, 128, 256, 384, 512, 768, 1024, 1536, 2560]
    parser.add_argument("--sides", nargs="+", type=int, default=sides)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("                milliseconds a matrix                       error")
    print("short x long  svd fp32  svd fp64      gram     mixed      svd fp32     gram    mixed")
    for side in options.sides:
        print(row(side, side))
        print(row(side, 4 * side))


if __name__ == "__main__":
    main()
