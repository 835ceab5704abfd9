"""/__ctl/…: a hub in another process is asked for its stats and told its faults by requests."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.hub.exchange import Exchange
from tests.hub.reply import Reply, json_reply, refusal

if TYPE_CHECKING:
    from tests.hub.server import LoopbackHub


def answer(hub: "LoopbackHub", exchange: Exchange) -> Reply:
    """Do it and say what came of it; an error comes back as its text."""
    command = _COMMANDS.get(exchange.segments[-1])
    if command is None:
        return refusal(404, f"No such command: {exchange.segments[-1]}")
    try:
        return json_reply(command(hub, json.loads(exchange.body or b"{}")))
    except (TypeError, ValueError, KeyError) as error:
        return refusal(400, repr(error))


def _fault(hub: "LoopbackHub", options: dict[str, Any]) -> int:
    return id(hub.faults.add(**options))


def _fired(hub: "LoopbackHub", options: dict[str, Any]) -> dict[str, int]:
    return {str(id(fault)): fault.fired for fault in hub.faults.waiting}


def _remove(hub: "LoopbackHub", options: dict[str, Any]) -> None:
    for fault in hub.faults.waiting:
        if id(fault) == options["fault"]:
            hub.faults.remove(fault)


def _commit(hub: "LoopbackHub", options: dict[str, Any]) -> str:
    repo = hub.state.repositories[options["repo_id"]]
    return repo.commit_files(options["files"], options.get("branch", "main"))


_COMMANDS: dict[str, Callable[["LoopbackHub", dict[str, Any]], Any]] = {
    "stats": lambda hub, options: hub.stats.as_json(),
    "reset": lambda hub, options: hub.stats.reset(),
    "shape": lambda hub, options: hub.shape(**options),
    "fault": _fault,
    "fired": _fired,
    "remove": _remove,
    "clear": lambda hub, options: hub.faults.clear(),
    "random": lambda hub, options: hub.random_faults(**options),
    "repositories": lambda hub, options: {name: repo.commit for name, repo in hub.state.repositories.items()},
    "commit": _commit,
}
