"""The API, asked by huggingface_hub itself."""

import threading
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile, RepoFolder

from tests.hub.conftest import CONFIG, WEIGHTS
from tests.hub.server import LoopbackHub


def test_model_info_with_sizes_and_digests(hub, api):
    info = api.model_info("org/name", files_metadata=True, timeout=5)
    assert info.sha == hub.state.repositories["org/name"].commit
    assert not info.private
    assert not info.gated
    files = {file.rfilename: file for file in info.siblings}
    assert files["config.json"].size == len(CONFIG)
    assert files["config.json"].lfs is None
    weights = files["model.safetensors"]
    assert (weights.size, weights.lfs.size) == (len(WEIGHTS), len(WEIGHTS))
    assert weights.blob_id != weights.lfs.sha256


def test_expand_gives_only_what_was_asked(api):
    info = api.model_info("org/name", expand=["sha", "gated"])
    assert len(info.sha) == 40
    assert info.siblings is None
    with pytest.raises(HfHubHTTPError, match="Bad request"):
        api.model_info("org/name", expand=["nonsense"])


def test_tree_with_folders_and_pages(hub, api):
    files = {"a/b/c.txt": b"1", "a/d.txt": b"2", "e.txt": b"3"}
    hub.add("org/deep", files=files)
    top = list(api.list_repo_tree("org/deep"))
    assert [(type(entry), entry.path) for entry in top] == [(RepoFolder, "a"), (RepoFile, "e.txt")]
    assert [entry.path for entry in api.list_repo_tree("org/deep", "a")] == ["a/b", "a/d.txt"]
    whole = [entry.path for entry in api.list_repo_tree("org/deep", recursive=True)]
    hub.stats.reset()
    hub.state.page_size = 2
    assert [entry.path for entry in api.list_repo_tree("org/deep", recursive=True, expand=True)] == whole
    assert len(hub.stats.requests) == 3
    assert api.list_repo_files("org/deep") == sorted(files)


def test_paths_info_leaves_unknown_paths_out(api):
    (entry,) = api.get_paths_info("org/name", ["config.json", "nothing"])
    assert (entry.path, entry.size) == ("config.json", len(CONFIG))


def test_a_commit_moves_the_branch_and_the_old_one_stays(hub, api):
    repo = hub.state.repositories["org/name"]
    first = repo.commit
    second = repo.commit_files({"config.json": b"{}", "new/file.txt": b"new"})
    repo.tag("v1", first)
    repo.branch("refs/pr/1", first)
    assert api.model_info("org/name").sha == second != first
    for revision in (first, "v1", "refs/pr/1", first[:9]):
        assert api.model_info("org/name", revision=revision).sha == first
        assert "new/file.txt" not in api.list_repo_files("org/name", revision=revision)
    assert "new/file.txt" in api.list_repo_files("org/name")
    repo.commit_files({"config.json": None}, branch="other")
    assert api.list_repo_files("org/name", revision="other") == ["model.safetensors", "new/file.txt"]
    assert [one.commit_id for one in api.list_repo_commits("org/name")] == [second, first]
    assert [tag.target_commit for tag in api.list_repo_refs("org/name").tags] == [first]


@pytest.mark.skipif(not hasattr(HfApi, "resolve_revision"), reason="newer than this huggingface_hub")
def test_resolve_revision(hub, api, tmp_path):
    repo = hub.state.repositories["org/name"]
    assert api.resolve_revision("org/name", cache_dir=tmp_path).resolved == repo.commit
    with pytest.raises(RevisionNotFoundError):
        api.resolve_revision("org/name", revision="v9", cache_dir=tmp_path)


def test_a_listing_may_lie(hub, api):
    repo = hub.state.repositories["org/name"]
    hostile = ["../x", "/etc/passwd", "a\\..\\b", "model.safetensors"]
    repo.list_as([*hostile, {"type": "file", "path": "huge", "size": 1 << 70, "oid": "0"}])
    assert api.list_repo_files("org/name") == [*hostile, "huge"]
    assert [file.rfilename for file in api.model_info("org/name").siblings] == [*hostile, "huge"]
    repo.list_as(None)
    assert api.list_repo_files("org/name") == ["config.json", "model.safetensors"]


def test_a_renamed_and_an_old_style_repository(hub, api):
    hub.rename("org/name", "org/new")
    assert api.model_info("org/name").id == "org/new"
    hub.add("gpt2", files={"config.json": CONFIG})
    assert api.model_info("gpt2").id == "gpt2"
    assert api.list_repo_files("gpt2") == ["config.json"]


def test_whoami_knows_the_tokens(hub):
    hub.add_user("hf_good", "ada")
    assert HfApi(endpoint=hub.endpoint, token="hf_good").whoami()["name"] == "ada"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=hub.endpoint, token="hf_bad").whoami()
    assert hub.stats.requests[-1].headers["authorization"] == "Bearer hf_bad"


def test_the_servers_stop_and_say_nothing(capfd):
    with LoopbackHub() as hub:
        hub.add("org/name", files={"config.json": CONFIG})
        HfApi(endpoint=hub.endpoint, token=False).model_info("org/name")
        endpoint = hub.endpoint
        during = threading.active_count()
    deadline = time.monotonic() + 5
    while threading.active_count() > during - 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= during - 4  # three origins and a connection
    with pytest.raises(Exception, match=r"[Cc]onnect"):
        HfApi(endpoint=endpoint, token=False).model_info("org/name")
    assert capfd.readouterr() == ("", "")


def test_data_sets_are_repositories_of_their_own(hub, api, tmp_path):
    repo = hub.add(
        "datasets/org/name", files={"a/b.parquet": b"data", "README.md": b"read"}, lfs=["*.parquet"]
    )
    info = api.dataset_info("org/name", files_metadata=True)
    assert (info.id, info.sha) == ("org/name", repo.commit)
    assert {file.rfilename: file.size for file in info.siblings} == {"a/b.parquet": 4, "README.md": 4}
    assert api.model_info("org/name").sha != repo.commit
    for name, content in (("a/b.parquet", b"data"), ("README.md", b"read")):
        path = api.hf_hub_download("org/name", name, repo_type="dataset", cache_dir=tmp_path)
        assert Path(path).read_bytes() == content
    hub.rename("datasets/org/name", "datasets/org/new")
    assert api.dataset_info("org/name").id == "org/new"
