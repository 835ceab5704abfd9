"""Data sets of the Hub through its cache, over real sockets and through the real huggingface_hub."""

import os
from pathlib import Path

import huggingface_hub.constants as constants
import pytest
from huggingface_hub import snapshot_download

from tests.training.sets import pictures, write_parquet
from weightscope.checkpoints import hub as hub_module
from weightscope.checkpoints.hub import dataset_files
from weightscope.errors import AccessDenied, DataFormatError, DataNotFound, OptionError, TransferError
from weightscope.training.images import load_images

IMAGES, LABELS = pictures(20)
SHARDS = ("mnist/train-00000-of-00002.parquet", "mnist/train-00001-of-00002.parquet")
TEST = "mnist/test-00000-of-00001.parquet"


@pytest.fixture
def files(tmp_path):
    parts = {SHARDS[0]: slice(0, 8), SHARDS[1]: slice(8, 20), TEST: slice(0, 5)}
    paths = {
        name: write_parquet(tmp_path / "on_the_hub" / name, IMAGES[part], LABELS[part])
        for name, part in parts.items()
    }
    return {**paths, "README.md": b"# MNIST", "train-notes.txt": b"no"}


@pytest.fixture
def repo(hub, files):
    return hub.add("datasets/ylecun/mnist", files, lfs=["*.parquet"])


@pytest.fixture(autouse=True)
def _hasty(hasty, monkeypatch):
    monkeypatch.setattr(hub_module, "default_patience", lambda: hasty)


def test_only_the_files_of_the_split_are_fetched(hub, repo, files):
    folder = dataset_files("ylecun/mnist", ["*/train-*.parquet"])
    assert folder.name == repo.commit
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")} == set(SHARDS)
    assert (folder / SHARDS[0]).read_bytes() == files[SHARDS[0]].read_bytes()
    assert not (folder / "README.md").exists()
    hub.stats.reset()
    assert dataset_files("ylecun/mnist", ["*/train-*.parquet"]) == folder
    assert hub.stats.bytes_sent("storage") == 0


def test_images_of_the_hub_name_commit_and_digests(repo, files):
    found = load_images("mnist")
    assert (found.images.numpy() == IMAGES).all()
    assert found.source.reference == "ylecun/mnist"
    assert found.source.revision == repo.commit
    assert [file.name for file in found.source.files] == list(SHARDS)
    blobs = repo.commits[repo.commit].files
    assert [file.sha256 for file in found.source.files] == [blobs[name].blob.sha256 for name in SHARDS]
    assert len(load_images("mnist", split="test")) == 5


def test_a_revision(hub, repo, files):
    old = repo.commit
    repo.tag("v1", old)
    new = repo.commit_files(
        {SHARDS[1]: None, SHARDS[0]: None, "mnist/train-00000-of-00001.parquet": files[TEST]}
    )
    assert len(load_images("mnist")) == 5
    for revision in ("v1", old):
        found = load_images("mnist", revision=revision)
        assert (len(found), found.source.revision) == (20, old)
    assert load_images("mnist", revision="main").source.revision == new
    with pytest.raises(DataNotFound, match="no such branch"):
        load_images("mnist", revision="v9")


def test_what_is_not_there(hub, repo):
    with pytest.raises(DataNotFound, match=r"has none; it has README\.md, mnist/test"):
        load_images("mnist", split="validation")
    with pytest.raises(DataNotFound, match=r"no such repository.*--data-dir"):
        load_images("cifar10")
    with pytest.raises(OptionError):
        load_images("mnist", split="*")


def test_a_model_of_that_name_is_another_repository(hub, repo):
    hub.add("uoft-cs/cifar10", {"config.json": b"{}"})
    with pytest.raises(DataNotFound, match="no such repository"):
        load_images("cifar10")


def test_gated(hub, files):
    hub.add("datasets/ylecun/mnist", files, gated=True, token="hf_owner")
    with pytest.raises(AccessDenied, match="gated"):
        load_images("mnist")


def test_offline(hub, repo, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataNotFound, match=r"cache does not have.*--data-dir"):
        load_images("mnist")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    online = load_images("mnist")
    hub.stats.reset()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_images("mnist").source == online.source
    assert hub.stats.requests == []
    with pytest.raises(DataNotFound, match="test"):
        load_images("mnist", split="test")


def test_without_a_network(hub, repo):
    online = load_images("mnist")
    with hub.fault("status", times=None, on="any", code=503):
        assert load_images("mnist").source == online.source
        with pytest.raises(TransferError, match=r"503.*--data-dir"):
            load_images("fashion_mnist")
    hub.close()
    assert load_images("mnist").source == online.source
    with pytest.raises(TransferError, match="could not be reached"):
        load_images("fashion_mnist")


def test_a_cached_file_that_was_changed(repo):
    load_images("mnist")
    folder = dataset_files("ylecun/mnist", ["*/train-*.parquet"])
    blob = (folder / SHARDS[0]).resolve()
    content = bytearray(blob.read_bytes())
    content[100] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    with pytest.raises(DataFormatError, match="SHA-256 is not the one"):
        load_images("mnist")


def test_a_folder_that_was_downloaded_to(repo, tmp_path):
    """`hf download --local-dir` keeps the repository's folders, and notes the digests."""
    local = Path(snapshot_download("ylecun/mnist", repo_type="dataset", local_dir=tmp_path / "local"))
    for found in (load_images("mnist", data_dir=local), load_images(local)):
        assert (found.images.numpy() == IMAGES).all()
        assert found.source.revision == ""
    shard = local / SHARDS[1]
    content, times = bytearray(shard.read_bytes()), shard.stat()
    content[100] ^= 1
    shard.write_bytes(content)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(DataFormatError, match="SHA-256 is not the one"):
        load_images("mnist", data_dir=local)
