"""A hub in another process: in a benchmark, client and server must not share an interpreter's lock."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.hub.stats import Stats

_ROOT = Path(__file__).parents[2]


class HubProcess:
    """`python -m tests.hub.serve` between `with` and its end; it also ends if this process is killed.

    Args:
        folders: Each is served as `org/` and its name.
        rate: MB (10⁶ bytes) a second of each connection to the storage; None is unlimited.
        latency: Milliseconds before every answer.
        options: More options of the command, as `"--xet"`.

    Attributes:
        endpoint: What HF_ENDPOINT or `endpoint=` takes.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        *,
        rate: float | None = None,
        latency: float = 0.0,
        options: Iterable[str] = (),
    ) -> None:
        self._command = [sys.executable, "-m", "tests.hub.serve", *map(str, folders), "--until-eof"]
        self._command += ["--latency", str(latency), *options]
        self._command += [] if rate is None else ["--rate", str(rate)]
        self.endpoint = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.endpoint = self._process.stdout.readline().strip()
        if not self.endpoint:
            self._stop()
            raise RuntimeError(f"The hub did not start: {' '.join(self._command)}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def control(self, command: str, **options: Any) -> Any:
        """A command of `/__ctl/` and what it answers. Proxies of the environment are not asked."""
        request = urllib.request.Request(f"{self.endpoint}/__ctl/{command}", json.dumps(options).encode())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as response:
            return json.load(response)

    def stats(self) -> Stats:
        """Every request since the start or the last reset."""
        return Stats.from_json(self.control("stats"))

    def reset(self) -> None:
        """Forget the requests."""
        self.control("reset")

    def shape(self, bytes_per_second_per_connection: float | None = None, latency_s: float = 0.0) -> None:
        """As `LoopbackHub.shape`."""
        options = {"bytes_per_second_per_connection": bytes_per_second_per_connection, "latency_s": latency_s}
        self.control("shape", **options)

    @contextmanager
    def fault(
        self, kind: str, times: int | None = 1, on: str | None = None, match: str = "*", **parameters: Any
    ) -> Iterator[None]:
        """As `LoopbackHub.fault`; contents of files are given as text."""
        fault = self.control("fault", kind=kind, times=times, on=on, match=match, **parameters)
        try:
            yield
        finally:
            self.control("remove", fault=fault)

    def random_faults(self, seed: int, rate: float, places: tuple[str, ...] = ("storage",)) -> None:
        """As `LoopbackHub.random_faults`."""
        self.control("random", seed=seed, rate=rate, places=places)

    def repositories(self) -> dict[str, str]:
        """The commit of each repository's main."""
        return dict(self.control("repositories"))
