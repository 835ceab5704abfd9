"""The command line: parses, calls one public function, prints. Floor 10."""

import os
import sys

from weightscope.cli.app import app
from weightscope.errors import WeightscopeError


def main() -> None:
    """Entry point. Exit 0 done, 1 a known error, 2 usage, 3 done but incomplete (with --strict)."""
    # Threads that wait for one another should sleep and not spin: where another program has a core, a
    # spinning run is many times slower. OpenMP reads this when torch is loaded, which happens later.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        app()
    except WeightscopeError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(1)
