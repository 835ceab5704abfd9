"""The tree of a commit as the API lists it, page by page."""

import hashlib
from typing import Any
from urllib.parse import urlencode

from tests.hub.exchange import Exchange
from tests.hub.repository import Commit, Repository


def listed_files(repo: Repository, commit: Commit) -> list[dict[str, Any]]:
    """All files as tree entries; what `list_as` says instead, if it does."""
    if repo.listing is None:
        return [entry.listed() for entry in commit.files.values()]
    entries = []
    for item in repo.listing:
        if isinstance(item, dict):
            entries.append(item)
        elif item in commit.files:
            entries.append(commit.files[item].listed())
        else:
            entries.append({"type": "file", "oid": _made_up(item), "size": 16, "path": item})
    return entries


def _made_up(text: str) -> str:
    return hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def tree(
    repo: Repository, commit: Commit, folder: str, *, recursive: bool, expand: bool
) -> list[dict[str, Any]] | None:
    """Files and folders below `folder` ("" is the root), or None if there is no such folder."""
    files = listed_files(repo, commit)
    if repo.listing is not None:
        return files  # hostile names are not sorted into folders
    prefix = f"{folder}/" if folder else ""
    inside = [entry for entry in files if entry["path"].startswith(prefix)]
    if folder and not inside:
        return None
    folders: dict[str, dict[str, Any]] = {}
    shown: list[dict[str, Any]] = []
    for entry in inside:
        parents = entry["path"][len(prefix) :].split("/")[:-1]
        for depth in range(1, len(parents) + 1 if recursive else min(len(parents), 1) + 1):
            path = prefix + "/".join(parents[:depth])
            folders.setdefault(path, {"type": "directory", "oid": _made_up(path), "size": 0, "path": path})
        if recursive or not parents:
            shown.append(entry)
    entries = [*folders.values(), *shown]
    if expand:
        last = {"id": commit.id, "title": commit.title, "date": commit.date}
        entries = [{**entry, "lastCommit": last} for entry in entries]
    return entries


def page(exchange: Exchange, entries: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    """The page that the query's `cursor` and `limit` ask for, and the next one's address."""
    query = exchange.query
    size = min(int(query.get("limit", [str(exchange.state.page_size)])[-1]), exchange.state.page_size)
    first = int(query.get("cursor", ["0"])[-1])
    following = first + size
    if following >= len(entries):
        return entries[first:following], None
    fields = {**{name: values[-1] for name, values in query.items()}, "cursor": str(following)}
    origin = exchange.state.origins[exchange.request.origin]
    return entries[first:following], f"{origin}{exchange.request.path}?{urlencode(fields)}"
