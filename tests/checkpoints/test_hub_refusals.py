"""What the Hub, the network or the settings refuse: an error of ours that says which, and no token in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub.constants as constants
import pytest

from tests.factories import write_gpt2
from tests.hub.server import LoopbackHub
from weightscope.checkpoints.reading import Reading
from weightscope.checkpoints.stream import open_source
from weightscope.errors import AccessDenied, CheckpointNotFound, TransferError, WeightscopeError

pytestmark = pytest.mark.usefixtures("hasty")
TOKEN = "hf_a_secret_token"


def refusal(reference: str, kind: type[WeightscopeError], reading: Reading = Reading()) -> WeightscopeError:  # noqa: B008
    with pytest.raises(kind) as caught:
        open_source(reference, reading)
    for sentence in (caught.value.asked, caught.value.found, caught.value.advice):
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert TOKEN not in sentence
    return caught.value


@pytest.fixture
def files(tmp_path: Path) -> Mapping[str, Path]:
    return {path.name: path for path in write_gpt2(tmp_path / "gpt2").iterdir()}


@pytest.fixture(params=[None, TOKEN], ids=["anonymous", "logged in"])
def login(request: pytest.FixtureRequest, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """With and without a token that is good but opens nothing."""
    if request.param:
        hub.add_user(request.param)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
        monkeypatch.setenv("HF_TOKEN", request.param)
    found: str | None = request.param
    return found


BOTH_WAYS = pytest.mark.parametrize("cache", [False, True], ids=["stream", "cache"])


@BOTH_WAYS
@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"gated": True, "token": "hf_owner"}, AccessDenied, "gated"),
        ({"private": True, "token": "hf_owner"}, CheckpointNotFound, "private"),
        ({"disabled": True}, AccessDenied, "disabled"),
    ],
    ids=["gated", "private", "disabled"],
)
@pytest.mark.usefixtures("login")
def test_closed_repositories(
    cache: bool,
    options: dict[str, Any],
    kind: type[WeightscopeError],
    words: str,
    hub: LoopbackHub,
    files: Mapping[str, Path],
) -> None:
    hub.add("org/closed", files, **options)
    error = refusal("org/closed", kind, Reading(cache=cache))
    assert words in error.found
    assert "org/closed" in error.asked


@BOTH_WAYS
@pytest.mark.usefixtures("login")
def test_a_repository_that_is_not_there(cache: bool, hub: LoopbackHub) -> None:
    error = refusal("org/none", CheckpointNotFound, Reading(cache=cache))
    assert "no such repository" in error.found


@BOTH_WAYS
def test_a_revision_that_is_not_there(cache: bool, hub: LoopbackHub, files: Mapping[str, Path]) -> None:
    hub.add("org/gpt", files)
    error = refusal("org/gpt@v9", CheckpointNotFound, Reading(cache=cache))
    assert "'v9'" in error.asked
    assert "no such branch" in error.found


@BOTH_WAYS
@pytest.mark.parametrize("subfolder", ["none", "../x", "/etc", "model.safetensors/x"])
def test_a_subfolder_that_is_not_there(
    cache: bool, subfolder: str, hub: LoopbackHub, files: Mapping[str, Path]
) -> None:
    hub.add("org/gpt", files)
    error = refusal("org/gpt", CheckpointNotFound, Reading(cache=cache, subfolder=subfolder))
    assert "no such folder" in error.found
    assert not any("resolve" in request.path for request in hub.stats.requests)


def test_a_wrong_token(hub: LoopbackHub, files: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/gpt", files)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "does not accept the token" in refusal("org/gpt", AccessDenied).found


def test_a_repository_without_weights(hub: LoopbackHub) -> None:
    hub.add("org/words", {"README.md": "words"})
    error = refusal("org/words", CheckpointNotFound)
    assert "README.md" in error.found
    assert "'org/words'" in error.asked


def test_weights_of_another_folder_are_named(hub: LoopbackHub, files: Mapping[str, Path]) -> None:
    hub.add("org/nested", {f"weights/{name}": path for name, path in files.items()})
    assert "weights" in refusal("org/nested", CheckpointNotFound).found


def test_a_name_that_no_repository_can_have(hub: LoopbackHub) -> None:
    assert "no name" in refusal("hf://a--b/c..d", CheckpointNotFound).found


def test_no_server_there(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    error = refusal("org/gpt", TransferError)
    assert "could not be reached" in error.found
    assert "6 tries" in error.found


def test_a_name_that_nobody_knows(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    assert "not known here" in refusal("org/gpt", TransferError).found


def test_without_a_network_the_cache_serves(
    hub: LoopbackHub, files: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/gpt", files)
    with open_source("org/gpt", Reading(cache=True)) as source:
        revision = source.revision
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with open_source("org/gpt", Reading(cache=True)) as source:
        assert source.revision == revision
        assert "could not be reached" in " ".join(source.notes)


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("reset", {"on": "api"}),
        ("reset", {}),
        ("status", {"code": 403}),
        ("status", {"code": 500, "on": "resolve"}),
        ("html", {"status": 206, "content_range": True}),
        ("redirect", {"to": "loop"}),
    ],
)
def test_the_token_is_in_no_error(
    fault: str,
    options: dict[str, Any],
    hub: LoopbackHub,
    files: Mapping[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hub.add("org/gpt", files, private=True, token=TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub.fault(fault, times=None, **options):
        refusal("org/gpt", WeightscopeError)
    assert {r.authorization for r in hub.stats.requests if r.origin != "hub"} <= {None}
    assert TOKEN not in "".join(capfd.readouterr())


def test_a_redirect_to_another_host_takes_no_token_along(
    hub: LoopbackHub, files: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/gpt", files, private=True, token=TOKEN, lfs=())
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub.fault("redirect", times=None, on="resolve", to="foreign", method="GET") as fault:
        with pytest.raises(WeightscopeError):
            open_source("org/gpt")
        assert fault.fired
    foreign = [request for request in hub.stats.requests if request.origin == "foreign"]
    assert foreign
    assert all(request.authorization is None for request in foreign)
