"""A network that fails and servers that lie: the quiet run's tensors, or an error that says what is wrong."""

from __future__ import annotations

import socketserver
import threading
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.factories import gpt2_tensors, write_gpt2
from tests.hub.server import LoopbackHub
from weightscope.checkpoints import ranges
from weightscope.checkpoints.patience import Patience, seconds_asked
from weightscope.checkpoints.reading import Reading
from weightscope.checkpoints.source import Source
from weightscope.checkpoints.stream import open_source
from weightscope.checkpoints.transport import Transport
from weightscope.errors import AccessDenied, CheckpointFormatError, TransferError, WeightscopeError

SHARD = "model-00002-of-00002.safetensors"
pytestmark = pytest.mark.usefixtures("hasty", "many_requests")


@pytest.fixture
def many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some twenty for the few megabytes of these tests."""
    for name in ("SHORTEST_REQUEST", "LONGEST_REQUEST"):
        monkeypatch.setattr(ranges, name, 2**18)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of some megabytes, so that every fault has a body to break."""
    return write_gpt2(tmp_path_factory.mktemp("faults") / "gpt2", layers=4, width=192, shards=2)


@pytest.fixture
def repo(hub: LoopbackHub, folder: Path) -> LoopbackHub:
    hub.add("org/gpt", {path.name: path for path in folder.iterdir()})
    return hub


def read_all(connections: int = 3) -> None:
    """Open, read everything, and compare with what was written."""
    expected = gpt2_tensors(layers=4, width=192)
    with open_source("org/gpt", Reading(connections=connections)) as source:
        read = source.read_all(list(source.index.values()))
        assert all(torch.equal(got, expected[name]) for name, got in zip(source.index, read, strict=True))


class Redirecting:
    """A server that sends everyone on."""

    def __init__(self, address: str) -> None:
        answer = f"HTTP/1.1 302 Found\r\nLocation: {address}\r\nContent-Length: 0\r\n\r\n".encode()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(answer)

        self._server = socketserver.TCPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}/x"

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()


SURVIVED: list[tuple[str, dict[str, Any]]] = [
    ("reset", {}),
    ("reset", {"after_bytes": 100_000}),
    ("reset", {"after_bytes": 100_000, "times": 5}),
    ("close", {}),
    ("close", {"after_bytes": 123_457}),
    ("close", {"every_bytes": 50_000}),
    ("stall", {"seconds": 2.0, "after_bytes": 65_536}),
    ("slow_headers", {"seconds": 2.0, "drip": False}),
    ("hang_up", {"times": 5}),
    ("chunked", {"times": 50}),
    ("short", {}),
    ("status", {"code": 503, "times": 3}),
    ("status", {"code": 500, "times": 2}),
    ("status", {"code": 429, "retry_after": 1}),
    ("status", {"code": 429, "ratelimit": 1}),
    ("status", {"code": 408}),
    ("expired", {"uses": 3, "times": None}),
    ("redirect", {"times": 50}),
    ("redirect", {"to": "foreign", "times": 50}),
    ("status", {"code": 503, "on": "resolve", "times": 3}),
    ("status", {"code": 429, "retry_after": 1, "on": "resolve"}),
    ("reset", {"on": "resolve"}),
    ("close", {"on": "resolve", "times": 2}),
    ("slow_headers", {"on": "resolve", "seconds": 0.2}),
    ("status", {"code": 503, "on": "api", "match": "*models*", "times": 2}),
    ("status", {"code": 429, "on": "api", "match": "*models*", "ratelimit": 1}),
    ("reset", {"on": "api", "match": "*models*"}),
    ("no_commit_header", {"times": 50}),
    (
        "moved_branch",
        {"on": "api", "match": "*models*", "repo_id": "org/gpt", "files": {"config.json": b"{}"}},
    ),
]


@pytest.mark.parametrize(("kind", "options"), SURVIVED, ids=[f"{k}-{o}" for k, o in SURVIVED])
def test_survived(kind: str, options: dict[str, Any], repo: LoopbackHub) -> None:
    with repo.fault(kind, **options) as fault:
        read_all()
    assert fault.fired, "the fault never happened"


FOUND: list[tuple[str, dict[str, Any], type[WeightscopeError], str]] = [
    ("range_ignored", {"after": 2}, CheckpointFormatError, "answered 200"),
    ("wrong_content_range", {"after": 2}, CheckpointFormatError, "were asked for and"),
    ("wrong_content_range", {"after": 2, "value": "bytes x"}, CheckpointFormatError, "did not say"),
    ("html", {"after": 2}, CheckpointFormatError, "web page"),
    ("html", {"status": 206, "content_range": True}, CheckpointFormatError, "web page"),
    ("gzip", {"after": 2}, CheckpointFormatError, "compressed"),
    ("etag_change", {"after": 2}, CheckpointFormatError, "mark changed"),
    ("redirect", {"to": "loop"}, TransferError, "redirected more than"),
    ("status", {"code": 503, "times": None}, TransferError, "6 tries in a row.*503"),
    ("reset", {"times": None}, TransferError, "6 tries in a row"),
    ("stall", {"times": None, "seconds": 2}, TransferError, "6 tries in a row.*nothing came"),
    ("status", {"code": 429, "retry_after": 3600}, TransferError, "wait 3,600 seconds"),
    ("status", {"code": 403, "times": None}, AccessDenied, "storage refuses"),
    ("status", {"code": 418, "times": None}, CheckpointFormatError, "answered 418"),
    ("status", {"code": 503, "times": None, "on": "api", "match": "*models*"}, TransferError, "503, 6 times"),
    ("status", {"code": 503, "times": None, "on": "resolve", "match": SHARD}, TransferError, "503, 6 times"),
]


@pytest.mark.parametrize(("kind", "options", "error", "words"), FOUND, ids=[f"{f[0]}-{f[1]}" for f in FOUND])
def test_found(
    kind: str, options: dict[str, Any], error: type[WeightscopeError], words: str, repo: LoopbackHub
) -> None:
    started = time.monotonic()
    with repo.fault(kind, **options) as fault, pytest.raises(error, match=words) as caught:
        read_all()
    assert fault.fired
    assert time.monotonic() - started < 10
    assert "gpt" in caught.value.asked or kind == "redirect"
    for sentence in (caught.value.asked, caught.value.found, caught.value.advice):
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert "Signature" not in sentence


def test_a_read_goes_on_from_the_byte_it_has(repo: LoopbackHub, folder: Path) -> None:
    """A break costs no byte twice: what is sent is what a quiet run is sent, and what was under way."""
    repo.stats.reset()
    read_all(connections=1)
    quiet = repo.stats.bytes_sent("storage")
    repo.stats.reset()
    with repo.fault("close", every_bytes=50_000):
        read_all(connections=1)
    assert repo.stats.bytes_sent("storage") == quiet


def test_a_final_failure_names_file_offset_and_tries(repo: LoopbackHub) -> None:
    with (
        repo.fault("close", after_bytes=70_000, match=SHARD, after=1),
        repo.fault("status", code=502, times=None, match=SHARD, after=2),
        pytest.raises(TransferError) as caught,
    ):
        read_all(connections=1)
    assert SHARD in str(caught.value)
    assert "6 tries" in caught.value.found
    assert "byte " in caught.value.asked
    assert "--resume" in caught.value.advice


def test_a_server_that_drips_is_given_up(repo: LoopbackHub, hasty: Patience) -> None:
    """It sends a byte before every timeout, for ever."""
    repo.shape(bytes_per_second_per_connection=200)
    started = time.monotonic()
    with pytest.raises(TransferError, match="hardly anything"):
        read_all(connections=1)
    assert time.monotonic() - started < 3 * hasty.tries * hasty.slow_seconds


def test_a_lie_in_the_data_of_a_header_is_no_header(repo: LoopbackHub) -> None:
    with repo.fault("lying_data"), pytest.raises(CheckpointFormatError):
        read_all()


def test_closing_ends_what_is_under_way(repo: LoopbackHub) -> None:
    from threading import Thread

    repo.shape(bytes_per_second_per_connection=100_000)
    source = open_source("org/gpt")
    failures: list[Exception] = []

    def read() -> None:
        try:
            source.read_all(list(source.index.values()))
        except Exception as error:
            failures.append(error)

    thread = Thread(target=read)
    thread.start()
    time.sleep(0.3)
    started = time.monotonic()
    source.close()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - started < 2
    assert isinstance(failures[0], TransferError)


def test_a_close_wakes_who_waits_for_jobs_that_never_ran(repo: LoopbackHub) -> None:
    """One connection, many requests: those in the queue are cancelled, and nobody tells `as_completed`."""
    from threading import Thread

    repo.shape(bytes_per_second_per_connection=100_000)

    def read(source: Source) -> None:
        with pytest.raises(TransferError):
            source.read_all(list(source.index.values()))

    for _ in range(3):
        source = open_source("org/gpt", Reading(connections=1))
        reader = Thread(target=read, args=(source,))
        reader.start()
        time.sleep(0.2)
        source.close()
        reader.join(5)
        assert not reader.is_alive()


@pytest.mark.parametrize(
    "address",
    [
        "http://h:99999/",
        "http://h:abc/",
        "http://[::1/x",
        "http://a..b/",
        "/\u00e9",
        "ftp://x/y",
        "file:///etc/passwd",
    ],
)
def test_a_redirect_to_an_address_that_is_none(address: str) -> None:
    transport = Transport(timeout=1)
    with Redirecting(address) as url, pytest.raises((TransferError, HTTPException)) as caught:
        transport.get(url, {})
    transport.close()
    assert "passwd" not in str(caught.value)


@pytest.mark.parametrize(
    "date", ["Mon, 01 Jan 99999999999 00:00:00 GMT", "1 Jan 2030 00:00 +99999999999", "x" * 9999]
)
def test_a_date_that_is_none_asks_for_nothing(date: str) -> None:
    assert seconds_asked({"Retry-After": date}) is None
