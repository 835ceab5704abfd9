"""/{repo}/resolve/{revision}/{file}: where a file's bytes are."""

from urllib.parse import quote, unquote

from tests.hub.access import find, find_commit
from tests.hub.exchange import Exchange
from tests.hub.ranges import serve
from tests.hub.reply import Reply, redirect, refusal
from tests.hub.repository import Commit, Entry, Repository

_CACHE = "api/resolve-cache/"


def split_resolve(path: str) -> tuple[list[str], str, str] | None:
    """The repository's parts, the revision and the file (raw, as in the path); None for other addresses."""
    cached = path.lstrip("/").startswith(_CACHE)
    parts = path.lstrip("/").removeprefix(_CACHE).split("/")
    if cached:  # models/org/name, datasets/org/name
        end = 3 if parts[0] == "datasets" else 2
        if parts[0] == "models":
            parts = parts[1:]
        return (parts[:end], parts[end], "/".join(parts[end + 1 :])) if len(parts) > end + 1 else None
    for length in (3,) if parts[0] == "datasets" else (2, 1):
        if len(parts) > length + 2 and parts[length] == "resolve":
            return parts[:length], parts[length + 1], "/".join(parts[length + 2 :])
    return None


def answer(exchange: Exchange) -> Reply:
    """Small files move on to the resolve cache of this origin, LFS files to a signed one of the storage."""
    request, state = exchange.request, exchange.state
    split = split_resolve(request.path)
    if split is None or request.method not in ("GET", "HEAD"):
        return refusal(404, "Sorry, we can't find the page you are looking for.")
    raw_id, raw_revision, raw_file = split
    repo_id, revision, file = (unquote("/".join(raw_id)), unquote(raw_revision), unquote(raw_file))
    if repo_id in state.renamed:
        query = f"?{request.query}" if request.query else ""
        return redirect(f"/{state.renamed[repo_id]}/resolve/{raw_revision}/{raw_file}{query}", 307)
    repo = find(exchange, repo_id, file)
    if isinstance(repo, Reply):
        return repo
    commit = find_commit(repo, revision)
    if isinstance(commit, Reply):
        return commit
    entry = commit.files.get(file)
    if entry is None:
        return refusal(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit.id)
    if entry.lfs:
        return _to_storage(exchange, repo, commit, entry)
    if request.path.lstrip("/").startswith(_CACHE):
        etag = exchange.etag or f'"{entry.etag}"'
        return serve(
            entry.blob, etag, request.headers, X_Repo_Commit=commit.id, Cache_Control="max-age=31536000"
        )
    place = f"{_CACHE}{_kind(repo)}/{commit.id}/{quote(file)}"
    location = f"/{place}?etag={quote(chr(34) + entry.etag + chr(34))}"
    return redirect(location, 307, X_Repo_Commit=commit.id)


def _kind(repo: Repository) -> str:
    """The repository with its kind, as paths of the API have it."""
    return repo.id if repo.id.startswith("datasets/") else f"models/{repo.id}"


def _to_storage(exchange: Exchange, repo: Repository, commit: Commit, entry: Entry) -> Reply:
    state = exchange.state
    path = f"/repos/{entry.blob.sha256[:2]}/{quote(repo.id, safe='')}/{entry.blob.sha256}"
    state.stored.setdefault(path, entry)
    reply = redirect(f"{state.origins['storage']}{state.signer.sign(path, entry.name)}", 302)
    reply.headers |= {
        "X-Repo-Commit": commit.id,
        "X-Linked-Size": str(entry.blob.size),
        "X-Linked-Etag": exchange.etag or f'"{entry.etag}"',
        "Accept-Ranges": "bytes",
    }
    if entry.xet:
        token_url = f"{state.origins['hub']}/api/{_kind(repo)}/xet-read-token/{commit.id}"
        reply.headers["X-Xet-Hash"] = entry.blob.xet_hash
        reply.headers["Link"] = f'<{token_url}>; rel="xet-auth"'
    return reply
