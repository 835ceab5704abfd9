"""A model repository: commits, branches, tags, and what the API lists of it."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.hub.blob import Blob

Content = bytes | str | Path
_LFS_FROM = 10 << 20  # the Hub refuses larger files that are not LFS


@dataclass(frozen=True)
class Entry:
    """A file at a commit: its content, whether git holds only a pointer to it, and whether xet is offered."""

    name: str
    blob: Blob
    lfs: bool
    xet: bool = False

    @property
    def etag(self) -> str:
        """The ETag without quotes that the Hub itself gives: sha256 of an LFS file, else the git id."""
        return self.blob.sha256 if self.lfs else self.blob.git_id

    def listed(self) -> dict[str, Any]:
        """As the tree and paths-info endpoints list it."""
        entry: dict[str, Any] = {
            "type": "file",
            "oid": self.blob.git_id,
            "size": self.blob.size,
            "path": self.name,
        }
        if self.lfs:
            entry["oid"] = self.blob.pointer_id
            entry["lfs"] = {
                "oid": self.blob.sha256,
                "size": self.blob.size,
                "pointerSize": len(self.blob.pointer),
            }
        if self.xet:
            entry["xetHash"] = self.blob.xet_hash
        return entry

    def sibling(self, *, blobs: bool) -> dict[str, Any]:
        """As model_info lists it; size and digests only with `blobs`."""
        if not blobs:
            return {"rfilename": self.name}
        listed = self.listed()
        sibling = {"rfilename": self.name, "size": listed["size"], "blobId": listed["oid"]}
        if self.lfs:
            pointer_size = listed["lfs"]["pointerSize"]
            sibling["lfs"] = {"sha256": self.blob.sha256, "size": self.blob.size, "pointerSize": pointer_size}
        return sibling


@dataclass(frozen=True)
class Commit:
    """A state of all files, which never changes."""

    id: str
    files: Mapping[str, Entry]
    title: str
    parent: str | None
    date: str


class Repository:
    """One model repository.

    Args:
        repo_id: `org/name`, or `name` alone as old repositories have it.
        private: Only the holder of `token` sees that it exists.
        gated: `True` or `"auto"`, `"manual"`: listing and README are public, the other files are for `token`.
        disabled: Taken down: every answer is 403.
        token: Who may read it if it is private or gated; None is nobody.
        lfs: Globs of the files that are redirected to the storage; files over 10 MiB are in any case.
        xet: Offer the LFS files by xet as well.
        real_digests: False makes digests up: for files too large to hash.
    """

    def __init__(
        self,
        repo_id: str,
        *,
        private: bool = False,
        gated: bool | str = False,
        disabled: bool = False,
        token: str | None = None,
        lfs: Iterable[str] = ("*.safetensors", "*.bin"),
        xet: bool = False,
        real_digests: bool = True,
    ) -> None:
        self.id = repo_id
        self.private, self.disabled = private, disabled
        self.gated: bool | str = "auto" if gated is True else gated
        self.token = token
        self.commits: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.listing: list[str | dict[str, Any]] | None = None
        self._lfs, self._xet, self._real_digests = tuple(lfs), xet, real_digests

    @property
    def commit(self) -> str:
        """The 40 hex digits of the commit that branch `main` is at."""
        return self.branches["main"]

    def commit_files(
        self, files: Mapping[str, Content | None], branch: str = "main", title: str = "Upload"
    ) -> str:
        """A new commit on top of `branch`: files are added, replaced or (None) deleted. Returns its id.

        A branch that does not exist starts at `main`.
        """
        parent = self.branches.get(branch) or self.branches.get("main")
        entries = dict(self.commits[parent].files) if parent else {}
        for name, content in files.items():
            entries.pop(name, None)
            if content is not None:
                entries[name] = self._entry(name, content)
        listing = "".join(f"{name} {entry.listed()['oid']}\n" for name, entry in sorted(entries.items()))
        number = len(self.commits)
        key = f"{self.id} {parent} {number}\n{listing}".encode()
        commit_id = hashlib.sha1(key, usedforsecurity=False).hexdigest()
        date = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
        self.commits[commit_id] = Commit(
            commit_id, dict(sorted(entries.items())), title, parent, date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        )
        self.branches[branch] = commit_id
        return commit_id

    def _entry(self, name: str, content: Content) -> Entry:
        blob = Blob(content.encode() if isinstance(content, str) else content, real_digest=self._real_digests)
        lfs = blob.size > _LFS_FROM or any(fnmatchcase(name, glob) for glob in self._lfs)
        return Entry(name, blob, lfs, xet=self._xet and lfs)

    def tag(self, name: str, commit: str) -> None:
        """A tag at a commit."""
        self.tags[name] = self.commits[commit].id

    def branch(self, name: str, commit: str) -> None:
        """A branch at a commit; also `refs/pr/1`."""
        self.branches[name] = self.commits[commit].id

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag, `refs/heads/…`, a commit id or its first 7 digits or more."""
        for names in (self.branches, self.tags):
            if revision in names:
                return self.commits[names[revision]]
        for prefix, names in (("refs/heads/", self.branches), ("refs/tags/", self.tags)):
            if revision.removeprefix(prefix) in names and revision.startswith(prefix):
                return self.commits[names[revision.removeprefix(prefix)]]
        begun = [commit for commit in self.commits if commit.startswith(revision)]
        return self.commits[begun[0]] if len(revision) >= 7 and len(begun) == 1 else None

    def list_as(self, listing: Iterable[str | dict[str, Any]] | None) -> None:
        """Let the API list these names, whatever the files are: hostile ones too. None goes back.

        A dict is listed as it stands; a name of no file gets a size and an object id that are made up.
        """
        self.listing = None if listing is None else list(listing)

    def close(self) -> None:
        """Close the files on disk."""
        for commit in self.commits.values():
            for entry in commit.files.values():
                entry.blob.close()
