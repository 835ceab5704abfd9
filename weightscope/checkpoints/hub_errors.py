"""What huggingface_hub and the client below it raise, in our words; no token is ever in them."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

from huggingface_hub import errors

from weightscope.checkpoints.patience import PASSING_STATUS, seconds_asked
from weightscope.errors import AccessDenied, CheckpointNotFound, OutputError, TransferError, WeightscopeError

_DISK = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR,
    errno.ENAMETOOLONG, errno.EIO, errno.EFBIG,
}  # fmt: skip
# The client that huggingface_hub uses has changed its name twice.
_CLIENTS = ("httpx", "httpcore", "requests", "urllib3")


def is_passing(error: Exception) -> bool:
    """Whether trying again may help."""
    if _of_disk(error):
        return False
    status = _status(error)
    if status is not None:
        return status in PASSING_STATUS
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
        return False
    return _is_of_network(error)


def is_unknown_name(error: Exception) -> bool:
    """Whether no server has that name: seldom a matter of seconds."""
    return any(isinstance(cause, socket.gaierror) for cause in _causes(error))


def seconds_asked_by(error: Exception) -> float | None:
    """What the server's answer asks to wait."""
    response = getattr(error, "response", None)
    return seconds_asked(response.headers) if response is not None else None


def as_ours(error: Exception, asked: str, tries: int) -> WeightscopeError:
    """The error to raise instead."""
    known = _by_kind(error, asked) or _by_status(error, asked, tries)
    if known:
        return known
    if disk := _of_disk(error):
        return OutputError(
            asked,
            f"The Hub's cache could not be written: {disk.strerror}.",
            "Make room there or name another folder in HF_HOME; without --cache nothing is written.",
        )
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TransferError(
                asked,
                f"The Hub's certificate is not trusted: {cause.verify_message}.",
                "If a proxy of your network signs it, name its authority in SSL_CERT_FILE.",
            )
        if isinstance(cause, socket.gaierror):
            return TransferError(
                asked,
                f"The name of the Hub's server is not known here ({cause.strerror}).",
                "Check the network and HF_ENDPOINT; with --cache what was downloaded earlier is used.",
            )
    return TransferError(
        asked,
        f"{'The Hub could not be reached' if _is_of_network(error) else 'huggingface_hub failed'}: "
        f"{type(error).__name__}, {tries} {'tries' if tries > 1 else 'try'}.",
        "Check the network and HF_ENDPOINT; with --cache what was downloaded earlier is used.",
    )


def _by_kind(error: Exception, asked: str) -> WeightscopeError | None:
    if isinstance(error, errors.GatedRepoError):
        return AccessDenied(
            asked,
            "The repository is gated, and you are not logged in as someone who accepted its terms.",
            "Accept them on its page, then log in with 'hf auth login' or set HF_TOKEN.",
        )
    if isinstance(error, errors.DisabledRepoError):
        return AccessDenied(asked, "Access to it is disabled by the Hub.", "Choose another checkpoint.")
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointNotFound(
            asked,
            "The repository has no such branch, tag or commit.",
            "Check --revision against the list of branches and tags on its page.",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return CheckpointNotFound(
            asked,
            "The Hub has no such repository, or it is private and you are not logged in as its owner.",
            "Check the name; for a private one log in with 'hf auth login' or set HF_TOKEN.",
        )
    # Releases before 2 do not look whether a snapshot is complete.
    incomplete = getattr(errors, "IncompleteSnapshotError", errors.LocalEntryNotFoundError)
    if isinstance(error, errors.LocalEntryNotFoundError | incomplete):
        return CheckpointNotFound(
            asked,
            "The cache does not have all of it.",
            "Run once without HF_HUB_OFFLINE and with --cache, on a machine with a network.",
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return TransferError(
            asked, "HF_HUB_OFFLINE is set, so nothing is asked of the Hub.", "Unset it, or use --cache."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return CheckpointNotFound(asked, "The commit has no such file.", "Check the name on its page.")
    if isinstance(error, errors.HFValidationError):
        return CheckpointNotFound(
            asked, "That is no name that a repository can have.", "Write it as organisation/name."
        )
    return None


def _by_status(error: Exception, asked: str, tries: int) -> WeightscopeError | None:
    status = _status(error)
    if status is None:
        return None
    if status == 401:
        return AccessDenied(
            asked,
            "The Hub does not accept the token (401).",
            "Log in anew with 'hf auth login', or set HF_TOKEN to one that is valid.",
        )
    if status == 403:
        return AccessDenied(
            asked,
            "The Hub refuses it (403): your token may not read it.",
            "Give the token the right to read this repository.",
        )
    if status == 429 and (seconds := seconds_asked_by(error)) is not None:
        return TransferError(
            asked,
            f"The Hub asks to wait {seconds:,.0f} seconds (429).",
            "Try again then; a token has higher limits.",
        )
    return TransferError(
        asked,
        f"The Hub answered {status}, {tries} {'times' if tries > 1 else 'time'}.",
        "Try again later; with --cache what was downloaded earlier is used.",
    )


def _of_disk(error: Exception) -> OSError | None:
    """The failure of this machine's disk behind an error."""
    return next(
        (
            cause
            for cause in _causes(error)
            if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno in _DISK
        ),
        None,
    )


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _is_of_network(error: Exception) -> bool:
    return any(
        isinstance(cause, OSError)
        or type(cause).__module__.split(".")[0].rstrip("0123456789") in _CLIENTS
        # One thread's failure closes the client that all threads share.
        or (isinstance(cause, RuntimeError) and "client has been closed" in str(cause))
        for cause in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
