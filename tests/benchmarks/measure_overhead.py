"""What the journal and the progress bar take of a run.

    python -m tests.benchmarks.measure_overhead
    python -m tests.benchmarks.measure_overhead --spectrum

On a Phi-2-shaped checkpoint, trained-like, where the norms take least time: the seconds spent in
`Journal.append` and in the bar's own update, over `seconds.total`. Two runs with and without would differ by
more than this is.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import weightscope
from tests.benchmarks.weights import phi2_shaped
from weightscope.cli.progress import bytes_progress
from weightscope.sweep.journal import Journal


class Watch:
    """Adds up the time spent in what it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, call: Callable) -> Callable:
        def timed(*arguments):
            started = perf_counter()
            try:
                return call(*arguments)
            finally:
                self.seconds += perf_counter() - started

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--spectrum", action="store_true")
    given = parser.parse_args()
    journal, bar = Watch(), Watch()
    Journal.append = journal.wrap(Journal.append)
    with tempfile.TemporaryDirectory() as scratch:
        folder = phi2_shaped(Path(scratch) / "model", layers=given.layers, spectra="trained")
        weightscope.analyze(folder, layers=0)  # the first run of a process pays for its threads
        with bytes_progress(enabled=True) as observe:
            analysis = weightscope.analyze(
                folder,
                spectrum=given.spectrum,
                journal=Path(scratch) / "journal",
                progress=bar.wrap(observe),
            )
    total = analysis.provenance["seconds"]["total"]
    print(f"{len(analysis.table)} matrices in {total:.2f} s")
    for name, watch in (("journal", journal), ("progress", bar)):
        print(f"{name:9} {1e3 * watch.seconds:7.2f} ms  {watch.seconds / total:7.3%}")


if __name__ == "__main__":
    main()
