"""Hundreds of analyses from a Hub that fails at random: every table is that of a quiet run.

    python -m tests.benchmarks.soak_hub --runs 500

Faults that can be survived (errors with and without Retry-After, resets, early ends, stalls, short bodies,
chunked answers, redirects) are drawn from a seed for API, addresses and storage alike; groups, layers,
connections and spectra are drawn too. Prints what happened, and exits with 1 if a single table differs.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import pandas as pd
import pytest
import torch

import weightscope
from tests.factories import write_gpt2
from tests.hub.client import point_at
from tests.hub.server import LoopbackHub
from weightscope.checkpoints import hub_source, ranges
from weightscope.checkpoints.patience import Patience

PLACES = ("api", "resolve", "storage")
# As many tries as ever, at a hundredth of the waits.
HASTY = Patience(first_wait=0.005, longest_wait=0.02, timeout=0.2)


def drawn(dice: Random) -> dict:
    """Options of one analysis."""
    first = dice.randrange(6)
    return {
        "groups": dice.choice(["Q,K,V,O,QKV,M1,M2", "Q,K", "M1", "all"]),
        "layers": dice.choice([None, f"{first}-5", str(first)]),
        "spectrum": dice.random() < 0.3,
        "connections": dice.randint(1, 8),
    }


def table(source, **options) -> pd.DataFrame:
    analysis = weightscope.analyze(str(source), **options)
    return analysis.table.drop(columns=["checkpoint", "revision"])


def soak(runs: int, rate: float, seed: int, folder: Path, hub: LoopbackHub) -> tuple[int, Counter]:
    """How many tables differ, and the faults that happened."""
    different, faults = 0, Counter()
    for number in range(runs):
        dice = Random(f"{seed} {number}")
        options = drawn(dice)
        hub.faults.clear()
        expected = table(folder, **options)
        hub.stats.reset()
        hub.random_faults(seed=seed + number, rate=rate, places=PLACES)
        try:
            found = table("org/model", **options)
        except weightscope.WeightscopeError as error:
            different += 1
            print(f"run {number} ({options}): {error}")
            continue
        faults.update(kind for request in hub.stats.requests for kind in request.faults)
        faults["requests"] += len(hub.stats.requests)
        if not found.equals(expected):
            different += 1
            print(f"run {number} ({options}): the table differs")
    return different, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--rate", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)  # the matrices are tiny
    with (
        tempfile.TemporaryDirectory() as scratch,
        pytest.MonkeyPatch.context() as patch,
        LoopbackHub() as hub,
    ):
        folder = write_gpt2(Path(scratch) / "model", layers=6, width=96, shards=3)
        point_at(hub, Path(scratch) / "cache", patch)
        patch.setattr(hub_source, "default_patience", lambda: HASTY)
        patch.setattr(ranges, "SHORTEST_REQUEST", 2**17)
        patch.setattr(ranges, "LONGEST_REQUEST", 2**17)
        hub.add("org/model", {path.name: path for path in folder.iterdir()})
        started = time.perf_counter()
        different, faults = soak(given.runs, given.rate, given.seed, folder, hub)
    requests = faults.pop("requests")
    print(f"{given.runs} analyses, {requests} requests, {time.perf_counter() - started:.0f} s")
    print("fault          times")
    for kind, count in sorted(faults.items()):
        print(f"{kind:12}   {count:5}")
    print(f"{different} tables differ")
    sys.exit(1 if different or not faults else 0)


if __name__ == "__main__":
    main()
