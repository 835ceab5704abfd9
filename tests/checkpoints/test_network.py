"""Proxies and certificates of the environment: by both clients, huggingface_hub's and ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import write_gpt2
from tests.hub import certificates
from tests.hub.certificates import Certificate
from tests.hub.proxy import ForwardProxy
from tests.hub.server import LoopbackHub

TOKEN = "hf_a_secret_token"
needs_openssl = pytest.mark.skipif(not certificates.available(), reason="there is no openssl command")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificates.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def secure(certificate: Certificate, folder: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tls=certificate.server_context()) as hub:
        add(hub, folder)
        yield hub


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gpt2(tmp_path_factory.mktemp("network") / "gpt2")


@pytest.fixture
def plain(folder: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        add(hub, folder)
        yield hub


def add(hub: LoopbackHub, folder: Path) -> None:
    hub.add("org/gpt", {path.name: path for path in folder.iterdir()}, private=True, token=TOKEN)


def inspect(hub: LoopbackHub, home: Path, **environment: object) -> subprocess.CompletedProcess[str]:
    """`weightscope inspect org/gpt` in a process of its own: it reads the header by ranges."""
    names = ("proxy", "PROXY", "HF_", "SSL_CERT")
    kept = {name: value for name, value in os.environ.items() if not any(part in name for part in names)}
    ours = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": home, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_TELEMETRY": 1}
    given = {name: str(value) for name, value in {**ours, **environment}.items()}
    return subprocess.run(
        [sys.executable, "-m", "weightscope", "inspect", "org/gpt", "--json"],
        env={**kept, **given},
        capture_output=True,
        text=True,
        check=False,
    )


def assert_read(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["layers"] == 2


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_is_asked(name: str, plain: LoopbackHub, tmp_path: Path) -> None:
    if name == "HTTP_PROXY" and os.environ.get("REQUEST_METHOD"):
        pytest.skip("ignored under CGI")
    with ForwardProxy() as proxy:
        assert_read(inspect(plain, tmp_path, **{name: proxy.url}))
        asked = [request.path for request in proxy.requests]
    assert any(path.startswith(plain.storage) for path in asked)
    assert len(asked) == len(plain.stats.requests)


def test_no_proxy_where_the_environment_says_none(plain: LoopbackHub, tmp_path: Path) -> None:
    with ForwardProxy() as proxy:
        assert_read(inspect(plain, tmp_path, http_proxy=proxy.url, no_proxy="127.0.0.1"))
        assert proxy.requests == []


def test_a_proxy_with_a_password(plain: LoopbackHub, tmp_path: Path) -> None:
    with ForwardProxy("user:p@ss") as proxy:
        assert_read(inspect(plain, tmp_path, http_proxy=proxy.url.replace("//", "//user:p%40ss@")))
    assert all("proxy-authorization" not in request.headers for request in plain.stats.requests)


def test_a_proxy_of_another_kind_is_refused(plain: LoopbackHub, tmp_path: Path) -> None:
    done = inspect(plain, tmp_path, http_proxy="socks5://127.0.0.1:9")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@needs_openssl
def test_a_certificate_that_is_trusted(secure: LoopbackHub, certificate: Certificate, tmp_path: Path) -> None:
    assert_read(inspect(secure, tmp_path, SSL_CERT_FILE=certificate.path))


@needs_openssl
def test_a_certificate_that_is_not(secure: LoopbackHub, tmp_path: Path) -> None:
    done = inspect(secure, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("TransferError: ")
    assert "certificate is not trusted" in done.stderr
    assert "SSL_CERT_FILE" in done.stderr
    assert not secure.stats.requests


@needs_openssl
def test_a_tunnel_shows_the_proxy_no_token(
    secure: LoopbackHub, certificate: Certificate, tmp_path: Path
) -> None:
    with ForwardProxy("user:secret") as proxy:
        address = proxy.url.replace("//", "//user:secret@")
        done = inspect(secure, tmp_path, https_proxy=address, SSL_CERT_FILE=certificate.path)
        assert_read(done)
        assert {request.method for request in proxy.requests} == {"CONNECT"}
        assert all(request.authorization is None for request in proxy.requests)
    sent = {request.origin: request.authorization for request in secure.stats.requests}
    assert sent == {"hub": f"Bearer {TOKEN}", "storage": None}
