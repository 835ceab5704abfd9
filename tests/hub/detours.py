"""Faults that put another answer in place of the file: errors, login pages, redirects, a moved branch."""

from collections.abc import Mapping
from urllib.parse import urlencode

from tests.hub.altering import Answer
from tests.hub.exchange import Exchange
from tests.hub.reply import Reply, Text, refusal
from tests.hub.reply import redirect as redirection
from tests.hub.storage import denied

_LOGIN = b"<!DOCTYPE html><html><head><title>Sign in to the network</title></head><body>Welcome</body></html>"


def status(
    exchange: Exchange,
    answer: Answer,
    *,
    code: int = 503,
    retry_after: float | str | None = None,
    ratelimit: int | None = None,
    error_code: str | None = None,
    error_message: str = "Try again later",
) -> Reply:
    """Any status: `retry_after` in seconds or as a date, `ratelimit` the seconds of that header."""
    reply = refusal(code, error_message, error_code)
    if retry_after is not None:
        reply.headers["Retry-After"] = str(retry_after)
    if ratelimit is not None:
        reply.headers["ratelimit"] = f'"api";r=0;t={ratelimit}'
        reply.headers["ratelimit-policy"] = '"fixed window";"api";q=500;w=300'
    return reply


def html(exchange: Exchange, answer: Answer, *, status: int = 200, content_range: bool = False) -> Reply:
    """A login page in place of the file; with `content_range` it claims to be the range asked for."""
    headers = {"Content-Type": "text/html; charset=utf-8"}
    if content_range:
        headers["Content-Range"] = answer().headers.get("Content-Range", "bytes 0-99/100")
    return Reply(status, headers, Text(_LOGIN))


def expired(
    exchange: Exchange, answer: Answer, *, uses: int | None = None, seconds: float | None = None
) -> Reply | None:
    """403 for a signature that was used so often or is so old; without both, at once."""
    used, age = exchange.state.signer.seen(exchange.request.query)
    over = (uses is not None and used >= uses) or (seconds is not None and age >= seconds)
    return denied("Request has expired") if over or (uses is None and seconds is None) else None


def redirect(
    exchange: Exchange, answer: Answer, *, to: str = "same", hops: int = 1, code: int = 302
) -> Reply | None:
    """More hops: to the `same` origin, to the `foreign` host, or a `loop` without end."""
    hop = int(exchange.query.get("hop", ["0"])[-1])
    if to == "loop":
        return redirection(exchange.url, code)
    if hop >= hops:
        return None
    origin = exchange.state.origins["foreign" if to == "foreign" else exchange.request.origin]
    query = {name: values[-1] for name, values in exchange.query.items()} | {"hop": str(hop + 1)}
    return redirection(f"{origin}{exchange.request.path}?{urlencode(query)}", code)


def moved_branch(
    exchange: Exchange,
    answer: Answer,
    *,
    repo_id: str,
    files: Mapping[str, bytes | str | None],
    branch: str = "main",
) -> Reply:
    """The request is answered, then a commit moves the branch."""
    reply = answer()
    exchange.state.repositories[repo_id].commit_files(files, branch)
    return reply
