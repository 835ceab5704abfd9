"""WeightWatcher 0.7.7 on a Phi-2-shaped checkpoint against us on the same folder, in one run on the CPU.

In an environment of its own, from the repository's root:

    pip install torch==2.13.0                 # the CPU build: with CUDA WeightWatcher computes otherwise
    pip install . weightwatcher==0.7.7
    python -m tests.benchmarks.bench_weightwatcher --layers 1 --repeats 3

Three rows. Theirs is timed from the path of the folder to the result, its import left out; ours is
`seconds.total` of the provenance, from the first read to the last number. Both read from a warm page cache
and use all threads.

- `norms`: `WeightWatcher(model=folder).analyze()` against `analyze(folder)`. `analyze` has no option that
  leaves out its SVD or its fit: this is how its users get norms.
- `norms, no fit`: the least of WeightWatcher that yields norms: its own layer iterator and its `apply_esd`
  for each layer, which is the SVD alone. No requirement.
- `spectrum`: the same `analyze()` against `analyze(folder, spectrum=True)`, which fits `alpha` too.

All options of `analyze` are at their defaults, which are the fastest: no plots, no randomised matrix, no fit
of the bulk; `svd_method` makes no difference on a CPU. Its filters (longer side up to 50 000, shorter side
from 8 to 15 000) let every matrix pass. It analyses six matrices a layer, we seven: QKV too. Correctness
comes first.
"""

import argparse
import logging
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from weightwatcher import WeightWatcher
from weightwatcher.constants import DEFAULT_PARAMS

import weightscope
from tests.benchmarks.weights import phi2_shaped

REQUIRED = {"norms": 40, "spectrum": 3}


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = perf_counter()
    return call(), perf_counter() - started


def their_details(folder: Path) -> pd.DataFrame:
    return WeightWatcher(model=str(folder)).analyze()


def their_norms(folder: Path) -> pd.DataFrame:
    """Norms by their layer iterator and their SVD, without the fit."""
    watcher, params, rows = WeightWatcher(model=str(folder)), DEFAULT_PARAMS.copy(), []
    for layer in watcher.make_layer_iterator(model=str(folder), params=params):
        watcher.apply_esd(layer, params)
        rows.append((layer.longname, float(layer.evals.sum()), float(layer.evals.max())))
    return pd.DataFrame(rows, columns=["longname", "norm", "spectral_norm"])


def ours(folder: Path, **options: Any) -> tuple[weightscope.Analysis, float]:
    analysis = weightscope.analyze(folder, **options)
    return analysis, analysis.provenance["seconds"]["total"]


def check_norms(analysis: weightscope.Analysis, theirs: pd.DataFrame) -> str:
    """Ours are lower bounds within 1e-6; theirs are squares."""
    table = analysis.table.assign(longname=analysis.table["parameter"].str.removesuffix(".weight"))
    both = table.merge(theirs, on="longname", suffixes=("", "_there"))
    assert len(both) == len(theirs) > 0
    spectral = (both["spectral_norm"] / np.sqrt(both["spectral_norm_there"]) - 1).abs().max()
    frobenius = (both["frobenius_norm"] / np.sqrt(both["norm"]) - 1).abs().max()
    assert spectral <= 1e-6, spectral
    assert frobenius <= 1e-10, frobenius
    return f"‖W‖₂ {spectral:.0e}, ‖W‖_F {frobenius:.0e}"


def check_details(analysis: weightscope.Analysis, theirs: pd.DataFrame) -> str:
    both = analysis.weightwatcher().merge(theirs, on="longname", suffixes=("", "_there"))
    assert len(both) == len(theirs) > 0
    worst = {
        name: float((both[name] / both[f"{name}_there"] - 1).abs().max())
        for name in ("sv_max", "alpha", "D", "entropy")
    }
    assert max(worst.values()) <= 1e-8, worst
    return ", ".join(f"{name} {value:.0e}" for name, value in worst.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--spectra", choices=["trained", "gaussian"], default="trained")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.layers} layers, "
        f"{options.spectra}, medians of {options.repeats}"
    )
    seconds: dict[str, list[float]] = {}

    def keep(name: str, result: tuple[Any, float]) -> Any:
        seconds.setdefault(name, []).append(result[1])
        return result[0]

    with tempfile.TemporaryDirectory() as scratch:
        folder = phi2_shaped(Path(scratch), layers=options.layers, spectra=options.spectra)
        ours(folder)  # the page cache and both programs' first calls
        for repeat in range(options.repeats):  # in turn, so that a drift of the machine meets all
            norms = keep("our norms", ours(folder))
            details = keep("their analyze", timed(lambda: their_details(folder)))
            whole = keep("our spectrum", ours(folder, spectrum=True))
            bare = keep("their norms", timed(lambda: their_norms(folder)))
            keep("our columns", timed(whole.weightwatcher))
            if repeat == 0:
                print(f"agreement: {check_norms(norms, details)}; {check_details(whole, details)}")
                check_norms(norms, bare)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print("what            WeightWatcher   weightscope   ratio   required")
    for name, theirs, mine in (
        ("norms", "their analyze", "our norms"),
        ("norms, no fit", "their norms", "our norms"),
        ("spectrum", "their analyze", "our spectrum"),
    ):
        ratio, required = median[theirs] / median[mine], REQUIRED.get(name, "")
        print(f"{name:14}  {median[theirs]:11.2f} s  {median[mine]:10.2f} s  {ratio:6.1f}   {required}")
    print(f"the frame in WeightWatcher's columns takes {median['our columns']:.2f} s more")


if __name__ == "__main__":
    main()
