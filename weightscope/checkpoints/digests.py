"""Whether a file on the disk is the one the Hub has: SHA-256, or git's SHA-1 of a small one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from weightscope.errors import CheckpointFormatError

_SHA256, _GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_PIECE = 2**22


def hub_etag(path: Path) -> str:
    """The Hub's mark of a file that huggingface_hub put here; empty where there is none.

    In its cache a file is a link to a blob that is named after it. Beside a folder that it downloaded to
    (`hf download --local-dir`) it keeps three lines for each file: commit, mark and time.
    """
    if path.is_symlink():
        blob = path.resolve()
        if blob.parent.name == "blobs" and _is_mark(blob.name):
            return blob.name
    for folder in (path.parent, *path.parent.parents):
        record = folder / ".cache" / "huggingface" / "download" / f"{path.relative_to(folder)}.metadata"
        try:
            lines = record.read_text(encoding="utf-8").splitlines()
            # A file that was changed later is another one.
            if len(lines) >= 3 and _is_mark(lines[1]) and path.stat().st_mtime <= float(lines[2]) + 1:
                return lines[1]
        except (OSError, ValueError):
            continue
    return ""


def check_digest(path: Path, etag: str) -> None:
    """Compare a file with the Hub's mark of it.

    Raises:
        CheckpointFormatError: It is another file, or there is no such mark.
    """
    asked = f"The file '{path}' was to be compared with the Hub's."
    if not _is_mark(etag):
        raise CheckpointFormatError(
            asked,
            "Nothing here says what its SHA-256 should be: huggingface_hub did not put it there.",
            "Leave out --verify, or analyse the repository with --cache --verify.",
        )
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256() if len(etag) == 64 else _git_blob(path.stat().st_size)
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        raise CheckpointFormatError(
            asked, f"The system could not read it: {error.strerror}.", "Check the disk, or fetch it again."
        ) from None
    if digest.hexdigest() != etag:
        raise CheckpointFormatError(
            asked,
            f"It is another file: its digest begins with {digest.hexdigest()[:12]}, not with {etag[:12]}.",
            "Delete it and fetch it again.",
        )


def _git_blob(size: int) -> hashlib._Hash:
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def _is_mark(text: str) -> bool:
    return bool(_SHA256.fullmatch(text) or _GIT_SHA1.fullmatch(text))
