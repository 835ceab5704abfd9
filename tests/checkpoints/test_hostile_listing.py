"""A Hub that lies: an error of ours or a sound checkpoint, and no request or file beyond the listing."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.factories import write_gpt2
from tests.hub import api
from tests.hub.exchange import Exchange
from tests.hub.reply import Reply, json_reply
from tests.hub.repository import Repository
from tests.hub.server import LoopbackHub
from weightscope.checkpoints.reading import Reading
from weightscope.checkpoints.stream import open_source
from weightscope.errors import WeightscopeError

pytestmark = pytest.mark.usefixtures("hasty")
BOTH_WAYS = pytest.mark.parametrize("cache", [False, True], ids=["stream", "cache"])
Change = Callable[[dict[str, Any]], Any]


def of_siblings(change: Callable[[list[dict[str, Any]]], Any]) -> Change:
    def changed(info: dict[str, Any]) -> Any:
        result = change(info["siblings"])
        return {**info, "siblings": info["siblings"] if result is None else result}

    return changed


def field(name: str, value: Any) -> Change:
    """Of every file."""
    return of_siblings(lambda files: [{**file, name: value} for file in files])


def weights(name: str, value: Any) -> Change:
    return of_siblings(
        lambda files: [{**f, name: value} if f["rfilename"].endswith(".safetensors") else f for f in files]
    )


def named(*names: Any) -> Change:
    return of_siblings(
        lambda files: [*files, *({"rfilename": name, "size": 3, "blobId": "0" * 40} for name in names)]
    )


ODD = [None, True, -1, 1.5, 10**18, 10**30, "", "12", "x", [], [1], {}, {"a": 1}]
FIELDS: dict[str, Callable[[Any], Change]] = {
    "size": lambda odd: field("size", odd),
    "a name": lambda odd: of_siblings(lambda files: [*files, {"rfilename": odd, "size": 1}]),
    "every name": lambda odd: field("rfilename", odd),
    "lfs": lambda odd: field("lfs", odd),
    "sha256": lambda odd: weights("lfs", {"sha256": odd, "size": 3, "pointerSize": 3}),
    "blob": lambda odd: field("blobId", odd),
    "siblings": lambda odd: lambda info: {**info, "siblings": odd},
    "a file": lambda odd: of_siblings(lambda files: [*files, odd]),
    "commit": lambda odd: lambda info: {**info, "sha": odd},
    "all": lambda odd: lambda info: odd,
}
CHANGES: dict[str, Change] = {
    "no size": of_siblings(lambda files: [{"rfilename": f["rfilename"]} for f in files]),
    "no commit": lambda info: {k: v for k, v in info.items() if k != "sha"},
    "commit that climbs": lambda info: {**info, "sha": "../../../../etc"},
    "commit with a query": lambda info: {**info, "sha": "main?x=/../"},
    "another commit": lambda info: {**info, "sha": "f" * 40},
    "hostile names": named(
        "../x", "/etc/passwd", "a/../../x.safetensors", "", ".", "..", "C:\\x", "a\0b", "a\nb", "\x1b[2J",
        "//x/y", "x" * 100_000, "http://127.0.0.2/x", "a/b/../../../c/config.json", "é\u202e",
    ),
    "a hostile index": named("../model.safetensors.index.json", "/model.safetensors.index.json"),
    "every file twice": of_siblings(lambda files: files + files),
    "every file twice, another size": of_siblings(
        lambda files: files + [{**file, "size": 10**15} for file in files]
    ),
    "100,000 files": named(*(f"folder/{i}.txt" for i in range(100_000))),
    "100,000 weights": named(*(f"x{i}.safetensors" for i in range(100_000))),
}  # fmt: skip


@pytest.fixture
def lying(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Let the answer about a repository be changed."""
    honest = api._info

    def lie(change: Change) -> None:
        def answer(exchange: Exchange, repo: Repository, rest: list[str]) -> Reply:
            reply = honest(exchange, repo, rest)
            return json_reply(change(json.loads(bytes(reply.body.read(0, reply.body.size)))))

        monkeypatch.setitem(api._ENDPOINTS, "", answer)
        monkeypatch.setitem(api._ENDPOINTS, "revision", answer)

    return lie


def paths(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture
def files(hub: LoopbackHub, tmp_path: Path) -> dict[str, Path]:
    found = {path.name: path for path in write_gpt2(tmp_path / "gpt2", shards=2).iterdir()}
    hub.add("org/gpt", found)
    return found


def assert_known(hub: LoopbackHub, files: Mapping[str, Path], reading: Reading, folder: Path) -> str:
    """Read, or refused by an error of ours; the error."""
    refusal = ""
    try:
        with open_source("org/gpt", reading) as source:
            assert len(source.index) > 10
    except WeightscopeError as error:
        refusal = str(error)
    assert refusal.isprintable()
    assert len(refusal) < 1500
    for request in hub.stats.requests:
        if "/resolve/" in request.path:
            assert request.name in files, request.path
    allowed = [str(folder / name) for name in ("hub_cache", "gpt2")]
    written = [str(path) for path in folder.rglob("*") if not path.is_dir()]
    assert all(path.startswith(tuple(allowed)) for path in written)
    return refusal


@BOTH_WAYS
@pytest.mark.parametrize("change", FIELDS.values(), ids=FIELDS.keys())
def test_a_field_of_another_kind(
    change: Callable[[Any], Change],
    cache: bool,
    lying: Callable[[Change], None],
    hub: LoopbackHub,
    files: dict[str, Path],
    tmp_path: Path,
) -> None:
    for odd in ODD:
        lying(change(odd))
        assert_known(hub, files, Reading(cache=cache), tmp_path)


@BOTH_WAYS
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_listing_that_lies(
    change: Change,
    cache: bool,
    lying: Callable[[Change], None],
    hub: LoopbackHub,
    files: dict[str, Path],
    tmp_path: Path,
) -> None:
    lying(change)
    assert_known(hub, files, Reading(cache=cache), tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (field("size", None), "with None bytes"),
        (field("size", -1), "with -1 bytes"),
        (CHANGES["every file twice, another size"], "twice"),
        (CHANGES["commit that climbs"], "names the commit '../../../../etc'"),
        (CHANGES["no commit"], "names the commit ''"),
    ],
)
def test_what_is_wrong_is_said(
    change: Change,
    words: str,
    lying: Callable[[Change], None],
    hub: LoopbackHub,
    files: dict[str, Path],
    tmp_path: Path,
) -> None:
    lying(change)
    assert words in assert_known(hub, files, Reading(), tmp_path)
    assert not any("/resolve/" in request.path for request in hub.stats.requests)


def test_a_size_beyond_all_disks_takes_no_memory(
    lying: Callable[[Change], None], hub: LoopbackHub, files: dict[str, Path], tmp_path: Path
) -> None:
    lying(weights("size", 10**18))
    tracemalloc.start()
    refusal = assert_known(hub, files, Reading(), tmp_path)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refusal
    assert memory < 30_000_000


def test_an_empty_config(hub: LoopbackHub, files: dict[str, Path], tmp_path: Path) -> None:
    hub.add("org/gpt", {**files, "config.json": b""})
    assert "not JSON" in assert_known(hub, files, Reading(), tmp_path)
