"""The storage: LFS files by signed address, whole or in ranges."""

from tests.hub.exchange import Exchange
from tests.hub.ranges import serve
from tests.hub.reply import Reply, Text

_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
)


def denied(message: str) -> Reply:
    """403 in XML, as object stores word it."""
    body = Text(_ERROR.format(code="AccessDenied", message=message).encode())
    return Reply(403, {"Content-Type": "application/xml"}, body)


def answer(exchange: Exchange) -> Reply:
    """The bytes, if the address is signed and fresh."""
    request, state = exchange.request, exchange.state
    entry = state.stored.get(request.path)
    if request.path.startswith("/xet-cas/"):
        return Reply(503, {"Content-Type": "text/plain"}, Text(b"no content-addressed storage here"))
    if request.method not in ("GET", "HEAD"):
        return Reply(405, {"Allow": "GET, HEAD"})
    if entry is None:
        body = Text(_ERROR.format(code="NoSuchKey", message="The specified key does not exist.").encode())
        return Reply(404, {"Content-Type": "application/xml"}, body)
    if reason := state.signer.refuse(request.path, request.query):
        return denied(reason)
    state.signer.use(request.query)
    return serve(entry.blob, exchange.etag or entry.blob.storage_etag, request.headers)
