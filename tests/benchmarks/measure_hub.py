"""How fast the loopback Hub serves: what no reader that is measured against it can exceed.

python -m tests.benchmarks.measure_hub [--gigabytes 1.0] [--connections 1 2 4]

Two cores, file in the page cache:

    1,000,000,000 bytes in ranges of 16 MiB, http.client, best of 5
    1 connections:  4491 MB/s
    2 connections:  5111 MB/s
    4 connections:  4132 MB/s
    VmHWM: 23428 kB (the server's largest memory)
"""

import argparse
import http.client
import os
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.hub.process import HubProcess

RANGE = 16 << 20


def write(path: Path, size: int) -> None:
    """A file of random bytes, written in pieces."""
    with path.open("wb") as file:
        for start in range(0, size, RANGE):
            file.write(os.urandom(min(RANGE, size - start)))


def signed(endpoint: str, repo_id: str, file: str) -> str:
    """The storage's address of a file."""
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc)
    connection.request("HEAD", f"/{repo_id}/resolve/main/{file}")
    location = connection.getresponse().getheader("Location")
    connection.close()
    assert location is not None
    return location


def read(url: str, spans: list[tuple[int, int]]) -> None:
    """Every range into the same buffer, on one connection."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    buffer = memoryview(bytearray(max(stop - start for start, stop in spans)))
    for start, stop in spans:
        connection.request(
            "GET", f"{parts.path}?{parts.query}", headers={"Range": f"bytes={start}-{stop - 1}"}
        )
        response = connection.getresponse()
        received = 0
        while count := response.readinto(buffer[received : stop - start]):
            received += count
        assert (response.status, received) == (206, stop - start)
    connection.close()


def measure(url: str, size: int, connections: int) -> float:
    """Seconds to read the whole file."""
    spans = [(start, min(start + RANGE, size)) for start in range(0, size, RANGE)]
    threads = [
        threading.Thread(target=read, args=(url, spans[i::connections]))
        for i in range(connections)
        if spans[i:]
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    size = int(options.gigabytes * 1e9)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        model.mkdir()
        write(model / "model.safetensors", size)
        with HubProcess([model], options=["--made-up-digests"]) as hub:
            url = signed(hub.endpoint, "org/model", "model.safetensors")
            print(f"{size:,} bytes in ranges of 16 MiB, http.client, best of 5")
            for connections in options.connections:
                best = min(measure(url, size, connections) for _ in range(5))
                print(f"{connections} connections: {size / best / 1e6:5.0f} MB/s")
            status = Path(f"/proc/{hub.pid}/status").read_text().splitlines()
            print(
                *(" ".join(line.split()) for line in status if line.startswith("VmHWM")),
                "(the server's largest memory)",
            )
            assert hub.stats().bytes_sent("storage") == size * 5 * len(options.connections)


if __name__ == "__main__":
    main()
