"""A matrix larger than `--memory`, read in blocks, beside the same matrix held in memory.

    python -m tests.benchmarks.measure_streamed                # 64,000 x 2,048 in bfloat16, either way
    python -m tests.benchmarks.measure_streamed --spectrum
    python -m tests.benchmarks.measure_streamed --transposed   # a block is then a piece of every stored row

Writes the matrix, finds its singular values with numpy (LAPACK in float64), and analyses it twice: with all
the memory that it likes, and with the least that `--memory` takes. Each run is a process of its own and reads
its own `RssAnon` every few milliseconds. Says how far every number is from the other run's, and the spectral
norm and the singular values from LAPACK's. Linux only.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from tests.benchmarks.peak import watched
from tests.factories import write_checkpoint

NAME = "model.embed_tokens.weight"


def measured(folder: Path, **options) -> dict:
    """In a process of its own: numbers, seconds, and the peak above the imports."""
    command = [sys.executable, "-m", "tests.benchmarks.measure_streamed", "--child"]
    command.append(json.dumps([str(folder), options]))
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def child(folder: str, options: dict) -> None:
    import weightscope

    weightscope.analyze("demo", **options)  # all that is imported and started once
    with watched() as peak:
        started = time.perf_counter()
        analysis = weightscope.analyze(folder, **options)
        seconds = time.perf_counter() - started
    row = analysis.table.iloc[0]
    numbers = {name: float(row[name]) for name in analysis.table if analysis.table[name].dtype.kind == "f"}
    values = None if analysis.spectra is None else analysis.spectra["singular_value"].tolist()
    found = {"peak": peak.anonymous, "seconds": seconds, "method": row["method"], "bound": row["bound"]}
    print(json.dumps({**found, "numbers": numbers, "values": values}))


def least_memory(folder: Path, **options) -> int:
    """The smallest limit that is not refused, as the error for a smaller one says."""
    import weightscope
    from weightscope.errors import DeviceMemoryError
    from weightscope.sweep.memory import parse_memory

    try:
        weightscope.analyze(folder, memory="1M", **options)
    except DeviceMemoryError as error:
        return parse_memory(error.advice.split("--memory ")[1].split()[0])
    raise AssertionError("a megabyte was enough")


def truth(matrix: torch.Tensor) -> np.ndarray:
    """Singular values of a tall matrix by LAPACK in float64."""
    return np.linalg.svd(matrix.to(torch.float64).numpy(), compute_uv=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", type=json.loads)
    parser.add_argument("--rows", type=int, default=64_000)
    parser.add_argument("--columns", type=int, default=2048)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--spectrum", action="store_true")
    parser.add_argument("--transposed", action="store_true")
    given = parser.parse_args()
    if given.child:
        return child(*given.child)
    generator = torch.Generator().manual_seed(0)
    # A bulk, and above it values that fall as those of trained weights do.
    left, right = (torch.randn(n, 64, generator=generator) for n in (given.rows, given.columns))
    matrix = 0.5 * torch.randn(given.rows, given.columns, generator=generator)
    matrix += (left * torch.arange(1, 65) ** -0.7) @ right.T
    matrix = matrix.to(getattr(torch, given.dtype))
    sigma = truth(matrix)
    stored = matrix.T.contiguous() if given.transposed else matrix
    options = {"groups": "embedding", "spectrum": given.spectrum}
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_checkpoint(Path(scratch), {NAME: stored}, {"model_type": "llama"})
        limit = least_memory(folder, **options)
        held, streamed = measured(folder, **options), measured(folder, memory=limit, **options)
    rows, columns = stored.shape
    print(f"{rows}x{columns} {given.dtype}: {stored.nbytes / 1e6:.0f} MB as stored")
    print("                    limit   peak above the imports   seconds   method")
    for name, found, shown in (("held", held, "none"), ("in blocks", streamed, f"{limit / 1e6:.0f} MB")):
        peak = f"{found['peak'] / 1e6:.0f} MB"
        print(
            f"{name:14} {shown:>10} {peak:>24} {found['seconds']:9.1f}   {found['method']} ({found['bound']})"
        )
    print(f"seconds, in blocks over held: {streamed['seconds'] / held['seconds']:.2f}")
    for found, name in ((held, "held"), (streamed, "in blocks")):
        off = found["numbers"]["spectral_norm"] / sigma[0] - 1
        print(f"spectral norm over LAPACK's, less one, {name}: {off:.1e}")
        if found["values"]:
            far = np.abs(np.array(found["values"]) - sigma).max() / sigma[0]
            print(f"  singular values, largest difference over the first: {far:.1e}")
    print("relative difference of the two:")
    for name, one in held["numbers"].items():
        other = streamed["numbers"][name]
        if not math.isnan(one):
            print(f"  {name:25} {abs(other / one - 1) if one else abs(other):.1e}")
    assert streamed["peak"] <= limit
    assert abs(streamed["numbers"]["spectral_norm"] / sigma[0] - 1) <= 1e-6
    return None


if __name__ == "__main__":
    main()
