"""Ten thousand intervals around spectral norms against LAPACK: how many are broken, how wide they are.

    python -m tests.benchmarks.measure_intervals                        # 10,000 cases, some minutes
    python -m tests.benchmarks.measure_intervals --cases 500 --seed 7   # others

Cases, truth and checks are those of tests/properties/intervals.py. Each case is asked for `probable`,
`audited` and `proved`, and a stack for its parts and the whole. Printed are, by bound and method and by
spectrum: intervals, broken ones (of which the status is 1), those wider than asked because the proof's own
rounding is, the widest of the others over rtol, and how closely an upper bound came to σ₁.
"""

import argparse
import math
import sys
from collections import defaultdict
from time import perf_counter

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.properties.intervals import Case, Interval, cases, intervals


class Tally:
    """Counts over the intervals of one kind."""

    def __init__(self) -> None:
        self.intervals = self.broken = self.wider = 0
        self.widest, self.closest = 0.0, math.inf

    def add(self, found: Interval) -> None:
        self.intervals += 1
        self.broken += bool(found.wrong)
        self.closest = min(self.closest, -found.shortfall)
        if found.upper > found.value * (1 + found.case.rtol):
            self.wider += 1
        else:
            self.widest = max(self.widest, found.width / found.case.rtol)

    def __str__(self) -> str:
        return (
            f"{self.intervals:9,}  {self.broken:6}  {self.wider:5}  {self.widest:11.4f}  {self.closest:10.1e}"
        )


def drawn(count: int, number: int) -> list[Case]:
    """This many cases, the same for the same seed."""
    found: list[Case] = []

    @seed(number)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases())
    def draw(case: Case) -> None:
        found.append(case)

    draw()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    by_bound: dict[tuple[str, ...], Tally] = defaultdict(Tally)
    by_spectrum: dict[tuple[str, ...], Tally] = defaultdict(Tally)
    broken, started = 0, perf_counter()
    asked = drawn(options.cases, options.seed)
    for case in asked:
        for found in intervals(case):
            by_bound[str(found.asked), found.method].add(found)
            by_spectrum[(case.spectrum,)].add(found)
            if found.wrong:
                broken += 1
                print(f"{found.wrong}: {found}")
    heading = "intervals  broken  wider  width/rtol  from truth"
    for name, tallies in (("asked, method", by_bound), ("spectrum", by_spectrum)):
        print(f"{name:22}{heading}")
        for key, tally in sorted(tallies.items()):
            print(f"{' '.join(key):20}{tally}")
        print()
    print(f"{len(asked):,} cases, {broken} broken; {perf_counter() - started:.0f} seconds")
    sys.exit(broken > 0)


if __name__ == "__main__":
    main()
