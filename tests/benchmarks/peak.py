"""Memory of this process, and its peak while something runs. Linux only."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATUS = Path("/proc/self/status")


def memory() -> tuple[int, int]:
    """Bytes in memory: all of them, and those that no file backs."""
    status = STATUS.read_text()
    resident, anonymous = (re.search(rf"{name}:\s+(\d+) kB", status)[1] for name in ("VmRSS", "RssAnon"))
    return 1024 * int(resident), 1024 * int(anonymous)


class Peak:
    """Bytes above those at the start: `resident` and `anonymous`."""

    resident = anonymous = 0


@contextmanager
def watched() -> Iterator[Peak]:
    """The peak of a `with` block, looked for every three milliseconds."""
    before, peak, done = memory(), Peak(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            resident, anonymous = memory()
            peak.resident = max(peak.resident, resident - before[0])
            peak.anonymous = max(peak.anonymous, anonymous - before[1])
            time.sleep(0.003)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
