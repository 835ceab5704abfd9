"""Streams: queues of work, carried out as late as their order and the host allow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from threading import RLock
from typing import Any, NamedTuple

import torch


class Haste(Enum):
    """Which streams run ahead of what they are asked for, as far as events let them."""

    NONE = "all late"
    SIDE = "side streams ahead"
    WORK = "work ahead"


class Moment(NamedTuple):
    """A place in a stream: when so much of it is done."""

    line: Line
    position: int

    @property
    def is_past(self) -> bool:
        """Whether it is done."""
        return self.line.done >= self.position


@dataclass(slots=True, eq=False)
class Work:
    """Something to carry out, or a moment of another stream to come after."""

    run: Callable[[], object] | None = None
    after: Moment | None = None


@dataclass(slots=True, eq=False)
class Line:
    """A stream. Number 0 is the device's default one, where what is computed goes unless told otherwise."""

    device: int
    number: int
    queue: deque[Work] = field(default_factory=deque)
    begun: int = 0
    done: int = 0
    graph: Any = None
    """That captures it."""

    def __repr__(self) -> str:
        return f"stream {self.number} of cuda:{self.device}"


class Timeline:
    """All streams of all devices.

    Attributes:
        faults: What went wrong without anybody noticing, in words.
    """

    def __init__(self, haste: Haste) -> None:
        self.lock = RLock()
        self.faults: list[str] = []
        self._haste = haste
        self._lines: list[Line] = []
        self._running = False

    def line(self, device: int, *, default: bool) -> Line:
        """A new stream."""
        with self.lock:
            numbers = [line.number for line in self._lines if line.device == device]
            made = Line(device, 0 if default else 1 + max(numbers, default=0))
            self._lines.append(made)
        return made

    def put(self, line: Line, run: Callable[[], object]) -> int:
        """Something to carry out after all that the stream holds; its place there."""
        with self.lock:
            if line.graph is not None:
                line.graph.take(run)
                return line.begun
            line.queue.append(Work(run=run))
            line.begun += 1
            position = line.begun
            self._run_ahead()
            return position

    def wait(self, line: Line, moment: Moment) -> None:
        """What is put on a stream from now on comes after that moment of another."""
        with self.lock:
            if line.graph is not None:
                raise RuntimeError("CUDA error: dependency created on uncaptured work in another stream")
            if moment.line is not line:
                line.queue.append(Work(after=moment))
                line.begun += 1
                self._run_ahead()

    def now(self, line: Line) -> Moment:
        """When all is done that the stream holds."""
        return Moment(line, line.begun)

    def reach(self, moment: Moment) -> None:
        """Carry out what is needed until then, and no more."""
        with self.lock:
            if moment.line.graph is not None:
                raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
            outermost, self._running = not self._running, True
            try:
                with _plainly():
                    self._reach(moment)
            finally:
                self._running = not outermost
            self._run_ahead()

    def reach_all(self, device: int | None = None) -> None:
        """Carry out everything, of one device or of all: first what is computed, then what is copied."""
        with self.lock:
            for line in sorted(self._lines, key=lambda line: line.number):
                if device in (None, line.device):
                    self.reach(self.now(line))

    def step(self, line: Line) -> None:
        """One thing more: time goes by while somebody asks whether a stream is done."""
        with self.lock:
            if line.queue:
                self.reach(Moment(line, line.done + 1))

    def drop(self) -> None:
        """Forget what was never asked for: a test failed."""
        with self.lock:
            for line in self._lines:
                line.queue.clear()
                line.done = line.begun

    def _reach(self, moment: Moment) -> None:
        line = moment.line
        while not moment.is_past:
            if (after := line.queue[0].after) is not None:
                self._reach(after)
            self._one(line)

    def _one(self, line: Line) -> None:
        work = line.queue.popleft()
        line.done += 1
        if work.run is not None:
            work.run()

    def _run_ahead(self) -> None:
        if self._running or self._haste is Haste.NONE:
            return
        self._running = True
        try:
            with _plainly():
                while sum(self._all_of(line) for line in self._lines if self._is_ahead(line)):
                    pass  # what is done now is what others may wait for
        finally:
            self._running = False

    def _is_ahead(self, line: Line) -> bool:
        return (line.number == 0) == (self._haste is Haste.WORK)

    def _all_of(self, line: Line) -> bool:
        """What a stream holds up to something that is not there; whether that is anything."""
        before = line.done
        while line.queue and ((after := line.queue[0].after) is None or after.is_past):
            self._one(line)
        return line.done > before


@contextmanager
def _plainly() -> Iterator[None]:
    """Operators as they are on the host, whatever the thread has set."""
    with torch.inference_mode(), torch._C._DisableTorchDispatch():
        yield


def quietly(action: Callable[[], object]) -> None:
    """Whatever happens: for what runs while memory is collected."""
    with suppress(Exception):
        action()
