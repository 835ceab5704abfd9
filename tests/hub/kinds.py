"""The kinds of fault by name.

Each is a function of the exchange and of the honest answer, which it may take or leave. It returns None where
that answer has nothing to spoil (a redirect has no data); the fault then waits for the next request.
"""

from collections.abc import Callable

from tests.hub import breaks, detours, lies
from tests.hub.reply import Reply

KINDS: dict[str, Callable[..., Reply | None]] = {
    function.__name__: function
    for function in (
        breaks.reset,
        breaks.close,
        breaks.stall,
        breaks.slow_headers,
        breaks.hang_up,
        breaks.chunked,
        lies.short,
        lies.range_ignored,
        lies.wrong_content_range,
        lies.lying_data,
        lies.corrupt,
        lies.gzip,
        lies.etag_change,
        lies.no_commit_header,
        detours.status,
        detours.html,
        detours.expired,
        detours.redirect,
        detours.moved_branch,
    )
}
# Where a kind is done if the test does not say; the storage otherwise.
PLACES = {"no_commit_header": "resolve", "moved_branch": "any"}
