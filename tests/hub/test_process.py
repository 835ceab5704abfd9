"""The hub in a process of its own, and its control addresses."""

import subprocess
import sys
import time

import pytest

from tests.hub.conftest import CONFIG, WEIGHTS
from tests.hub.process import HubProcess
from tests.hub.raw import ROOT, fetch


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_bytes(b"hidden")
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "sub" / "weights.safetensors").write_bytes(WEIGHTS)
    return folder


@pytest.fixture(scope="module")
def process(folder):
    with HubProcess([folder]) as running:
        yield running


def location(process):
    head = fetch(f"{process.endpoint}/org/model/resolve/main/sub/weights.safetensors", method="HEAD")
    return head.headers["location"]


def test_it_serves_counts_and_forgets(process):
    process.reset()
    assert fetch(location(process), span=(5, 105_000)).body == WEIGHTS[5:105_000]
    stats = process.stats()
    assert [(request.origin, request.status) for request in stats.requests] == [
        ("hub", 302),
        ("storage", 206),
    ]
    assert stats.bytes_sent("storage") == 104_995
    assert stats.requests[-1].served == (5, 105_000)
    process.reset()
    assert process.stats().requests == []
    tree = fetch(f"{process.endpoint}/api/models/org/model/tree/main?recursive=true").body
    assert b"weights.safetensors" in tree
    assert b".cache" not in tree


def test_its_faults_and_its_link(process):
    url = location(process)
    with process.fault("short", missing=5):
        assert fetch(url).body == WEIGHTS[:-5]
    with process.fault("close", times=None, after_bytes=9):
        pass
    assert fetch(url).body == WEIGHTS
    process.shape(1e6, 0.05)
    assert fetch(url).seconds > 0.9 * len(WEIGHTS) / 1e6
    process.shape()
    process.random_faults(seed=1, rate=1.0)
    assert fetch(url, span=(0, 9)).status in (0, 200, 206, 302, 429, 500, 502, 503, 504)
    assert process.stats().requests[-1].faults
    process.control("clear")
    with pytest.raises(OSError, match="400"):
        process.control("fault", kind="short", misspelt=1)


def test_a_commit_from_outside(process):
    before = process.repositories()["org/model"]
    after = process.control("commit", repo_id="org/model", files={"config.json": "{}"})
    assert process.repositories() == {"org/model": after}
    assert before != after


def test_it_ends_with_the_with_block_and_with_its_parent(folder):
    with HubProcess([folder], rate=100, latency=1) as running:
        endpoint = running.endpoint
    assert fetch(endpoint).error is not None
    code = (
        "import os, sys; from pathlib import Path; from tests.hub.process import HubProcess\n"
        "hub = HubProcess([Path(sys.argv[1])]).__enter__()\n"
        "print(hub.endpoint, flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    endpoint = killed.stdout.strip()
    assert endpoint.startswith("http://127.0.0.1:")
    deadline = time.monotonic() + 5
    while fetch(endpoint).error is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert fetch(endpoint).error is not None


def test_the_command_says_what_it_serves(folder):
    command = [sys.executable, "-m", "tests.hub.serve", str(folder), "--org", "acme", "--until-eof"]
    done = subprocess.run(command, cwd=ROOT, input="", capture_output=True, text=True, timeout=30, check=True)
    endpoint, repository = done.stdout.splitlines()
    assert endpoint.startswith("http://127.0.0.1:")
    assert repository.partition(" ")[0] == "acme/model"
    assert done.stderr == ""


def test_it_does_not_start_without_its_folder(folder):
    with pytest.raises(RuntimeError, match="did not start"), HubProcess([folder], options=["--nonsense"]):
        pass
