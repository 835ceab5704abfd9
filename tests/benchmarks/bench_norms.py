"""Norms of a Phi-2-shaped checkpoint against a plain loop of `torch.linalg.svdvals`, in one run.

    python -m tests.benchmarks.bench_norms                                   # both spectra, bound probable
    python -m tests.benchmarks.bench_norms --bound proved --layers 2 --repeats 5

The loop loads the file with safetensors, converts each matrix to float32 and takes its largest singular
value and Frobenius norm, for the same seven groups. Our time is `seconds.total` of the provenance: from the
first read to the last number. Both read from a warm page cache. Correctness comes first: every spectral norm
of the first layer against float64 LAPACK.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

import torch
from safetensors import safe_open

import weightscope
from tests.benchmarks.weights import phi2_shaped

REQUIRED = {
    ("trained", "probable"): 15,
    ("gaussian", "probable"): 4.5,
    ("trained", "proved"): 2,
    ("gaussian", "proved"): 2,
}


def svdvals_loop(folder: Path, layers: int, dtype: torch.dtype) -> tuple[dict[tuple[int, str], float], float]:
    """σ₁ of each matrix by (layer, group), and the seconds it took."""
    started, found = perf_counter(), {}
    with safe_open(folder / "model.safetensors", "pt") as file:
        for layer in range(layers):
            prefix = f"model.layers.{layer}."
            names = {"Q": "self_attn.q_proj", "K": "self_attn.k_proj", "V": "self_attn.v_proj"}
            weights = {group: file.get_tensor(f"{prefix}{name}.weight") for group, name in names.items()}
            weights["QKV"] = torch.cat(list(weights.values()))
            for group, name in {"O": "self_attn.dense", "M1": "mlp.fc1", "M2": "mlp.fc2"}.items():
                weights[group] = file.get_tensor(f"{prefix}{name}.weight")
            for group, stored in weights.items():
                matrix = stored.to(dtype)
                matrix.norm()
                found[layer, group] = float(torch.linalg.svdvals(matrix)[0])
    return found, perf_counter() - started


def ours(folder: Path, bound: str) -> tuple[weightscope.Analysis, float]:
    analysis = weightscope.analyze(folder, bound=bound)
    return analysis, analysis.provenance["seconds"]["total"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bound", default="probable")
    parser.add_argument("--spectra", nargs="+", default=["trained", "gaussian"])
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.layers} layers")
    print("spectra   bound     max error   interval   svdvals loop   weightscope   ratio   required")
    for spectra in options.spectra:
        with tempfile.TemporaryDirectory() as scratch:
            folder = phi2_shaped(Path(scratch), layers=options.layers, spectra=spectra)
            analysis, _ = ours(folder, options.bound)
            exact, _ = svdvals_loop(folder, 1, torch.float64)
            rows = analysis.table.set_index(["layer", "group"])
            error = max(abs(rows.loc[key, "spectral_norm"] / value - 1) for key, value in exact.items())
            inside = all(
                rows.loc[key, "spectral_norm_upper"] >= value * (1 - 1e-12) for key, value in exact.items()
            )
            assert error <= 1e-6, error
            assert inside, "an upper bound lies below the truth"
            width = float((rows["spectral_norm_upper"] / rows["spectral_norm"] - 1).max())
            loops, mine = [], []
            for _ in range(options.repeats):  # in turn, so that a drift of the machine meets both
                loops.append(svdvals_loop(folder, options.layers, torch.float32)[1])
                mine.append(ours(folder, options.bound)[1])
        loop, own = statistics.median(loops), statistics.median(mine)
        required = REQUIRED.get((spectra, options.bound), "")
        print(
            f"{spectra:9} {options.bound:9} {error:9.1e}  {width:9.1e}  {loop:10.2f} s  {own:10.2f} s"
            f"  {loop / own:6.1f}   {required}"
        )


if __name__ == "__main__":
    main()
