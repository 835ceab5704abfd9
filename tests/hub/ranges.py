"""A file answered with or without Range, as RFC 9110 has it and object stores do it."""

import re

from tests.hub.blob import Blob
from tests.hub.reply import Reply, Slice, Text

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def asked_range(value: str | None, size: int) -> tuple[int, int] | None:
    """First and one past the last byte of a single range, or None: several ranges and nonsense count as none.

    Raises:
        ValueError: A range of bytes that are not in the file: the answer is 416.
    """
    match = _RANGE.fullmatch(value.strip()) if value else None
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    if start >= stop:
        raise ValueError(value)
    return start, stop


def serve(blob: Blob, etag: str, headers: dict[str, str], **more: str) -> Reply:
    """The file or the part of it asked for.

    Args:
        blob: The file.
        etag: With its quotes.
        headers: The request's, names in lower case: Range, If-Range, If-Match, If-None-Match count.
        more: Headers of the answer, `_` for `-`.
    """
    named = {name.replace("_", "-"): value for name, value in more.items()}
    common = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        "Content-Type": "application/octet-stream",
        **named,
    }
    if headers.get("if-match", etag) not in (etag, "*"):
        return Reply(412, common, Text(b"Precondition Failed"))
    if headers.get("if-none-match") in (etag, "*"):
        return Reply(304, common)
    wanted = headers.get("range") if headers.get("if-range", etag) == etag else None
    try:
        span = asked_range(wanted, blob.size)
    except ValueError:
        return Reply(416, {**common, "Content-Range": f"bytes */{blob.size}"}, Text(b"Range Not Satisfiable"))
    if span is None:
        return Reply(200, common, Slice(blob, 0, blob.size))
    start, stop = span
    common["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size}"
    return Reply(206, common, Slice(blob, start, stop))
