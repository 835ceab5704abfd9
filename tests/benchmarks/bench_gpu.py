"""A whole analysis on a GPU against loading the same files to it, and spectra against a loop of `svdvals`.

    python -m tests.benchmarks.bench_gpu --layers 32                 # Phi-2's size: 5 GB
    python -m tests.benchmarks.bench_gpu --layers 8 --spectrum-layers 2 --repeats 5

Each row is a ratio in one run on one machine, medians of `--repeats`, files in the page cache. Ours is the
whole call, `analyze(folder, device="cuda")`; the baseline for norms is
`safetensors.torch.load_file(device="cuda")` of the same files, and for spectra a loop over the same seven
groups of a layer: safetensors to the device, float32, `torch.linalg.svdvals`. Correctness comes first: norms
and spectra of layer 0 against float64 LAPACK on the CPU. The parts that decide the time are printed below.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
from safetensors.torch import load_file

import weightscope
from tests.benchmarks.bench_spectrum import GROUPS
from tests.benchmarks.weights import phi2_shaped

REQUIRED = {"norms": "at most 1.5 (aim 1.2) times", "spectrum": "at least 5 (aim 10) times"}


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median, the device idle before and after."""
    found = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        started = perf_counter()
        result = call()
        torch.cuda.synchronize()
        found.append(perf_counter() - started)
        del result
    return statistics.median(found)


def layer_groups(folder: Path, layer: int, device: str) -> dict[str, torch.Tensor]:
    tensors = load_file(folder / "model.safetensors", device=device)
    weights = {group: tensors[f"model.layers.{layer}.{name}.weight"] for group, name in GROUPS.items()}
    weights["QKV"] = torch.cat([weights[group] for group in "QKV"])
    return weights


def check(folder: Path) -> float:
    """Largest relative error of a spectral norm in layer 0; every interval and spectrum must hold."""
    exact = {
        group: torch.linalg.svdvals(stored.double())
        for group, stored in layer_groups(folder, 0, "cpu").items()
    }
    worst = 0.0
    for options in ({"bound": "probable"}, {"bound": "proved"}, {"spectrum": True}):
        analysis = weightscope.analyze(folder, device="cuda", layers=0, **options)
        rows = analysis.table.set_index("group")
        assert len(rows) == len(exact)
        for group, sigma in exact.items():
            first, row = float(sigma[0]), rows.loc[group]
            worst = max(worst, abs(row["spectral_norm"] / first - 1))
            assert row["spectral_norm"] <= first * (1 + 1e-12), (options, group)
            assert first * (1 - 1e-12) <= row["spectral_norm_upper"] <= row["spectral_norm"] * 1.000002, group
            assert abs(row["frobenius_norm"] / float(sigma.norm()) - 1) <= 1e-12, group
            if analysis.spectra is not None:
                mine = analysis.spectra[analysis.spectra["group"] == group]["singular_value"]
                error = float((torch.tensor(mine.to_numpy()) - sigma).abs().max())
                assert error <= row["spectrum_error"] * first, (group, error)
    assert worst <= 1e-6, worst
    return worst


def svdvals_loop(folder: Path, layers: int) -> None:
    tensors = load_file(folder / "model.safetensors", device="cuda")
    for layer in range(layers):
        weights = {group: tensors[f"model.layers.{layer}.{name}.weight"] for group, name in GROUPS.items()}
        weights["QKV"] = torch.cat([weights[group] for group in "QKV"])
        for stored in weights.values():
            torch.linalg.svdvals(stored.float()).cpu()


def parts() -> None:
    """What the path was designed on, measured: the rates of its building blocks on this device."""
    generator = torch.Generator("cuda").manual_seed(0)

    def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device="cuda", dtype=dtype)

    n, members = 2560, 32
    grams, vectors, out = (
        drawn(members, n, n),
        drawn(members, n, 1),
        torch.empty(members, n, 1, device="cuda"),
    )
    double = drawn(4 * n, n, dtype=torch.float64)
    gram = double.mT @ double
    shifted = gram + 1e-3 * gram.diagonal().mean() * torch.eye(n, dtype=torch.float64, device="cuda")
    host = torch.empty(2**28, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(host, device="cuda")

    def loop() -> None:
        for member in range(members):
            torch.mv(grams[member], vectors[member, :, 0], out=out[member, :, 0])

    def rate(call: Callable[[], object], amount: float) -> float:
        call()
        return amount / seconds(call, 7)

    moved = members * n * n * 4 / 1e9
    print(f"pinned copy to the device            {rate(lambda: there.copy_(host), 2**28 / 1e9):9.1f} GB/s")
    print(f"32 products with 2560x2560, bmm      {rate(lambda: torch.bmm(grams, vectors), moved):9.1f} GB/s")
    print(f"the same, a loop of mv               {rate(loop, moved):9.1f} GB/s")
    flops = 2 * 4 * n**3 / 1e12
    print(f"Gram matrix of 10240x2560, float64   {rate(lambda: double.mT @ double, flops):9.1f} TFLOP/s")
    for name, call in (
        ("Cholesky, 2560, float64", lambda: torch.linalg.cholesky_ex(shifted)),
        ("eigvalsh, 2560, float64", lambda: torch.linalg.eigvalsh(gram)),
        ("eigvalsh, 8 x 2560, float64", lambda: torch.linalg.eigvalsh(gram.expand(8, n, n))),
        ("svdvals, 2560, float32", lambda: torch.linalg.svdvals(grams[0])),
    ):
        call()
        print(f"{name:36} {1000 * seconds(call, 3):9.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--spectrum-layers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--spectra", nargs="+", default=["trained", "gaussian"])
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no CUDA device here: nothing to measure.")
        sys.exit(0)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, {options.layers} layers")
    print("spectra    what              max error   baseline         weightscope   ratio   required")
    for spectra in options.spectra:
        with tempfile.TemporaryDirectory() as scratch:
            folder = phi2_shaped(Path(scratch), layers=options.layers, spectra=spectra)
            error = check(folder)
            file = folder / "model.safetensors"
            load = seconds(lambda file=file: load_file(file, device="cuda"), options.repeats)
            for bound in ("probable", "proved"):
                own = seconds(
                    lambda folder=folder, bound=bound: weightscope.analyze(
                        folder, device="cuda", bound=bound
                    ),
                    options.repeats,
                )
                print(
                    f"{spectra:9}  norms, {bound:9} {error:10.1e}   load {load:7.2f} s  {own:10.2f} s"
                    f"  {own / load:6.2f}   {REQUIRED['norms']}"
                )
            layers = range(options.spectrum_layers)
            loop = seconds(lambda folder=folder: svdvals_loop(folder, options.spectrum_layers), 1)
            own = seconds(
                lambda folder=folder, layers=layers: weightscope.analyze(
                    folder, device="cuda", spectrum=True, layers=layers
                ),
                options.repeats,
            )
            print(
                f"{spectra:9}  spectrum         {error:10.1e}   loop {loop:7.2f} s  {own:10.2f} s"
                f"  {loop / own:6.2f}   {REQUIRED['spectrum']}"
            )
    parts()


if __name__ == "__main__":
    main()
