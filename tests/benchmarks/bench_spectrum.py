"""Whole spectra of a Phi-2-shaped checkpoint against a plain loop of `torch.linalg.svdvals`, in one run.

    python -m tests.benchmarks.bench_spectrum
    python -m tests.benchmarks.bench_spectrum --layers 2 --repeats 5 --spectra gaussian

The loop is that of `bench_norms`: safetensors, float32, `norm()`, `svdvals`, for seven groups. Ours is
`analyze(spectrum=True)`, so with ranks, alpha and the Marchenko-Pastur columns as well, and its time is
`seconds.total`. Correctness comes first: every singular value of the first layer, ours and the loop's,
against float64 LAPACK; the stated errors must cover ours.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

import weightscope
from tests.benchmarks.bench_norms import svdvals_loop
from tests.benchmarks.weights import SHAPES, phi2_shaped

GROUPS = dict(zip(("Q", "K", "V", "O", "M1", "M2"), SHAPES, strict=True))


def errors(folder: Path, analysis: weightscope.Analysis) -> tuple[float, float, float]:
    """Largest error over σ₁ in layer 0: ours, what ours states, that of svdvals in float32."""
    tensors = load_file(folder / "model.safetensors")
    weights = {group: tensors[f"model.layers.0.{name}.weight"] for group, name in GROUPS.items()}
    weights["QKV"] = torch.cat([weights[group] for group in "QKV"])
    spectra, table = analysis.spectra, analysis.table
    ours = stated = loop = 0.0
    for group, stored in weights.items():
        exact = torch.linalg.svdvals(stored.double())
        mine = spectra[(spectra["layer"] == 0) & (spectra["group"] == group)]["singular_value"]
        row = table[(table["layer"] == 0) & (table["group"] == group)].iloc[0]
        error = float((torch.tensor(mine.to_numpy()) - exact).abs().max() / exact[0])
        assert error <= row["spectrum_error"], (group, error, row["spectrum_error"])
        ours, stated = max(ours, error), max(stated, row["spectrum_error"])
        loop = max(loop, float((torch.linalg.svdvals(stored.float()) - exact).abs().max() / exact[0]))
    return ours, stated, loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--spectra", nargs="+", default=["trained", "gaussian"])
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.layers} layers")
    print("spectra    error    stated   svdvals fp32   svdvals loop   weightscope   ratio   required")
    for spectra in options.spectra:
        with tempfile.TemporaryDirectory() as scratch:
            folder = phi2_shaped(Path(scratch), layers=options.layers, spectra=spectra)
            ours, stated, loop_error = errors(folder, weightscope.analyze(folder, spectrum=True))
            assert ours <= loop_error, "less exact than svdvals in float32"
            loops, mine = [], []
            for _ in range(options.repeats):  # in turn, so that a drift of the machine meets both
                loops.append(svdvals_loop(folder, options.layers, torch.float32)[1])
                analysis = weightscope.analyze(folder, spectrum=True)
                mine.append(analysis.provenance["seconds"]["total"])
        loop, own = statistics.median(loops), statistics.median(mine)
        print(
            f"{spectra:9} {ours:8.1e} {stated:8.1e}  {loop_error:13.1e}  {loop:10.2f} s  {own:10.2f} s"
            f"  {loop / own:6.1f}   1.8"
        )


if __name__ == "__main__":
    main()
