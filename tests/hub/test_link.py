"""The link: rate and latency, TLS with a certificate that nobody signed, and proxies."""

import base64
import ssl
import threading
import time

import pytest

from tests.hub import certificates
from tests.hub.conftest import CONFIG, WEIGHTS
from tests.hub.proxy import ForwardProxy
from tests.hub.raw import client_environment, fetch, resolve_url, run_client, signed_url
from tests.hub.server import LoopbackHub

needs_openssl = pytest.mark.skipif(not certificates.available(), reason="there is no openssl command")


def test_the_rate_holds_for_each_connection(hub):
    url = signed_url(hub, "org/name", "model.safetensors")
    hub.shape(bytes_per_second_per_connection=1e6)
    expected = len(WEIGHTS) / 1e6
    started = time.monotonic()
    threads = [threading.Thread(target=fetch, args=(url,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - started
    assert 0.9 * expected < seconds < 3.5 * expected  # one after the other they would take 4
    assert hub.stats.bytes_sent("storage") == 4 * len(WEIGHTS)
    hub.shape()
    assert fetch(url).seconds < expected


def test_latency_comes_before_every_answer_of_both_origins(hub):
    url = signed_url(hub, "org/name", "model.safetensors")
    hub.shape(latency_s=0.1)
    assert fetch(url, span=(0, 9)).seconds >= 0.1
    assert fetch(resolve_url(hub, "org/name", "config.json")).seconds >= 0.1


@pytest.fixture
def secure(tmp_path):
    certificate = certificates.make(tmp_path)
    with LoopbackHub(tls=certificate.server_context()) as hub:
        hub.add("org/name", files={"config.json": CONFIG, "model.safetensors": WEIGHTS})
        yield hub, certificate


@needs_openssl
def test_tls_serves_those_who_trust_it(secure):
    hub, certificate = secure
    context = certificate.client_context()
    head = fetch(resolve_url(hub, "org/name", "model.safetensors"), method="HEAD", context=context)
    assert head.headers["location"].startswith("https://")
    assert fetch(head.headers["location"], span=(5, 70_000), context=context).body == WEIGHTS[5:70_000]
    with hub.fault("reset", after_bytes=20_000):
        answer = fetch(head.headers["location"], context=context)
        assert answer.error is not None  # an RST it is, but Python's ssl calls it an end
        assert answer.body == WEIGHTS[:20_000]


@needs_openssl
def test_tls_is_refused_by_others(secure, tmp_path):
    hub, _ = secure
    url = resolve_url(hub, "org/name", "config.json")
    assert isinstance(fetch(url).error, ssl.SSLCertVerificationError)
    other = tmp_path / "other"
    other.mkdir()
    stranger = certificates.make(other, hosts="DNS:elsewhere.example")
    with LoopbackHub(tls=stranger.server_context()) as wrong_host:
        url = resolve_url(wrong_host, "org/name", "config.json")
        assert "match" in str(fetch(url, context=stranger.client_context()).error)
    assert hub.stats.requests == []


@needs_openssl
def test_an_expired_certificate(tmp_path):
    certificate = certificates.make(tmp_path, days=-1)
    with LoopbackHub(tls=certificate.server_context()) as hub:
        answer = fetch(resolve_url(hub, "org/name", "config.json"), context=certificate.client_context())
        assert "expired" in str(answer.error)


INFO = "from huggingface_hub import model_info; print(model_info('org/name').sha)"
DOWNLOAD = (
    "import os; from huggingface_hub import hf_hub_download\n"
    "print(os.path.getsize(hf_hub_download('org/name', 'model.safetensors')))"
)


@needs_openssl
def test_huggingface_hub_and_certificates(secure, tmp_path):
    hub, certificate = secure
    refused = run_client(INFO, client_environment(tmp_path / "home", hub.endpoint))
    assert refused.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
    trusting = client_environment(tmp_path / "home", hub.endpoint, SSL_CERT_FILE=str(certificate.path))
    assert run_client(INFO, trusting).stdout.strip() == hub.state.repositories["org/name"].commit


def test_a_proxy_of_the_environment(hub, tmp_path):
    with ForwardProxy() as proxy:
        environment = client_environment(tmp_path, hub.endpoint, HTTP_PROXY=proxy.url, HTTPS_PROXY=proxy.url)
        assert run_client(DOWNLOAD, environment).stdout.strip() == str(len(WEIGHTS))
        assert proxy.requests[0].path == resolve_url(hub, "org/name", "model.safetensors")
        assert len(proxy.requests) == len(hub.stats.requests) == 2
        environment |= {"NO_PROXY": "127.0.0.1"}
        assert run_client(INFO, environment).returncode == 0
        assert len(proxy.requests) == 2


@needs_openssl
def test_a_tunnel_shows_the_proxy_no_token(secure, tmp_path):
    hub, certificate = secure
    hub.add_user("hf_good")
    more = {"SSL_CERT_FILE": str(certificate.path), "HF_TOKEN": "hf_good"}
    with ForwardProxy() as proxy:
        environment = client_environment(tmp_path, hub.endpoint, HTTPS_PROXY=proxy.url, **more)
        assert run_client(INFO, environment).returncode == 0
        assert {request.method for request in proxy.requests} == {"CONNECT"}
        assert all(request.authorization is None for request in proxy.requests)
    assert hub.stats.requests[0].authorization == "Bearer hf_good"


def test_a_proxy_that_wants_a_password(hub, tmp_path):
    with ForwardProxy("user:secret") as proxy:
        assert (
            run_client(INFO, client_environment(tmp_path, hub.endpoint, HTTP_PROXY=proxy.url)).returncode == 1
        )
        with_password = proxy.url.replace("//", "//user:secret@")
        assert (
            run_client(INFO, client_environment(tmp_path, hub.endpoint, HTTP_PROXY=with_password)).returncode
            == 0
        )
        sent = proxy.requests[-1].headers["proxy-authorization"]
        assert base64.b64decode(sent.removeprefix("Basic ")) == b"user:secret"
    assert all("proxy-authorization" not in request.headers for request in hub.stats.requests)


def test_a_proxy_that_reaches_nobody(hub, tmp_path):
    endpoint = hub.endpoint
    hub.close()
    with ForwardProxy() as proxy:
        answer = run_client(INFO, client_environment(tmp_path, endpoint, HTTP_PROXY=proxy.url))
    assert answer.returncode == 1
    assert "502" in answer.stderr
