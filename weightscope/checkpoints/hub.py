"""One commit of a repository on the Hub. The only file that knows huggingface_hub.

Its public functions resolve revisions, name files, find tokens and signed addresses, and keep the cache; the
bytes of weights go another way (`download.py`). Endpoint, token, cache and offline mode are those that its
environment variables set.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from re import fullmatch
from reprlib import repr as brief
from threading import Event, Lock
from typing import Any, TypeVar

from huggingface_hub import (
    DatasetInfo,
    HfApi,
    ModelInfo,
    constants,
    get_hf_file_metadata,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from weightscope.checkpoints.hub_errors import as_ours, is_passing, is_unknown_name, seconds_asked_by
from weightscope.checkpoints.patience import Patience
from weightscope.checkpoints.remote import Address, RemoteFile, changed
from weightscope.checkpoints.transport import check_redirect, origin
from weightscope.errors import (
    CheckpointFormatError,
    CheckpointNotFound,
    DataNotFound,
    TransferError,
    WeightscopeError,
)

_LIBRARY = "weightscope"
# A pattern that fits no file. Without one a snapshot that lacks a README counts as incomplete; whether it has
# the files that are needed is seen when they are opened.
_NONE = ("/",)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubEntry:
    """A file of a repository, as its listing says."""

    path: str
    """Its name, folders and all."""
    size: int
    """Bytes."""
    blob: str
    """SHA-1 of the git object: of the file itself where it is small, of a pointer where it is large."""
    sha256: str = ""
    """Of the file; empty where it is small."""

    @property
    def etag(self) -> str:
        """The Hub's mark of its content."""
        return self.sha256 or self.blob


class HubRepository:
    """A repository at one commit, resolved once.

    Args:
        repo_id: `organisation/name`.
        revision: Branch, tag or commit; None for the default branch.
        patience: When to give up.
        repo_type: `model` or `dataset`.

    Attributes:
        repo_id: As given.
        commit: 40 hexadecimal digits; every request names it.
        entries: Its files by path.
        requests: Made so far through huggingface_hub.

    Raises:
        CheckpointNotFound: No such repository or revision.
        AccessDenied: It may not be read.
        TransferError: The Hub cannot be reached.
    """

    def __init__(
        self, repo_id: str, revision: str | None, patience: Patience, *, repo_type: str = "model"
    ) -> None:
        self.repo_id, self.requests, self._revision = repo_id, 0, revision
        self._type = repo_type
        self._patience, self._lock, self._closed = patience, Lock(), Event()
        self._api = HfApi(library_name=_LIBRARY)
        describe: Callable[..., ModelInfo | DatasetInfo] = (
            self._api.dataset_info if repo_type == "dataset" else self._api.model_info
        )
        info = self._ask(
            lambda: describe(
                repo_id, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
            ),
            f"The repository {repo_id!r}{f' at {revision!r}' if revision else ''} was asked for.",
        )
        self.commit: str = info.sha or ""
        if not isinstance(self.commit, str) or not fullmatch("[0-9a-f]{40}", self.commit):
            raise _bad_listing(repo_id, f"It names the commit {brief(self.commit)}.")
        self.entries: Mapping[str, HubEntry] = _entries(repo_id, info.siblings or ())

    def file(self, path: str) -> HubFile:
        """A file of `entries`, to be read by ranges."""
        return HubFile(self, self.entries[path])

    def cached(self, path: str) -> Path | None:
        """Where the cache has this very file, if it does."""
        found = try_to_load_from_cache(self.repo_id, path, revision=self.commit, repo_type=self._type)
        if not isinstance(found, str):
            return None
        local = Path(found)
        return local if local.is_file() and local.stat().st_size == self.entries[path].size else None

    def locate(self, path: str) -> tuple[Address, int | None, str | None, str | None]:
        """Where a file can be read at the moment; its size, mark and commit as the server says."""
        url = hf_hub_url(
            self.repo_id, path, repo_type=self._type, revision=self.commit, endpoint=self._api.endpoint
        )
        found = self._ask(
            lambda: get_hf_file_metadata(
                url, token=self._api.token, timeout=constants.HF_HUB_ETAG_TIMEOUT, endpoint=self._api.endpoint
            ),
            f"The file {path!r} of {self.repo_id!r} at commit {self.commit[:12]} was asked for.",
        )
        check_redirect(self._api.endpoint, found.location)
        headers = {"User-Agent": _LIBRARY, "Accept-Encoding": "identity"}
        if origin(found.location) == origin(self._api.endpoint):  # the token is for no other
            headers = {**build_hf_headers(token=self._api.token, library_name=_LIBRARY), **headers}
        return Address(found.location, headers), found.size, found.etag, found.commit_hash

    def download(self, paths: Sequence[str]) -> Path:
        """Let the cache have these files; the folder of the commit in it.

        Raises:
            CheckpointFormatError: The branch moved meanwhile.
            WeightscopeError: As for the repository itself.
        """
        asked = f"The repository {self.repo_id!r} at commit {self.commit[:12]} was to be downloaded."
        # The patterns are globs, and a name may hold a bracket.
        patterns = [glob.escape(path) for path in paths]
        folder = self._ask(
            # By the name that the user gave: so the cache knows what it means when it is offline.
            lambda: snapshot_download(
                self.repo_id,
                repo_type=self._type,
                revision=self._revision,
                allow_patterns=patterns,
                library_name=_LIBRARY,
            ),
            asked,
        )
        if Path(folder).name != self.commit:
            raise CheckpointFormatError(
                asked, f"The branch moved to {Path(folder).name[:12]} meanwhile.", "Run it again."
            )
        return Path(folder)

    def _ask(self, call: Callable[[], Result], asked: str) -> Result:
        with self._lock:
            self.requests += 1
        return patiently(call, asked, self._patience, self._closed)

    def close(self) -> None:
        """Ask no more: what waits for another try gives up."""
        self._closed.set()


class HubFile(RemoteFile):
    """A file of a repository; its address is asked for when it is first read, and when it has expired."""

    def __init__(self, repository: HubRepository, entry: HubEntry) -> None:
        self.name = f"'{repository.repo_id}/{entry.path}'"
        self.size = entry.size
        self.entry = entry
        self._repository, self._lock = repository, Lock()
        self._address: Address | None = None

    def address(self, after: Address | None = None) -> Address:
        """Where it can be read."""
        with self._lock:
            if self._address is None or self._address == after:
                self._address = self._locate()
            return self._address

    def _locate(self) -> Address:
        address, size, etag, commit = self._repository.locate(self.entry.path)
        expected = self._repository.commit
        if commit and commit != expected:
            raise changed(self, f"The Hub answered for commit {commit[:40]}, not {expected}.")
        if size is not None and size != self.size:
            raise changed(self, f"The Hub says that it has {size:,} bytes, and the listing {self.size:,}.")
        if etag and self.entry.sha256 and etag != self.entry.sha256:
            raise changed(self, f"The Hub says that its SHA-256 is {etag[:64]}, and the listing another.")
        return address


def _entries(repo_id: str, files: Iterable[Any]) -> dict[str, HubEntry]:
    """The listing, whose every field is what a server chose to send."""
    entries: dict[str, HubEntry] = {}
    for file in files:
        path, size, blob = file.rfilename, file.size, file.blob_id or ""
        sha256 = (file.lfs.sha256 if file.lfs else "") or ""
        texts = all(isinstance(text, str) for text in (path, blob, sha256))
        if not texts or type(size) is not int or size < 0:
            raise _bad_listing(repo_id, f"It lists the file {brief(path)} with {brief(size)} bytes.")
        if path in entries:
            raise _bad_listing(repo_id, f"It lists the file {brief(path)} twice.")
        entries[path] = HubEntry(path=path, size=size, blob=blob, sha256=sha256)
    return entries


def _bad_listing(repo_id: str, found: str) -> CheckpointFormatError:
    return CheckpointFormatError(
        f"The files of the repository {repo_id!r} were listed.",
        found,
        "Check that HF_ENDPOINT is a Hub's, and try again.",
    )


def default_patience() -> Patience:
    """With the timeout that HF_HUB_DOWNLOAD_TIMEOUT sets."""
    return Patience(timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set."""
    return bool(constants.HF_HUB_OFFLINE)


def cached_snapshot(
    repo_id: str, revision: str | None, *, repo_type: str = "model", patterns: Sequence[str] = _NONE
) -> Path:
    """The folder of a commit in the cache, without a request.

    Args:
        repo_id: As given.
        revision: Branch, tag or commit; None for the default branch.
        repo_type: `model` or `dataset`.
        patterns: Of files that must be there.

    Raises:
        CheckpointNotFound: The cache has none.
    """
    return patiently(
        lambda: Path(
            snapshot_download(
                repo_id,
                repo_type=repo_type,
                revision=revision,
                allow_patterns=list(patterns),
                local_files_only=True,
            )
        ),
        f"The repository {repo_id!r}{f' at {revision!r}' if revision else ''} was asked for, from the cache.",
        Patience(tries=1),
    )


def dataset_files(
    repo_id: str,
    patterns: Sequence[str],
    *,
    revision: str | None = None,
    patience: Patience | None = None,
) -> Path:
    """Let the cache have some files of a data set on the Hub; the folder of the commit in it, named after it.

    Offline, and where the Hub cannot be reached, it is what the cache already has.

    Args:
        repo_id: `organisation/name`.
        patterns: Names of files or globs, as the listing has them; `*` also matches slashes.
        revision: Branch, tag or commit; None for the default branch.
        patience: With the network.

    Raises:
        DataNotFound: No such data set or revision, or no such file in it.
        AccessDenied: It may not be read.
        TransferError: The Hub cannot be reached, and the cache does not have it.
    """
    place = f"the data set {repo_id!r}{f' at {revision!r}' if revision else ''}"
    asked = f"The files {' or '.join(patterns)} of {place} were asked for."
    advice = "Check the name and the network, or pass a folder that has the files (--data-dir)."
    try:
        if is_offline():
            return cached_snapshot(repo_id, revision, repo_type="dataset", patterns=patterns)
        repository = HubRepository(repo_id, revision, patience or default_patience(), repo_type="dataset")
    except CheckpointNotFound as error:
        raise DataNotFound(asked, error.found, advice) from None
    except TransferError as error:
        try:
            return cached_snapshot(repo_id, revision, repo_type="dataset", patterns=patterns)
        except CheckpointNotFound:
            raise TransferError(asked, error.found, advice) from None
    wanted = [path for path in repository.entries if any(fnmatchcase(path, p) for p in patterns)]
    if not wanted:
        raise DataNotFound(
            asked,
            f"Commit {repository.commit[:12]} has none; it has {', '.join(repository.entries)[:200]}.",
            "Ask for another split or revision, or pass a folder that has the files (--data-dir).",
        )
    return repository.download(wanted)


def patiently(
    call: Callable[[], Result], asked: str, patience: Patience, closed: Event | None = None
) -> Result:
    """What a function of huggingface_hub returns, tried again where that may help.

    Raises:
        WeightscopeError: What it raised, in our words.
    """
    tries = failures = 0
    while True:
        try:
            return call()
        except WeightscopeError:
            raise
        except Exception as error:  # its errors have no common base, and its client's are another library's
            tries += 1
            failures += 3 if is_unknown_name(error) else 1
            pause = patience.wait(failures, seconds_asked_by(error)) if is_passing(error) else None
            if pause is None:
                raise as_ours(error, asked, tries) from None
            if (closed or Event()).wait(pause):
                raise TransferError(asked, "The checkpoint was closed.", "Open it again.") from None
