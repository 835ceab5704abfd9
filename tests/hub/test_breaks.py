"""Faults of the connection, seen by a raw client and by huggingface_hub."""

import http.client
import threading
import time
from http.client import IncompleteRead, RemoteDisconnected
from urllib.parse import urlsplit

import pytest

from tests.hub.conftest import CONFIG, WEIGHTS
from tests.hub.raw import fetch, resolve_url, signed_url

SPAN = (1000, 201_000)
PART = WEIGHTS[slice(*SPAN)]


@pytest.fixture
def url(hub):
    return signed_url(hub, "org/name", "model.safetensors")


def test_reset_is_an_rst_before_the_headers_or_in_the_body(hub, url):
    with hub.fault("reset"):
        answer = fetch(url, span=SPAN)
        assert type(answer.error) is ConnectionResetError
        assert (answer.status, answer.body) == (0, b"")
        assert (hub.stats.requests[-1].status, hub.stats.requests[-1].faults) == (0, ["reset"])
        assert fetch(url, span=SPAN).body == PART
    with hub.fault("reset", after_bytes=50_000):
        answer = fetch(url, span=SPAN)
        assert type(answer.error) is ConnectionResetError
        assert (answer.status, answer.body) == (206, PART[:50_000])
        assert hub.stats.requests[-1].sent_bytes == 50_000


def test_close_is_a_fin_before_the_headers_or_in_the_body(hub, url):
    with hub.fault("close"):
        assert isinstance(fetch(url, span=SPAN).error, RemoteDisconnected)
    with hub.fault("close", after_bytes=50_000):
        answer = fetch(url, span=SPAN)
        assert isinstance(answer.error, IncompleteRead)
        assert answer.body == PART[:50_000]
        assert answer.headers["content-length"] == str(len(PART))
    assert fetch(url, span=SPAN).body == PART


def test_close_every_n_bytes(hub, url):
    with hub.fault("close", every_bytes=50_000) as fault:
        received = b""
        while len(received) < len(PART):
            received += fetch(url, span=(SPAN[0] + len(received), SPAN[1])).body
        assert received == PART
        assert fault.fired == 3  # the last 50,000 bytes end by themselves


def test_stall_stops_in_the_body_and_goes_on(hub, url):
    with hub.fault("stall", seconds=0.6, after_bytes=40_000, times=2):
        patient = fetch(url, span=SPAN)
        assert (patient.error, patient.body) == (None, PART)
        assert patient.seconds >= 0.6
        hasty = fetch(url, span=SPAN, timeout=0.3)
        assert isinstance(hasty.error, TimeoutError)
        assert hasty.body == PART[:40_000]


@pytest.mark.parametrize("drip", [True, False])
def test_slow_headers(hub, url, drip):
    with hub.fault("slow_headers", seconds=0.3, drip=drip):
        answer = fetch(url, span=SPAN, timeout=0.25 if drip else 2.0)  # a timeout between bytes never fires
        assert answer.body == PART
        assert answer.seconds >= 0.3
    with hub.fault("slow_headers", seconds=0.3, drip=False):
        assert isinstance(fetch(url, span=SPAN, timeout=0.1).error, TimeoutError)


def test_chunked_in_place_of_content_length(hub, url):
    with hub.fault("chunked", chunk=1000):
        answer = fetch(url, span=SPAN)
        assert answer.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in answer.headers
        assert answer.body == PART
    with hub.fault("chunked", chunk=1000), hub.fault("close", after_bytes=10_000):
        answer = fetch(url, span=SPAN)
        assert isinstance(answer.error, IncompleteRead)
        assert answer.body == PART[:10_000]


def test_a_connection_that_was_promised_and_is_gone(hub, url):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    try:
        with hub.fault("hang_up"):
            connection.request("GET", f"{parts.path}?{parts.query}", headers={"Range": "bytes=0-9"})
            response = connection.getresponse()
            assert response.read() == WEIGHTS[:10]
            assert response.getheader("connection") is None
            time.sleep(0.05)
            # http.client would connect anew if it knew; on the old socket there is nothing any more.
            assert connection.sock.recv(1) == b""
    finally:
        connection.close()


def test_connections_are_kept_otherwise(hub, url):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    for _ in range(3):
        connection.request("GET", f"{parts.path}?{parts.query}", headers={"Range": "bytes=0-9"})
        assert connection.getresponse().read() == WEIGHTS[:10]
    connection.close()
    assert len({request.connection for request in hub.stats.of("storage")}) == 1


def test_which_requests_a_fault_is_for(hub, url):
    config = resolve_url(hub, "org/name", "config.json")
    with hub.fault("close", times=None, match="*.bin", on="any") as fault:
        assert fetch(url, span=SPAN).body == PART
        assert fault.fired == 0
    with hub.fault("close", on="resolve", match="*.json", method="GET"):
        assert fetch(config, method="HEAD").error is None
        assert isinstance(fetch(config).error, RemoteDisconnected)
    with hub.fault("close", on="api", match="*/tree/*", times=1, after=1):
        tree = f"{hub.endpoint}/api/models/org/name/tree/main"
        outcomes = [fetch(tree).error is None for _ in range(3)]
        assert outcomes == [True, False, True]
    location = hub.endpoint + fetch(config).headers["location"]
    with hub.fault("reset", on="resolve", after_bytes=3):  # waits for an answer with data, past the redirect
        assert fetch(config).status == 307
        assert fetch(location).body == CONFIG[:3]
    with pytest.raises(TypeError):
        hub.faults.add("close", after_byte=3)
    with pytest.raises(KeyError):
        hub.faults.add("explosion")


def test_huggingface_hub_resumes_after_a_fin_and_gives_up_after_a_reset(hub, download, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with hub.fault("close", after_bytes=70_000) as fault:
        assert download() == WEIGHTS
        assert fault.fired == 1
    with hub.fault("reset", after_bytes=70_000), pytest.raises(Exception, match=r"reset|Errno 104"):
        download(force_download=True)


def test_stopping_ends_a_stall(hub, url):
    hub.faults.add("stall", seconds=60)
    thread = threading.Thread(target=fetch, args=(url,))
    thread.start()
    while not hub.stats.of("storage"):
        time.sleep(0.01)
    started = time.monotonic()
    hub.close()
    thread.join()
    assert time.monotonic() - started < 2
