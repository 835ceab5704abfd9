"""A client that hides nothing: one request on one connection, redirects not followed, breaks kept."""

import http.client
import os
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from tests.hub.server import LoopbackHub

ROOT = Path(__file__).parents[2]


@dataclass
class Answer:
    """What came back: `error` is what ended the answer early, `body` what had come until then."""

    status: int
    headers: dict[str, str]
    body: bytes
    error: Exception | None
    seconds: float


def fetch(
    url: str,
    *,
    span: tuple[int, int] | None = None,
    method: str = "GET",
    timeout: float = 5.0,
    context: ssl.SSLContext | None = None,
    data: bytes | None = None,
    **headers: str,
) -> Answer:
    """One request.

    Args:
        url: Where.
        span: First and one past the last byte, for a Range header.
        method: GET, HEAD or POST.
        timeout: Seconds without a byte.
        context: For https.
        data: A body.
        headers: `_` for `-`.
    """
    parts = urlsplit(url)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if span is not None:
        sent["Range"] = f"bytes={span[0]}-{span[1] - 1}"
    started = time.monotonic()
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.netloc, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    status, received, body, error = 0, {}, bytearray(), None
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, data, sent)
        response = connection.getresponse()
        status, received = response.status, {name.lower(): value for name, value in response.getheaders()}
        while piece := response.read1(1 << 16):
            body += piece
        if response.length:
            raise http.client.IncompleteRead(bytes(body), response.length)
    except (OSError, http.client.HTTPException) as raised:
        error = raised
    finally:
        connection.close()
    return Answer(status, received, bytes(body), error, time.monotonic() - started)


def resolve_url(hub: LoopbackHub, repo_id: str, file: str, revision: str = "main") -> str:
    """Address of a file on the hub."""
    return f"{hub.endpoint}/{repo_id}/resolve/{quote(revision, safe='')}/{quote(file)}"


def signed_url(hub: LoopbackHub, repo_id: str, file: str, revision: str = "main", **headers: str) -> str:
    """The storage's address of an LFS file, as the hub signs it."""
    return fetch(resolve_url(hub, repo_id, file, revision), method="HEAD", **headers).headers["location"]


def client_environment(home: Path, endpoint: str | None = None, **more: str) -> dict[str, str]:
    """An environment for a fresh huggingface_hub: own cache; no telemetry; only proxies and tokens given."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "HUGGING")) and not name.lower().endswith("_proxy")
    }
    fixed = {
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONPATH": str(ROOT),
    }
    return inherited | fixed | ({"HF_ENDPOINT": endpoint} if endpoint else {}) | more


def run_client(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, where huggingface_hub reads the environment at import."""
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
