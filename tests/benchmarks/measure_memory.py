"""Anonymous memory of `analyze` above the imports, for checkpoints of few and of many layers.

    python -m tests.benchmarks.measure_memory                      # Phi-2's shapes, 2 and 16 layers
    python -m tests.benchmarks.measure_memory --memory 1500M --spectrum

Each run is a process of its own, which reads its own `RssAnon` every few milliseconds; what it had after its
imports and a first small analysis is taken off. Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.peak import watched


def measured(folder: Path, **options) -> dict[str, int]:
    """In a process of its own: the peak above the imports, and what the plan said."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.measure_memory",
        "--child",
        json.dumps([str(folder), options]),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def child(folder: str, options: dict) -> None:
    import weightscope
    from weightscope.checkpoint import open_checkpoint
    from weightscope.families.select import parse_groups
    from weightscope.options import Options
    from weightscope.planning import plan_analysis
    from weightscope.sweep.memory import parse_memory

    weightscope.analyze("demo", **options)  # all that is imported and started once
    with watched() as peak:
        analysis = weightscope.analyze(folder, **options)
    with open_checkpoint(folder) as checkpoint:
        given = {**options, "memory": parse_memory(options.get("memory"))}
        if "groups" in given:
            given["groups"] = parse_groups(given["groups"])
        planned = plan_analysis(checkpoint, Options(**given))[0].needed
    print(json.dumps({"peak": peak.anonymous, "planned": planned, "matrices": len(analysis.table)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", type=json.loads)
    parser.add_argument("--layers", nargs="+", type=int, default=[2, 16])
    parser.add_argument("--spectra", default="trained")
    parser.add_argument("--bound", default="probable")
    parser.add_argument("--memory")
    parser.add_argument("--spectrum", action="store_true")
    given = parser.parse_args()
    if given.child:
        return child(*given.child)
    from tests.benchmarks.weights import phi2_shaped

    options = {"bound": given.bound, "memory": given.memory, "spectrum": given.spectrum}
    print("layers   matrices   peak above the imports   planned")
    for layers in given.layers:
        with tempfile.TemporaryDirectory() as scratch:
            found = measured(phi2_shaped(Path(scratch), layers=layers, spectra=given.spectra), **options)
        peak, planned = found["peak"] / 1e6, found["planned"] / 1e6
        print(f"{layers:6}   {found['matrices']:8}   {peak:19.0f} MB   {planned:4.0f} MB")
    return None


if __name__ == "__main__":
    main()
