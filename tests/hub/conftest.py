"""A hub with one public repository, and a huggingface_hub that asks nobody else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from tests.hub.server import LoopbackHub

WEIGHTS = bytes(range(256)) * 1000 + b"end"
CONFIG = b'{"model_type": "gpt2"}'


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No telemetry (it asks the public Hub for something once a day), no tokens found, no bars."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    huggingface_hub.utils.disable_progress_bars()
    for name in (
        "HF_TOKEN",
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        running.add("org/name", files={"config.json": CONFIG, "model.safetensors": WEIGHTS})
        yield running


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


@pytest.fixture
def download(api: HfApi, tmp_path: Path) -> Any:
    """hf_hub_download of a file of org/name to a fresh cache; gives the bytes."""

    def run(file: str = "model.safetensors", **options: Any) -> bytes:
        path = api.hf_hub_download("org/name", file, cache_dir=tmp_path / "cache", **options)
        return Path(path).read_bytes()

    return run
