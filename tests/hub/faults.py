"""Faults that wait for a request: which one, how often, and a seeded source of random ones."""

import inspect
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from random import Random
from typing import Any

from tests.hub.altering import Answer
from tests.hub.exchange import Exchange
from tests.hub.kinds import KINDS, PLACES
from tests.hub.reply import Reply


@dataclass
class Fault:
    """A fault and the requests that it is for.

    Attributes:
        kind: A name of `KINDS`.
        times: How often it is done; None for always.
        on: `storage`, `resolve`, `api`, or `any`.
        match: Glob for the file's name in its repository, or for the API's path.
        method: Only for GET, HEAD or POST.
        after: So many fitting requests pass first.
        parameters: As the function of that kind in `kinds.py` takes them.
        fired: How often it was done.
    """

    kind: str
    times: int | None = 1
    on: str = "storage"
    match: str = "*"
    method: str | None = None
    after: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)
    fired: int = 0
    passed: int = 0

    def __post_init__(self) -> None:
        # A misspelt parameter would make a test pass that tests nothing.
        inspect.signature(KINDS[self.kind]).bind(None, None, **self.parameters)
        if self.parameters.get("every_bytes") or self.parameters.get("to") == "loop":
            self.times = None

    def fits(self, exchange: Exchange) -> bool:
        """Whether the request is one of those it is for."""
        return (
            self.on in ("any", exchange.place)
            and self.method in (None, exchange.request.method)
            and fnmatchcase(exchange.request.name, self.match)
            and (self.times is None or self.fired < self.times)
        )


class Faults:
    """All waiting faults of a hub."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self._lock = threading.Lock()
        self._random: RandomFaults | None = None

    def add(
        self,
        kind: str,
        times: int | None = 1,
        on: str | None = None,
        match: str = "*",
        *,
        method: str | None = None,
        after: int = 0,
        **parameters: Any,
    ) -> Fault:
        """A fault that waits from now on; `on` defaults to where the kind makes sense."""
        fault = Fault(kind, times, on or PLACES.get(kind, "storage"), match, method, after, parameters)
        with self._lock:
            self._waiting.append(fault)
        return fault

    @property
    def waiting(self) -> list[Fault]:
        """Those that have not been removed, used up or not."""
        return list(self._waiting)

    def remove(self, fault: Fault) -> None:
        """It waits no more."""
        with self._lock:
            self._waiting = [other for other in self._waiting if other is not fault]

    def clear(self) -> None:
        """None waits any more, random ones included."""
        with self._lock:
            self._waiting, self._random = [], None

    @contextmanager
    def during(self, kind: str, *arguments: Any, **parameters: Any) -> Iterator[Fault]:
        """A fault for the time of a `with` block."""
        fault = self.add(kind, *arguments, **parameters)
        try:
            yield fault
        finally:
            self.remove(fault)

    def at_random(self, seed: int, rate: float, places: tuple[str, ...] = ("storage",)) -> None:
        """From now on a share `rate` of the requests to these places meets a fault that can be survived."""
        self._random = RandomFaults(seed, rate, places)

    def answer(self, exchange: Exchange, honest: Answer) -> Reply:
        """The answer with the faults that wait for it; the first added lies innermost."""
        wrapped = cache(honest)
        for fault in self._take(exchange):
            wrapped = cache(self._wrap(fault, exchange, wrapped))
        return wrapped()

    def _take(self, exchange: Exchange) -> list[Fault]:
        taken = []
        with self._lock:
            for fault in self._waiting:
                if fault.fits(exchange):
                    fault.passed += 1
                    if fault.passed > fault.after:
                        fault.fired += 1
                        taken.append(fault)
            if self._random is not None and (drawn := self._random.draw(exchange)):
                taken.append(drawn)
        return taken

    def _wrap(self, fault: Fault, exchange: Exchange, inner: Answer) -> Answer:
        def answer() -> Reply:
            reply = KINDS[fault.kind](exchange, inner, **fault.parameters)
            if reply is None:  # nothing to spoil in this answer: the fault waits on
                with self._lock:
                    fault.fired -= 1
                return inner()
            exchange.request.faults.append(fault.kind)
            return reply

        return answer


class RandomFaults:
    """Faults drawn from a seed, the file, the range and how often that range was asked for.

    So the draw does not depend on the order in which connections are served.
    """

    def __init__(self, seed: int, rate: float, places: tuple[str, ...]) -> None:
        self._seed, self._rate, self._places = seed, rate, places
        self._asked: Counter[tuple[str, str, str, str | None]] = Counter()

    def draw(self, exchange: Exchange) -> Fault | None:
        """The fault for this request, or None."""
        request = exchange.request
        if exchange.place not in self._places:
            return None
        key = exchange.place, request.method, request.name, request.range
        self._asked[key] += 1
        dice = Random(f"{self._seed} {key} {self._asked[key]}")
        if dice.random() >= self._rate:
            return None
        kind, parameters = dice.choice(_SURVIVABLE)(dice)
        return Fault(kind, on=exchange.place, parameters=parameters)


_SURVIVABLE: list[Callable[[Random], tuple[str, dict[str, Any]]]] = [
    lambda dice: ("status", {"code": dice.choice((429, 500, 502, 503, 504))}),
    lambda dice: ("status", {"code": dice.choice((429, 503)), "retry_after": 0}),
    lambda dice: ("reset", {}),
    lambda dice: ("reset", {"after_bytes": dice.randrange(1 << 20)}),
    lambda dice: ("close", {}),
    lambda dice: ("close", {"after_bytes": dice.randrange(1 << 20)}),
    lambda dice: ("stall", {"seconds": dice.uniform(0.0, 0.3), "after_bytes": dice.randrange(1 << 18)}),
    lambda dice: ("short", {}),
    lambda dice: ("chunked", {"chunk": 1 << dice.randrange(4, 17)}),
    lambda dice: ("redirect", {}),
    lambda dice: ("slow_headers", {"seconds": dice.uniform(0.0, 0.1)}),
    lambda dice: ("hang_up", {}),
]
