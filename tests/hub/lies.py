"""Faults of the data: fewer bytes, other bytes, or headers that do not describe them."""

import gzip as compression
from dataclasses import replace

from tests.hub.altering import Answer, data_of, headed
from tests.hub.exchange import Exchange
from tests.hub.reply import Reply, Slice, Text
from tests.hub.spoilt import Flipped, Rotated


def short(
    exchange: Exchange, answer: Answer, *, missing: int | None = None, honest: bool = False
) -> Reply | None:
    """Bytes missing at the end (None: half of them), with a Content-Length that fits.

    Content-Range still claims all of them, unless `honest`: then it gives what is sent, as a server may.
    """
    found = data_of(exchange, answer)
    if found is None:
        return None
    reply, body = found
    kept = body.size - min(body.size, (body.size + 1) // 2 if missing is None else missing)
    if honest and reply.status == 206 and kept:
        reply = headed(reply, Content_Range=f"bytes {body.start}-{body.start + kept - 1}/{body.blob.size}")
    return replace(reply, body=Slice(body.blob, body.start, body.start + kept))


def range_ignored(exchange: Exchange, answer: Answer) -> Reply | None:
    """200 and the whole file, whatever range was asked for."""
    found = data_of(exchange, answer)
    if found is None or found[0].status != 206:
        return None
    reply, body = found
    headers = {name: value for name, value in reply.headers.items() if name != "Content-Range"}
    return replace(reply, status=200, headers=headers, body=Slice(body.blob, 0, body.blob.size))


def wrong_content_range(
    exchange: Exchange,
    answer: Answer,
    *,
    shift: int = 0,
    total: int | None = None,
    value: str | None = None,
) -> Reply | None:
    """The bytes asked for under a Content-Range that is wrong: numbers shifted, another total, or `value`.

    Without any of the three the numbers are shifted by one.
    """
    found = data_of(exchange, answer)
    if found is None or found[0].status != 206:
        return None
    reply, body = found
    if value is None:
        moved = shift or (1 if total is None else 0)
        last = body.stop - 1 + moved
        value = f"bytes {body.start + moved}-{last}/{body.blob.size if total is None else total}"
    return headed(reply, Content_Range=value)


def lying_data(exchange: Exchange, answer: Answer, *, shift: int | None = None) -> Reply | None:
    """The right headers over bytes from elsewhere in the file: `shift` further, or half the file."""
    found = data_of(exchange, answer)
    if found is None:
        return None
    reply, body = found
    return replace(reply, body=Rotated(body, body.blob.size // 2 if shift is None else shift))


def corrupt(exchange: Exchange, answer: Answer, *, at: int | None = None, mask: int = 0xFF) -> Reply | None:
    """One byte flipped: at this offset of the file, or in the middle of what is sent."""
    found = data_of(exchange, answer)
    if found is None:
        return None
    reply, body = found
    place = body.size // 2 if at is None else at - body.start
    return replace(reply, body=Flipped(body, place, mask)) if 0 <= place < body.size else None


def gzip(exchange: Exchange, answer: Answer) -> Reply | None:
    """What a proxy does that compresses on the way, asked or not."""
    found = data_of(exchange, answer)
    if found is None:
        return None
    packed = Text(compression.compress(bytes(found[1].read(0, found[1].size)), 1))
    return headed(replace(found[0], body=packed), Content_Encoding="gzip", Vary="Accept-Encoding")


def etag_change(exchange: Exchange, answer: Answer, *, etag: str = '"changed"') -> Reply:
    """Another ETag than before, which If-Range is measured against too."""
    exchange.etag = etag
    return answer()


def no_commit_header(exchange: Exchange, answer: Answer) -> Reply | None:
    """X-Repo-Commit is missing, as behind a mirror that does not know it."""
    reply = answer()
    headers = {name: value for name, value in reply.headers.items() if name != "X-Repo-Commit"}
    return replace(reply, headers=headers) if headers != reply.headers else None
