"""Every refusal as huggingface_hub understands it, and as it is worded on the wire."""

import pytest
from huggingface_hub import HfApi, get_hf_file_metadata
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.conftest import CONFIG, WEIGHTS
from tests.hub.raw import fetch, resolve_url

FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "README.md": b"# read me"}


@pytest.fixture
def ask(hub):
    hub.add("org/private", files=FILES, private=True, token="hf_owner")
    hub.add("org/gated", files=FILES, gated="manual", token="hf_owner")
    hub.add("org/disabled", files=FILES, disabled=True)
    hub.add_user("hf_other")

    def run(repo_id, file=None, token=False, revision="main"):
        if file is None:
            return HfApi(endpoint=hub.endpoint, token=token).model_info(repo_id, revision=revision)
        return get_hf_file_metadata(resolve_url(hub, repo_id, file, revision), token=token)

    return run


@pytest.mark.parametrize("file", [None, "config.json", "model.safetensors"])
@pytest.mark.parametrize("repo_id", ["org/private", "org/missing"])
@pytest.mark.parametrize(("token", "status"), [(False, 401), ("hf_other", 404)])
def test_private_looks_like_missing(ask, repo_id, file, token, status):
    with pytest.raises(RepositoryNotFoundError) as caught:
        ask(repo_id, file, token)
    assert caught.value.response.status_code == status
    assert caught.value.response.headers["X-Error-Code"] == "RepoNotFound"


def test_the_owner_may_read(ask):
    assert ask("org/private", token="hf_owner").private
    assert ask("org/private", "config.json", token="hf_owner").size == len(CONFIG)
    assert ask("org/gated", "model.safetensors", token="hf_owner").size == len(WEIGHTS)


@pytest.mark.parametrize(("token", "status"), [(False, 401), ("hf_other", 403)])
def test_gated_shows_its_listing_and_no_weights(ask, hub, token, status):
    assert ask("org/gated", token=token).gated == "manual"
    assert ask("org/gated", "README.md", token=token).size == 9
    assert "model.safetensors" in HfApi(endpoint=hub.endpoint, token=token).list_repo_files("org/gated")
    with pytest.raises(GatedRepoError) as caught:
        ask("org/gated", "model.safetensors", token)
    assert caught.value.response.status_code == status
    with pytest.raises(GatedRepoError):
        HfApi(endpoint=hub.endpoint, token=token).auth_check("org/gated")


@pytest.mark.parametrize("file", [None, "config.json"])
def test_disabled(ask, file):
    with pytest.raises(DisabledRepoError):
        ask("org/disabled", file)


@pytest.mark.parametrize("file", [None, "config.json"])
def test_no_such_revision(ask, file):
    with pytest.raises(RevisionNotFoundError):
        ask("org/name", file, revision="refs/pr/9")


def test_no_such_file_and_no_such_folder(ask, api, hub):
    with pytest.raises(EntryNotFoundError) as caught:
        ask("org/name", "nothing.json")
    assert caught.value.response.headers["X-Repo-Commit"] == hub.state.repositories["org/name"].commit
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree("org/name", "nothing"))


@pytest.mark.parametrize("file", [None, "config.json"])
@pytest.mark.parametrize("repo_id", ["org/name", "org/missing", "org/gated"])
def test_a_wrong_token_is_refused_even_where_none_is_needed(ask, repo_id, file):
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as caught:
        ask(repo_id, file, token="hf_wrong")
    assert caught.value.response.status_code == 401
    assert not isinstance(caught.value, RepositoryNotFoundError)


def test_a_resolve_address_that_climbs_is_taken_literally(hub):
    answer = fetch(hub.endpoint + "/org/name/resolve/main/../../../etc/passwd")
    assert (answer.status, answer.headers["x-error-code"]) == (404, "EntryNotFound")
    assert hub.stats.requests[-1].path == "/org/name/resolve/main/../../../etc/passwd"
