"""/api/…: what the Hub tells of its models and data sets."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from tests.hub.access import WRONG_TOKEN, find, find_commit
from tests.hub.exchange import Exchange
from tests.hub.headers import safetensors_headers, safetensors_summary
from tests.hub.listing import listed_files, page, tree
from tests.hub.reply import Reply, json_reply, redirect, refusal
from tests.hub.repository import Commit, Repository

_NOT_FOUND = "Sorry, we can't find the page you are looking for."


def answer(exchange: Exchange) -> Reply:
    """Find the endpoint, the repository and the commit; refuse or answer."""
    segments = exchange.segments
    if segments[:2] == ["api", "whoami-v2"]:
        return _whoami(exchange)
    if segments[0] != "api" or segments[1] not in ("models", "datasets") or len(segments) < 3:
        return refusal(404, _NOT_FOUND)
    # `name` alone is a repository too, the oldest ones: then its endpoint follows at once.
    length = 1 if len(segments) == 3 or segments[3] in _ENDPOINTS else 2
    repo_id, rest = "/".join(segments[2 : 2 + length]), segments[2 + length :]
    if segments[1] == "datasets":
        repo_id = f"datasets/{repo_id}"
    if repo_id in exchange.state.renamed:
        return _moved(exchange, repo_id)
    endpoint = _ENDPOINTS.get(rest[0] if rest else "")
    if endpoint is None:
        return refusal(404, _NOT_FOUND)
    # The listing of a gated repository is public; whether its files are readable, auth-check tells.
    repo = find(exchange, repo_id, "any file" if rest[:1] in (["auth-check"], ["xet-read-token"]) else None)
    return repo if isinstance(repo, Reply) else endpoint(exchange, repo, rest[1:])


def _moved(exchange: Exchange, repo_id: str) -> Reply:
    new = exchange.request.path.replace(f"/{repo_id}", f"/{exchange.state.renamed[repo_id]}", 1)
    return redirect(f"{new}?{exchange.request.query}" if exchange.request.query else new, 307)


def _whoami(exchange: Exchange) -> Reply:
    name = exchange.state.users.get(exchange.token or "")
    if name is None:
        return refusal(401, WRONG_TOKEN if exchange.token else "Invalid username or password.")
    access = {"displayName": "test", "role": "read", "createdAt": "2026-01-01T00:00:00.000Z"}
    auth = {"type": "access_token", "accessToken": access}
    return json_reply({"type": "user", "id": "0" * 24, "name": name, "orgs": [], "auth": auth})


def _info(exchange: Exchange, repo: Repository, rest: list[str]) -> Reply:
    commit = find_commit(repo, rest[0] if rest else "main")
    if isinstance(commit, Reply):
        return commit
    fields: dict[str, Callable[[], Any]] = {
        "author": lambda: repo.id.rpartition("/")[0],
        "sha": lambda: commit.id,
        "lastModified": lambda: commit.date,
        "createdAt": lambda: "2026-01-01T00:00:00.000Z",
        "private": lambda: repo.private,
        "gated": lambda: repo.gated,
        "disabled": lambda: repo.disabled,
        "downloads": lambda: 0,
        "likes": lambda: 0,
        "tags": lambda: ["safetensors"],
        "library_name": lambda: "transformers",
        "config": lambda: _config(commit),
        "safetensors": lambda: safetensors_summary(commit),
        "siblings": lambda: [
            _sibling(commit, item, exchange.flag("blobs")) for item in listed_files(repo, commit)
        ],
        "usedStorage": lambda: sum(entry.blob.size for entry in commit.files.values()),
    }
    chosen = exchange.query.get("expand") or [name for name in fields if name != "usedStorage"]
    unknown = [name for name in chosen if name not in fields]
    if unknown:
        return refusal(400, f"Invalid value for expand: {unknown[0]}")
    info = {name: fields[name]() for name in chosen}
    repo_id = repo.id.removeprefix("datasets/")
    identity = {"id": repo_id} if repo_id != repo.id else {"id": repo_id, "modelId": repo_id}
    return json_reply({"_id": "0" * 24, **identity, **info})


def _sibling(commit: Commit, item: dict[str, Any], blobs: bool) -> dict[str, Any]:
    entry = commit.files.get(item["path"])
    if entry is not None:
        return entry.sibling(blobs=blobs)
    sizes = {"size": item.get("size"), "blobId": item.get("oid")} if blobs else {}
    return {"rfilename": item["path"], **sizes}


def _config(commit: Commit) -> dict[str, Any]:
    """The part of config.json that the Hub repeats."""
    entry = commit.files.get("config.json")
    try:
        config = json.loads(bytes(entry.blob.read(0, entry.blob.size))) if entry else {}
    except ValueError:
        config = {}
    names = ("architectures", "model_type", "quantization_config")
    return {name: config[name] for name in names if isinstance(config, dict) and name in config}


def _tree(exchange: Exchange, repo: Repository, rest: list[str]) -> Reply:
    commit = find_commit(repo, rest[0] if rest else "main")
    if isinstance(commit, Reply):
        return commit
    folder = "/".join(rest[1:]).strip("/")
    entries = tree(repo, commit, folder, recursive=exchange.flag("recursive"), expand=exchange.flag("expand"))
    if entries is None:
        message = f"{folder} does not exist on {rest[0]!r}"
        return refusal(404, message, "EntryNotFound", X_Repo_Commit=commit.id)
    shown, following = page(exchange, entries)
    reply = json_reply(shown)
    if following:
        reply.headers["Link"] = f'<{following}>; rel="next"'
    return reply


def _paths_info(exchange: Exchange, repo: Repository, rest: list[str]) -> Reply:
    commit = find_commit(repo, rest[0] if rest else "main")
    if isinstance(commit, Reply):
        return commit
    if exchange.request.headers.get("content-type", "").startswith("application/json"):
        wanted = json.loads(exchange.body)["paths"]
    else:
        wanted = parse_qs(exchange.body.decode()).get("paths", [])
    entries = tree(repo, commit, "", recursive=True, expand=False) or []
    by_path = {entry["path"]: entry for entry in entries}
    return json_reply([by_path[path] for path in wanted if path in by_path])


def _refs(exchange: Exchange, repo: Repository, rest: list[str]) -> Reply:
    def refs(names: dict[str, str], kind: str) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}
            for name, commit in names.items()
        ]

    return json_reply(
        {"branches": refs(repo.branches, "heads"), "converts": [], "tags": refs(repo.tags, "tags")}
    )


def _commits(exchange: Exchange, repo: Repository, rest: list[str]) -> Reply:
    commit = find_commit(repo, rest[0] if rest else "main")
    if isinstance(commit, Reply):
        return commit
    history = [commit]
    while history[-1].parent:
        history.append(repo.commits[history[-1].parent])
    return json_reply(
        [
            {"id": one.id, "title": one.title, "message": "", "authors": [], "date": one.date}
            for one in history
        ]
    )


def _auth_check(exchange: Exchange, repo: Repository, rest: list[str]) -> Reply:
    return Reply(200, {"Content-Type": "text/plain"})


def _xet_token(exchange: Exchange, repo: Repository, rest: list[str]) -> Reply:
    cas = f"{exchange.state.origins['storage']}/xet-cas"
    headers = {"X_Xet_Cas_Url": cas, "X_Xet_Access_Token": "xet", "X_Xet_Token_Expiration": "4102444800"}
    token = {"casUrl": cas, "accessToken": "xet", "exp": 4102444800}
    return json_reply(token, 200, **headers)


def _safetensors(exchange: Exchange, repo: Repository, rest: list[str]) -> Reply:
    commit = repo.commits[repo.commit]
    content = safetensors_headers(commit, "/".join(rest))
    return refusal(404, "Entry not found", "EntryNotFound") if content is None else json_reply(content)


_ENDPOINTS: dict[str, Callable[[Exchange, Repository, list[str]], Reply]] = {
    "": _info,
    "revision": _info,
    "tree": _tree,
    "paths-info": _paths_info,
    "refs": _refs,
    "commits": _commits,
    "auth-check": _auth_check,
    "xet-read-token": _xet_token,
    "safetensors-metadata": _safetensors,
}
