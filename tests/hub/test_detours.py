"""Other answers in place of the file: errors, pages, redirects, expired signatures, a moved branch."""

import time
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

from tests.hub.conftest import WEIGHTS
from tests.hub.raw import fetch, resolve_url, signed_url
from tests.hub.server import LoopbackHub

SPAN = (1000, 201_000)
PART = WEIGHTS[slice(*SPAN)]


@pytest.fixture
def url(hub):
    return signed_url(hub, "org/name", "model.safetensors")


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("retry_after", [None, 7, "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_status_with_and_without_retry_after(hub, url, code, retry_after):
    with hub.fault("status", code=code, retry_after=retry_after, ratelimit=3):
        answer = fetch(url, span=SPAN)
    assert answer.status == code
    assert answer.headers.get("retry-after") == (None if retry_after is None else str(retry_after))
    assert answer.headers["ratelimit"] == '"api";r=0;t=3'
    assert fetch(url, span=SPAN).body == PART


def test_status_with_an_error_code(hub, api, monkeypatch):
    with hub.fault("status", on="api", code=403, error_code="GatedRepo"), pytest.raises(GatedRepoError):
        api.model_info("org/name")
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    with hub.fault("status", 2, on="api", code=429, retry_after=3):
        assert api.list_repo_files("org/name") == ["config.json", "model.safetensors"]
    assert len(waits) == 2
    assert min(waits) >= 3


def test_html_in_place_of_the_file(hub, url):
    with hub.fault("html"):
        answer = fetch(url, span=SPAN)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"Sign in" in answer.body
    with hub.fault("html", status=206, content_range=True):
        answer = fetch(url, span=SPAN)
    assert (answer.status, answer.headers["content-range"]) == (206, f"bytes 1000-200999/{len(WEIGHTS)}")


def test_a_signature_expires_after_uses(hub, url):
    with hub.fault("expired", None, uses=3) as fault:
        assert [fetch(url, span=SPAN).status for _ in range(5)] == [206, 206, 206, 403, 403]
        assert fault.fired == 2
        fresh = signed_url(hub, "org/name", "model.safetensors")
        assert fetch(fresh, span=SPAN).body == PART


def test_a_signature_expires_with_time(hub, url):
    with hub.fault("expired", None, seconds=0.2):
        assert fetch(url, span=SPAN).status == 206
        time.sleep(0.2)
        refused = fetch(url, span=SPAN)
    assert (refused.status, b"expired" in refused.body) == (403, True)
    hub.state.signer.lifetime = 0.05
    short_lived = signed_url(hub, "org/name", "model.safetensors")
    assert fetch(short_lived).status == 200
    time.sleep(0.06)
    assert fetch(short_lived).status == 403


def test_huggingface_hub_meets_an_expired_signature(hub, download):
    with hub.fault("expired"), pytest.raises(HfHubHTTPError, match="403"):
        download()


def test_the_branch_moves_between_two_requests(hub, api):
    repo = hub.state.repositories["org/name"]
    first = repo.commit
    moved = {"model.safetensors": b"other weights"}
    with hub.fault("moved_branch", on="api", repo_id="org/name", files=moved):
        assert api.model_info("org/name").sha == first
        assert api.model_info("org/name").sha == repo.commit != first
    assert fetch(signed_url(hub, "org/name", "model.safetensors")).body == b"other weights"
    assert fetch(signed_url(hub, "org/name", "model.safetensors", first)).body == WEIGHTS


def test_one_more_hop_on_the_storage(hub, url):
    with hub.fault("redirect", times=None, hops=2):
        first = fetch(url, span=SPAN)
        assert first.status == 302
        second = fetch(first.headers["location"], span=SPAN)
        assert second.status == 302
        assert fetch(second.headers["location"], span=SPAN).body == PART
        assert {request.origin for request in hub.stats.of("storage")} == {"storage"}


def test_a_hop_to_a_foreign_host(hub, url):
    with hub.fault("redirect", to="foreign", code=307):
        answer = fetch(url, span=SPAN, Authorization="Bearer hf_secret")
        assert answer.status == 307
    location = answer.headers["location"]
    assert urlsplit(location).hostname != urlsplit(url).hostname
    assert fetch(location, span=SPAN, Authorization="Bearer hf_secret").body == PART
    (seen,) = hub.stats.of("foreign")
    assert seen.authorization == "Bearer hf_secret"  # what a careless client sends is there to be found


def test_the_hub_may_redirect_to_a_foreign_host_and_the_token_stays(hub, api, tmp_path):
    hub.add_user("hf_good")
    with hub.fault("redirect", on="resolve", to="foreign", method="GET", match="config.json"):
        api.hf_hub_download("org/name", "config.json", cache_dir=tmp_path, token="hf_good")
    (seen,) = hub.stats.of("foreign")
    assert seen.authorization is None


@pytest.mark.parametrize("on", ["storage", "resolve"])
def test_a_redirect_without_end(hub, download, on):
    with hub.fault("redirect", on=on, to="loop"), pytest.raises(Exception, match=r"redirect"):
        download()
    assert len(hub.stats.requests) > 9


def test_random_faults_come_again_with_the_seed():
    def run(seed):
        with LoopbackHub() as hub:
            hub.add("org/name", files={"model.safetensors": WEIGHTS})
            hub.random_faults(seed, rate=0.5)
            url = signed_url(hub, "org/name", "model.safetensors")
            for start in range(0, 200_000, 10_000):
                fetch(url, span=(start, start + 10_000))
            return [request.faults for request in hub.stats.of("storage")]

    first, again, other = run(1), run(1), run(2)
    assert first == again != other
    assert 4 <= sum(map(bool, first)) <= 16
    assert len({kind for faults in first for kind in faults}) >= 3


def test_every_random_fault_can_be_survived(hub, url):
    hub.random_faults(3, rate=0.7)
    received = bytearray()
    for _ in range(2000):
        if len(received) >= len(WEIGHTS):
            break
        here = len(received)
        answer = fetch(url, span=(here, min(here + 5000, len(WEIGHTS))))
        if answer.status == 206:
            received += answer.body
    assert received == WEIGHTS
    hub.faults.clear()
    assert fetch(resolve_url(hub, "org/name", "model.safetensors")).status == 302
    assert HfApi(endpoint=hub.endpoint, token=False).model_info("org/name").id == "org/name"
