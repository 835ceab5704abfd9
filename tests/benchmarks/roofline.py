"""How near an analysis is to what the machine can do: what its passes read and multiply, and at which rates.

    python -m tests.benchmarks.roofline                              # trained and gaussian, norms
    python -m tests.benchmarks.roofline --bound proved
    python -m tests.benchmarks.roofline --spectrum

One layer of Phi-2's shapes. Every product, pass, Gram matrix and eigenproblem of the run is counted with the
bytes it reads or the operations it takes, and the rate of each kind is measured beforehand, alone, on the
same machine. The floor is the sum of amounts over rates. What the run takes beyond it are steps between the
passes.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import torch

import weightscope
from tests.benchmarks.weights import phi2_shaped
from weightscope.spectra import compiled, extremal, side_by_side, stack_gram
from weightscope.spectra.gram import gram64
from weightscope.spectra.side_by_side import SideBySide, Waiting
from weightscope.spectra.workspace import Workspace

CPU = torch.device("cpu")
SHORT, LONG = 2560, 10240


def seconds(call: Callable[[], object], repeats: int = 7) -> float:
    call()
    found = []
    for _ in range(repeats):
        started = perf_counter()
        call()
        found.append(perf_counter() - started)
    return statistics.median(found)


def rates() -> dict[str, float]:
    """Gigabytes, or billions of operations, a second."""
    workspace, generator = Workspace(CPU), torch.Generator().manual_seed(0)
    weight = torch.randn(LONG, SHORT, generator=generator).bfloat16()
    vector, out = torch.randn(SHORT, generator=generator), torch.empty(SHORT)
    square = torch.empty(SHORT, SHORT)
    gb = weight.numel() * 2 / 1e9
    found = {
        "matrix read for a product": gb
        / seconds(lambda: compiled.gram_product(weight, vector, out, workspace)),
        "matrix read for moments": gb
        / seconds(lambda: compiled.sums(weight, vector.double(), None, workspace)),
        "matrix read for its peak": gb / seconds(lambda: compiled.largest(weight)),
        "half of a Gram matrix read": SHORT**2
        * 2
        / 1e9
        / seconds(lambda: compiled.symmetric_product(square, vector, out, workspace)),
    }
    if compiled.has_gram_of(weight):
        flops = LONG * SHORT**2 / 1e9
        found["Gram matrix by matrix units"] = flops / seconds(
            lambda: compiled.gram(weight, square, workspace), 3
        )
    double = gram64(weight, workspace)
    found["Gram matrix in float64"] = LONG * SHORT**2 / 1e9 / seconds(lambda: gram64(weight, workspace), 3)
    found["Cholesky factorisation"] = SHORT**3 / 3e9 / seconds(lambda: torch.linalg.cholesky_ex(double), 3)

    def eigenvalues() -> None:
        beside = SideBySide(CPU)
        for _ in range(2):
            beside.add(Waiting(matrix=double.clone(), is_gram=True, done=lambda _: None))
        beside.run()

    found["eigenvalues"] = 2 * SHORT**3 * 4 / 3e9 / seconds(eigenvalues, 3)
    return found


def counted(call: Callable[[], object]) -> tuple[object, dict[str, float]]:
    """What a call gives, and billions of bytes or operations of each kind on the way."""
    amounts: dict[str, float] = {}

    def count(kind: str, amount: float) -> None:
        amounts[kind] = amounts.get(kind, 0) + amount / 1e9

    def watched(owner: object, name: str, kind: str, amount: Callable[..., float]) -> object:
        function = getattr(owner, name)

        def noted(*args: object, **options: object) -> object:
            count(kind, amount(*args))
            return function(*args, **options)

        return patch.object(owner, name, noted)

    def stored(matrix: torch.Tensor, *_: object) -> float:
        return matrix.numel() * matrix.element_size()

    def multiplied(matrix: torch.Tensor, *_: object) -> float:
        return matrix.numel() * matrix.shape[1]

    with ExitStack() as stack:
        for watch in (
            watched(compiled, "gram_product", "matrix read for a product", stored),
            watched(compiled, "sums", "matrix read for moments", stored),
            watched(compiled, "largest", "matrix read for its peak", stored),
            watched(compiled, "symmetric_product", "half of a Gram matrix read", lambda g, *_: 2 * g.numel()),
            watched(compiled, "gram", "Gram matrix by matrix units", multiplied),
            watched(extremal, "gram64", "Gram matrix in float64", multiplied),
            watched(stack_gram, "gram64", "Gram matrix in float64", multiplied),
            watched(extremal, "proves_upper_bound", "Cholesky factorisation", lambda g, *_: len(g) ** 3 / 3),
            watched(side_by_side, "by_gram", "eigenvalues", lambda g, *_: len(g) ** 3 * 4 / 3),
        ):
            stack.enter_context(watch)
        return call(), amounts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bound", default="probable")
    parser.add_argument("--spectrum", action="store_true")
    parser.add_argument("--spectra", nargs="+", default=["trained", "gaussian"])
    options = parser.parse_args()
    assert compiled.available(), "built without a C compiler: nothing to count"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    known = rates()
    for spectra in options.spectra:
        with tempfile.TemporaryDirectory() as scratch:
            folder = phi2_shaped(Path(scratch), layers=1, spectra=spectra)

            def run(folder: Path = folder) -> float:
                analysis = weightscope.analyze(folder, bound=options.bound, spectrum=options.spectrum)
                return float(analysis.provenance["seconds"]["total"])

            run()
            _, amounts = counted(run)
            took = statistics.median(run() for _ in range(5))
        print(f"\n{spectra:30} billions   a second   seconds")
        floor = 0.0
        for kind, amount in amounts.items():
            floor += amount / known[kind]
            print(f"{kind:30} {amount:8.2f} {known[kind]:10.1f} {amount / known[kind]:9.3f}")
        print(f"{'floor':30} {'':8} {'':10} {floor:9.3f}")
        print(f"{'the run':30} {'':8} {'':10} {took:9.3f}   {took / floor:.2f} times the floor")


if __name__ == "__main__":
    main()
