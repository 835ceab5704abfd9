"""Checkpoints of the Hub, over real sockets and through the real huggingface_hub."""

from __future__ import annotations

import json
import os
from pathlib import Path

import huggingface_hub.constants as constants
import pytest
import torch
from huggingface_hub import snapshot_download

from tests.factories import gpt2_tensors, write_gpt2
from tests.hub.server import LoopbackHub
from weightscope.checkpoints.hub_source import HubSource
from weightscope.checkpoints.reading import Reading
from weightscope.checkpoints.source import Source
from weightscope.checkpoints.stream import open_source
from weightscope.errors import CheckpointFormatError, CheckpointNotFound, OptionError, WeightscopeError


def files_of(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.iterdir()}


def assert_same(source: Source, expected: dict[str, torch.Tensor]) -> None:
    assert set(source.index) == set(expected)
    read = source.read_all(list(source.index.values()))
    for name, tensor in zip(source.index, read, strict=True):
        assert torch.equal(tensor, expected[name]), name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_gpt2(tmp_path / "gpt2", shards=3)


def test_a_stream_gives_the_very_tensors_and_leaves_nothing_behind(
    hub: LoopbackHub, folder: Path, tmp_path: Path
) -> None:
    repo = hub.add("org/gpt", files_of(folder))
    with open_source("org/gpt") as source:
        assert_same(source, gpt2_tensors())
        assert source.revision == repo.commit
        assert source.config["model_type"] == "gpt2"
        assert source.requests == len([r for r in hub.stats.requests if "harness" not in r.path]) - 2
    assert not (tmp_path / "hub_cache").exists()


@pytest.mark.parametrize("shards", [1, 2])
def test_every_way_of_reading_gives_the_same(shards: int, hub: LoopbackHub, tmp_path: Path) -> None:
    folder = write_gpt2(tmp_path / "gpt2", shards=shards)
    hub.add("org/gpt", files_of(folder))
    for reading in (Reading(), Reading(connections=1), Reading(cache=True), Reading(cache=True, verify=True)):
        with open_source("org/gpt", reading) as source:
            assert_same(source, gpt2_tensors())


def test_a_renamed_repository_is_found(hub: LoopbackHub, folder: Path) -> None:
    hub.add("org/old", files_of(folder))
    hub.rename("org/old", "org/new")
    with open_source("org/old") as source:
        assert_same(source, gpt2_tensors())


def test_a_subfolder(hub: LoopbackHub, folder: Path) -> None:
    hub.add("org/gpt", {f"inner/deep/{name}": path for name, path in files_of(folder).items()})
    for reference, reading in (
        ("org/gpt:inner/deep", Reading()),
        ("org/gpt", Reading(subfolder="inner/deep/")),
        ("org/gpt", Reading(subfolder="inner/deep", cache=True)),
        ("org/gpt:inner/deep/model.safetensors.index.json", Reading()),
    ):
        with open_source(reference, reading) as source:
            assert_same(source, gpt2_tensors())


def test_one_file_of_several(hub: LoopbackHub, folder: Path) -> None:
    files = files_of(folder)
    hub.add("org/gpt", files)
    with open_source("org/gpt:model-00001-of-00003.safetensors") as source:
        assert set(source.index) == set(list(gpt2_tensors())[::3])


def test_a_revision_is_resolved_once_and_every_read_is_of_that_commit(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    first = write_gpt2(tmp_path / "first")
    repo = hub.add("org/gpt", files_of(first))
    old = repo.commit
    repo.tag("v1", old)
    with open_source("org/gpt") as source:
        # The branch moves while the source is open.
        write_gpt2(tmp_path / "second", seed=1)
        new = repo.commit_files(files_of(tmp_path / "second"))
        assert source.revision == old != new
        assert_same(source, gpt2_tensors())
    for revision in ("v1", old):
        with open_source(f"org/gpt@{revision}") as source:
            assert source.revision == old
    with open_source("org/gpt", Reading(revision="main")) as source:
        assert source.revision == new
        assert_same(source, gpt2_tensors(seed=1))


def test_a_branch_that_moves_while_it_is_downloaded(hub: LoopbackHub, folder: Path) -> None:
    hub.add("org/gpt", files_of(folder))
    moved = {"repo_id": "org/gpt", "files": {"README.md": b"new"}, "match": "*models/org/gpt*"}
    with (
        hub.fault("moved_branch", on="api", **moved),
        pytest.raises(CheckpointFormatError, match="moved to"),
    ):
        open_source("org/gpt", Reading(cache=True))
    with open_source("org/gpt", Reading(cache=True)) as source:
        assert_same(source, gpt2_tensors())


def test_what_the_cache_has_is_not_asked_for(hub: LoopbackHub, folder: Path) -> None:
    hub.add("org/gpt", files_of(folder))
    with open_source("org/gpt", Reading(cache=True)):
        pass
    hub.stats.reset()
    with open_source("org/gpt") as source:
        assert_same(source, gpt2_tensors())
        assert isinstance(source, HubSource)
    assert [request.path for request in hub.stats.requests] == ["/api/models/org/gpt"]


def test_offline_the_cache_alone_is_read(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"README.md": b"words", "consolidated.safetensors": b"", "onnx/model.onnx": b"0"}
    repo = hub.add("org/gpt", {**files_of(folder), **others})
    with open_source("org/gpt", Reading(cache=True)):
        pass
    hub.stats.reset()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for reading in (Reading(), Reading(cache=True), Reading(cache=True, verify=True)):
        with open_source("org/gpt", reading) as source:
            assert_same(source, gpt2_tensors())
            assert source.revision == repo.commit
    with pytest.raises(CheckpointNotFound, match="HF_HUB_OFFLINE"):
        open_source("org/other")
    assert hub.stats.requests == []


def test_only_the_bytes_that_are_needed(hub: LoopbackHub, tmp_path: Path) -> None:
    """At most 1.01 times what is selected, and 64 KiB for each shard's header."""
    folder = write_gpt2(tmp_path / "gpt2", layers=12, width=256, shards=2)
    hub.add("org/gpt", files_of(folder))
    with open_source("org/gpt", Reading(connections=3)) as source:
        selected = [info for name, info in source.index.items() if name.startswith(("h.3.", "h.7."))]
        source.read_all(selected)
        wanted = sum(info.nbytes for info in selected)
        received = hub.stats.bytes_sent("storage")
        assert source.received_bytes == received
        assert wanted <= received <= 1.01 * wanted + 2 * 65536
    assert wanted < 0.2 * sum(path.stat().st_size for path in folder.iterdir())


def test_a_header_longer_than_the_first_request(hub: LoopbackHub, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {
        f"a.long.name.of.a.tensor.{number:06d}": torch.full((1,), float(number)) for number in range(2000)
    }
    save_file(tensors, tmp_path / "model.safetensors")
    hub.add("org/many", {"model.safetensors": tmp_path / "model.safetensors"})
    with open_source("org/many") as source:
        assert_same(source, tensors)


def test_a_token_goes_to_the_hub_and_nowhere_else(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.add("org/gpt", files_of(folder), private=True, token="hf_secret")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with open_source("org/gpt") as source:
        assert_same(source, gpt2_tensors())
        assert "hf_secret" not in repr((source.files, source.notes, source.reference))
    sent = {request.origin: request.authorization for request in hub.stats.requests}
    assert sent == {"hub": "Bearer hf_secret", "storage": None}
    assert "hf_secret" not in "".join(capfd.readouterr())


def test_small_files_are_compared_with_the_listing(hub: LoopbackHub, folder: Path) -> None:
    hub.add("org/gpt", files_of(folder))
    with (
        hub.fault("corrupt", on="resolve", match="config.json"),
        pytest.raises(CheckpointFormatError, match="digest"),
    ):
        open_source("org/gpt")


@pytest.mark.parametrize(
    "shard", ["../secret", "/etc/passwd", "x/../../../../api/whoami-v2", "http://elsewhere/x"]
)
def test_an_index_leads_to_no_request_that_the_listing_does_not_contain(
    shard: str, hub: LoopbackHub, folder: Path
) -> None:
    index = json.dumps({"weight_map": {"wte.weight": shard}})
    hub.add("org/gpt", {**files_of(folder), "model.safetensors.index.json": index.encode()})
    with pytest.raises(CheckpointFormatError, match="shard"):
        open_source("org/gpt")
    known = ("/api/models/org/gpt", "/org/gpt/resolve/", "/api/resolve-cache/", "/api/agent")
    assert all(request.path.startswith(known) for request in hub.stats.requests)
    assert not any(".." in request.path or "passwd" in request.path for request in hub.stats.requests)


def test_a_pickle_is_not_streamed(hub: LoopbackHub, tmp_path: Path) -> None:
    torch.save(gpt2_tensors(), tmp_path / "pytorch_model.bin")
    hub.add("org/old", files_of(tmp_path))
    with pytest.raises(CheckpointFormatError, match="--cache --allow-pickle"):
        open_source("org/old")
    with open_source("org/old", Reading(cache=True, allow_pickle=True)) as source:
        assert set(source.index) == set(gpt2_tensors())


def test_what_cannot_be_verified_is_refused(hub: LoopbackHub, folder: Path) -> None:
    hub.add("org/gpt", files_of(folder))
    with pytest.raises(OptionError, match="--cache"):
        open_source("org/gpt", Reading(verify=True))
    with pytest.raises(CheckpointFormatError, match="SHA-256"):
        open_source(folder, Reading(verify=True))


def test_a_file_of_the_cache_that_was_changed_is_found_by_verifying(hub: LoopbackHub, folder: Path) -> None:
    hub.add("org/gpt", files_of(folder))
    with open_source("org/gpt", Reading(cache=True)) as source:
        assert {file.checked for file in source.files} == {"size"}
    for blob in (Path(constants.HF_HUB_CACHE) / "models--org--gpt" / "blobs").iterdir():
        if blob.stat().st_size > 3000:
            content = bytearray(blob.read_bytes())
            content[-1] ^= 1
            blob.write_bytes(content)
            break
    with open_source("org/gpt", Reading(cache=True)):
        pass
    with pytest.raises(CheckpointFormatError, match="another file"):
        open_source("org/gpt", Reading(cache=True, verify=True))


def test_a_closed_source_says_so(hub: LoopbackHub, folder: Path) -> None:
    hub.add("org/gpt", files_of(folder))
    source = open_source("org/gpt")
    source.close()
    with pytest.raises(WeightscopeError, match="closed"):
        source.read(next(iter(source.index.values())))


@pytest.mark.parametrize(
    ("reference", "reading", "words"),
    [
        ("org/gpt@main", Reading(revision="v1"), "names another"),
        ("org/gpt:a", Reading(subfolder="b"), "names another"),
        ("demo", Reading(revision="main"), "no repository"),
        ("demo", Reading(subfolder="x"), "no repository"),
    ],
)
def test_contradictions(reference: str, reading: Reading, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        open_source(reference, reading)


def test_files_that_xet_stores_are_streamed_over_https_all_the_same(hub: LoopbackHub, folder: Path) -> None:
    hub.add("org/gpt", files_of(folder), xet=True)
    with open_source("org/gpt") as source:
        assert_same(source, gpt2_tensors())
    assert not any("xet" in request.path for request in hub.stats.requests)


def test_a_folder_that_was_downloaded_to_can_be_verified(
    hub: LoopbackHub, folder: Path, tmp_path: Path
) -> None:
    """`hf download --local-dir` notes the digests; a file that is changed afterwards is found out."""
    hub.add("org/gpt", files_of(folder))
    local = Path(snapshot_download("org/gpt", local_dir=tmp_path / "local"))
    with open_source(local, Reading(verify=True)) as source:
        assert_same(source, gpt2_tensors())
        assert {file.checked for file in source.files} == {"digest"}
    shard = local / "model-00003-of-00003.safetensors"
    content, times = bytearray(shard.read_bytes()), shard.stat()
    content[-1] ^= 1
    shard.write_bytes(content)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(CheckpointFormatError, match="another file"):
        open_source(local, Reading(verify=True))
    os.utime(shard, (2e9, 2e9))
    with pytest.raises(CheckpointFormatError, match="Nothing here says"):
        open_source(local, Reading(verify=True))
