"""Reading from the Hub, over a loopback server in a process of its own.

    python -m tests.benchmarks.bench_hub
    python -m tests.benchmarks.bench_hub --layers 12 --connections 8

First every tensor of a Phi-2-shaped file, as fast as loopback allows: a plain copy, `hf_hub_download` and
`safe_open`, and our stream. Each way is a process of its own; memory is its peak above what it had after the
imports: all that is resident, and what no file backs. Then a whole analysis over a link of 50 MB/s a
connection and 40 ms, against the slower of its two halves: the same stream without a solver, and the same
analysis of local files. Linux only.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.peak import watched
from tests.hub.process import HubProcess

RATE, LATENCY = 50.0, 40.0


def look_at(tensor) -> None:
    """Touch every byte, without a copy."""
    import torch

    tensor.view(torch.int64).sum()


def copy(source: str, scratch: str, connections: int) -> int:
    shutil.copyfile(Path(source) / "model.safetensors", Path(scratch) / "copy")
    return 0


def download(source: str, scratch: str, connections: int) -> int:
    from huggingface_hub import hf_hub_download
    from safetensors import safe_open

    path = hf_hub_download("org/model", "model.safetensors", cache_dir=scratch)
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is no dict
            look_at(file.get_tensor(name))
    return 0


def stream(source: str, scratch: str, connections: int) -> int:
    """In the plan's steps, as an analysis reads; every byte is looked at, as in the other ways."""
    from weightscope.checkpoint import open_checkpoint
    from weightscope.sweep.plan import plan_sweep
    from weightscope.sweep.read_ahead import read_ahead
    from weightscope.sweep.run import Seconds

    with open_checkpoint("org/model", connections=connections) as checkpoint:
        plan = plan_sweep(checkpoint.matrices, checkpoint.tensors)
        for _, tensors in read_ahead(plan, checkpoint.source, Seconds()):
            for tensor in tensors.values():
                look_at(tensor)
        return checkpoint.source.received_bytes


def analyse(source: str, scratch: str, connections: int) -> int:
    import weightscope

    analysis = weightscope.analyze(source, connections=connections)
    return int(analysis.provenance["bytes"]["received"])


WAYS = {way.__name__: way for way in (copy, download, stream, analyse)}


def child(way: str, source: str, connections: int) -> None:
    import huggingface_hub  # noqa: F401 - of all ways, before the clock starts
    import safetensors.torch  # noqa: F401

    import weightscope

    weightscope.analyze("demo")
    with watched() as peak, tempfile.TemporaryDirectory() as scratch:
        started, cpu = time.perf_counter(), time.process_time()
        received = WAYS[way](source, scratch, connections)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    found = {
        "seconds": seconds,
        "cpu": cpu,
        "resident": peak.resident,
        "anonymous": peak.anonymous,
        "received": received,
    }
    print(json.dumps(found))


def measured(way: str, source: str, connections: int, hub: HubProcess) -> dict:
    """One run in a process of its own; bytes and requests as the server saw them."""
    hub.reset()
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.bench_hub",
            "--child",
            way,
            source,
            str(connections),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    stats = hub.stats()
    return {
        **json.loads(done.stdout.splitlines()[-1]),
        "bytes": stats.bytes_sent(),
        "requests": len(stats.requests),
    }


def best(runs: list[dict]) -> dict:
    return min(runs, key=lambda run: run["seconds"])


def whole_file(folder: Path, hub: HubProcess, connections: int, repeats: int) -> None:
    print("way        seconds   CPU s   MB/s   bytes received   requests   resident   anonymous")
    found: dict[str, list[dict]] = {"copy": [], "download": [], "stream": []}
    for _ in range(repeats):
        for way, runs in found.items():
            runs.append(measured(way, str(folder), connections, hub))
    size = (folder / "model.safetensors").stat().st_size
    for way, runs in found.items():
        run = best(runs)
        print(
            f"{way:8}   {run['seconds']:7.2f}   {run['cpu']:5.2f}   {size / 1e6 / run['seconds']:4.0f}   "
            f"{run['bytes']:14,}   {run['requests']:8}   "
            f"{run['resident'] / 1e6:5.0f} MB   {run['anonymous'] / 1e6:6.0f} MB"
        )
    theirs, ours = best(found["download"]), best(found["stream"])
    print(
        f"stream against download: {theirs['seconds'] / ours['seconds']:.1f} times as fast (required 2), "
        f"{ours['resident'] / theirs['resident']:.2f} of its memory (required 0.25), "
        f"{ours['bytes'] / size:.4f} of the file's bytes (required 1.01)"
    )


def over_a_link(folder: Path, hub: HubProcess, connections: int, repeats: int) -> None:
    print(f"a link of {RATE:.0f} MB/s a connection and {LATENCY:.0f} ms, {connections} connections")
    alone, local, both = [], [], []
    for _ in range(repeats):
        hub.shape(RATE * 1e6, LATENCY / 1e3)
        alone.append(measured("stream", "", connections, hub))
        both.append(measured("analyse", "org/model", connections, hub))
        local.append(measured("analyse", str(folder), connections, hub))
    download, compute, end_to_end = (best(runs)["seconds"] for runs in (alone, local, both))
    print("download alone   compute alone   end to end   ratio to the slower   required")
    ratio = end_to_end / max(download, compute)
    print(f"{download:12.2f} s   {compute:11.2f} s   {end_to_end:8.2f} s   {ratio:19.2f}   1.15")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", nargs=3)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["file", "link"])
    given = parser.parse_args()
    if given.child:
        return child(given.child[0], given.child[1], int(given.child[2]))
    from tests.benchmarks.weights import phi2_shaped

    with tempfile.TemporaryDirectory() as scratch:
        folder = phi2_shaped(Path(scratch) / "model", layers=given.layers, spectra="trained")
        size = (folder / "model.safetensors").stat().st_size
        print(f"{given.layers} layers, {size:,} bytes, best of {given.repeats}")
        with HubProcess([folder]) as hub:
            if given.only != "link":
                whole_file(folder, hub, given.connections, given.repeats)
            if given.only != "file":
                over_a_link(folder, hub, given.connections, given.repeats)
    return None


if __name__ == "__main__":
    main()
