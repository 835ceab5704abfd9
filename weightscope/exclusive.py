"""One process at a time: a lock on an open file or folder."""

from __future__ import annotations


def take(descriptor: int) -> bool:
    """Lock for this process, until the descriptor is closed; whether no other process has it.

    Where there are no such locks (not on Unix, or a file system without them) nobody is kept out.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
