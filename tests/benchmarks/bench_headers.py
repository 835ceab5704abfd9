"""Headers: how fast the large ones are read, and how soon the hostile ones are refused.

    python -m tests.benchmarks.bench_headers
    python -m tests.benchmarks.bench_headers --real     # the first table alone

Real ones, made here: a shard of a mixture of experts, an adapter with its training's tags, and whole mixtures
of experts in one file. "ours" is everything that is checked, "json.loads" the parsing alone; best of five of
each, in turn. Then every heavy header of tests/checkpoints/hostile_headers.py: CPU seconds until it is
refused, and the memory beside the header itself (tracemalloc, in a second run). The exit status is 1 if one
is not refused, or not within a second.
"""

import argparse
import json
import sys
import tracemalloc
from collections.abc import Callable
from time import perf_counter, process_time

from tests.checkpoints.hostile_headers import HEAVY, tensors
from weightscope.checkpoints.header import parse_header
from weightscope.errors import CheckpointFormatError

TENSOR_BYTES = 58_720_256
SECONDS = 1.0


def tagged(count: int, tags: int) -> bytes:
    """So many tensors, and a JSON text of so many tags in the metadata."""
    text = json.dumps({f"a tag, {number}": {"count": number, "in": [1, 2]} for number in range(tags)})
    metadata = json.dumps({"__metadata__": {"ss_tag_frequency": text}})
    return metadata[:-1].encode() + b"," + tensors(count, dtype="F32")[1:]


REAL = {
    "a shard, 2,400 tensors": (2400, tensors(2400)),
    "an adapter, 1,000 tensors and 40,000 tags": (1000, tagged(1000, 40_000)),
    "100,000 tensors": (100_000, tensors(100_000)),
    "200,000 tensors": (200_000, tensors(200_000)),
}


def best(*functions: Callable[[], object], times: int = 5) -> list[float]:
    """Seconds, of each the least."""
    seconds = [[float("inf")] for _ in functions]
    for _ in range(times):
        for function, taken in zip(functions, seconds, strict=True):
            started = perf_counter()
            function()
            taken.append(perf_counter() - started)
    return [min(taken) for taken in seconds]


def refusal(header: bytes) -> str:
    try:
        parse_header(header, shard="x", file_bytes=8 + len(header))
    except CheckpointFormatError as error:
        return error.found
    return "ACCEPTED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args()
    print(f"{'real':44}{'bytes':>12}  ours, s  json.loads, s  ratio")
    for name, (count, header) in REAL.items():
        size = 8 + len(header) + count * TENSOR_BYTES
        assert len(parse_header(header, shard="x", file_bytes=size)) == count
        ours, alone = best(
            lambda header=header, size=size: parse_header(header, shard="x", file_bytes=size),
            lambda header=header: json.loads(header),
        )
        print(f"{name:44}{len(header):12,}{ours:9.3f}{alone:15.3f}{ours / alone:7.2f}", flush=True)
    if options.real:
        return
    bad = False
    print(f"\n{'hostile':44}{'bytes':>12}  refused in, s  memory, MB")
    for name, make in HEAVY.items():
        header = make()
        started = process_time()
        found = refusal(header)
        seconds = process_time() - started
        tracemalloc.start()
        refusal(header)
        memory = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        bad |= found == "ACCEPTED" or seconds > SECONDS
        print(f"{name:44}{len(header):12,}{seconds:15.3f}{memory:12.1f}", flush=True)
    sys.exit(bad)


if __name__ == "__main__":
    main()
