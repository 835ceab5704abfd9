"""A hub on the loopback interface, and a huggingface_hub that asks nobody else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.client import point_at
from tests.hub.server import LoopbackHub
from weightscope.checkpoints import hub_source
from weightscope.checkpoints.patience import Patience


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        point_at(running, tmp_path / "hub_cache", monkeypatch)
        yield running


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Patience:
    """The same number of tries, in a hundredth of the time."""
    patience = Patience(first_wait=0.01, longest_wait=0.05, longest_asked=2, timeout=0.5, slow_seconds=0.4)
    monkeypatch.setattr(hub_source, "default_patience", lambda: patience)
    return patience
