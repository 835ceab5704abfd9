"""Faults of the connection: it ends, waits, or frames the body otherwise. The bytes are right."""

from tests.hub.altering import Answer, data_of, delivered
from tests.hub.exchange import Exchange
from tests.hub.reply import Reply


def _ended(exchange: Exchange, answer: Answer, after_bytes: int | None, ending: str) -> Reply | None:
    if after_bytes is None:
        return delivered(answer(), cut_after=-1, ending=ending)
    found = data_of(exchange, answer)
    if found is None or after_bytes >= found[1].size:
        return None
    return delivered(found[0], cut_after=after_bytes, ending=ending)


def reset(exchange: Exchange, answer: Answer, *, after_bytes: int | None = None) -> Reply | None:
    """RST after so many bytes of the body; None: before the headers."""
    return _ended(exchange, answer, after_bytes, "reset")


def close(
    exchange: Exchange, answer: Answer, *, after_bytes: int | None = None, every_bytes: int | None = None
) -> Reply | None:
    """FIN after so many bytes of the body; None: before the headers. `every_bytes`: of every answer."""
    return _ended(exchange, answer, every_bytes or after_bytes, "close")


def stall(exchange: Exchange, answer: Answer, *, seconds: float = 6.0, after_bytes: int = 0) -> Reply | None:
    """A pause in the body, after so many bytes; then it goes on."""
    found = data_of(exchange, answer)
    if found is None or after_bytes >= found[1].size:
        return None
    return delivered(found[0], stall=seconds, stall_after=after_bytes)


def slow_headers(exchange: Exchange, answer: Answer, *, seconds: float = 5.0, drip: bool = True) -> Reply:
    """The headers take so long: byte by byte, or (drip=False) all at the end."""
    return delivered(answer(), header_delay=seconds, drip=drip)


def hang_up(exchange: Exchange, answer: Answer) -> Reply:
    """A complete answer, then FIN, though keep-alive was promised."""
    return delivered(answer(), hang_up=True)


def chunked(exchange: Exchange, answer: Answer, *, chunk: int = 1 << 14) -> Reply | None:
    """Transfer-Encoding: chunked in place of Content-Length."""
    found = data_of(exchange, answer)
    return delivered(found[0], chunk=chunk) if found else None
