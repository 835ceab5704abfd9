"""Random headers, most of them hostile: what becomes of each, beside what safetensors makes of it.

    python -m tests.benchmarks.fuzz_headers --inputs 100000 --seed 0

Valid headers with bits flipped, cut short, tokens swapped, values replaced; any JSON; lengths that lie
(tests/checkpoints/fuzzing.py). Each must be read as safetensors reads it or end in CheckpointFormatError;
where only one of the two reads it, the reason must be in the lists of that file. The exit status is 1 if one
is not, or takes longer than --most-seconds. Printed are the outcomes by kind of input, and the slowest.
"""

import argparse
import sys
from collections import Counter
from time import perf_counter, process_time

from tests.checkpoints.fuzzing import KINDS, drawn, outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-seconds", type=float, default=1.0)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    slowest, wrong, started = (0.0, -1, ""), 0, perf_counter()
    for number in range(options.inputs):
        kind, content = drawn(options.seed, number)
        before = process_time()
        found = outcome(content)
        slowest = max(slowest, (process_time() - before, number, kind))
        counts[found.what] += 1
        kinds[kind][found.what.partition(",")[0].partition(" here")[0]] += 1
        if found.wrong:
            wrong += 1
            print(f"input {number} ({kind}): {found.what}\n  {content[:300]!r}")
    print(f"{'outcome':80}{'inputs':>9}")
    for what, count in counts.most_common():
        print(f"{what:80}{count:9,}")
    print(f"\n{'kind of input':20}{'read':>9}{'refused':>9}")
    for kind, found_of in kinds.items():
        print(f"{kind:20}{found_of['read']:9,}{found_of['refused']:9,}")
    seconds, number, kind = slowest
    print(f"\nslowest: {seconds * 1e3:.1f} ms, input {number} ({kind})")
    print(f"{options.inputs:,} inputs, {wrong} violations; {perf_counter() - started:.0f} seconds")
    sys.exit(wrong > 0 or seconds > options.most_seconds)


if __name__ == "__main__":
    main()
