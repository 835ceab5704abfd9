"""Taking an honest answer and changing something about it: what all kinds of fault are made of."""

from collections.abc import Callable
from dataclasses import replace

from tests.hub.exchange import Exchange
from tests.hub.reply import Reply, Slice

Answer = Callable[[], Reply]


def data_of(exchange: Exchange, answer: Answer) -> tuple[Reply, Slice] | None:
    """The honest answer and its part of a file, if it has one to send."""
    reply = answer()
    has_data = isinstance(reply.body, Slice) and exchange.request.method != "HEAD"
    return (reply, reply.body) if has_data and reply.body.size else None  # type: ignore[return-value]


def delivered(reply: Reply, **changes: object) -> Reply:
    return replace(reply, delivery=replace(reply.delivery, **changes))  # type: ignore[arg-type]


def headed(reply: Reply, **headers: str) -> Reply:
    return replace(
        reply, headers=reply.headers | {name.replace("_", "-"): text for name, text in headers.items()}
    )
