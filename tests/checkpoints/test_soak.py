"""A share of the soak that `python -m tests.benchmarks.soak_hub` is: random faults, the same tables."""

from pathlib import Path

import pytest

from tests.benchmarks.soak_hub import HASTY, soak
from tests.factories import write_gpt2
from tests.hub.server import LoopbackHub
from weightscope.checkpoints import hub_source, ranges


def test_no_table_differs_whatever_fails(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_source, "default_patience", lambda: HASTY)
    for name in ("SHORTEST_REQUEST", "LONGEST_REQUEST"):
        monkeypatch.setattr(ranges, name, 2**17)
    folder = write_gpt2(tmp_path / "model", layers=6, width=96, shards=3)
    hub.add("org/model", {path.name: path for path in folder.iterdir()})
    different, faults = soak(6, 0.3, 1, folder, hub)
    assert different == 0
    assert sum(faults.values()) > faults["requests"] + 10
