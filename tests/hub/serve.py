"""Serves folders as repositories until Ctrl-C, in a process of its own.

    python -m tests.hub.serve FOLDER ... [--org NAME] [--port N] [--rate MB/s] [--latency MS]

The first line printed is the endpoint, for HF_ENDPOINT; then come the repositories, each with its commit.
"""

import argparse
import contextlib
import sys
import threading
from pathlib import Path

from tests.hub.server import LoopbackHub, folder_files


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub.serve")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="served as ORG/folder's name")
    parser.add_argument("--org", default="org")
    parser.add_argument("--port", type=int, default=0, help="of the API; a free one by default")
    parser.add_argument("--rate", type=float, help="MB a second of each connection to the storage")
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds before every answer")
    parser.add_argument("--xet", action="store_true", help="offer the weights by xet too")
    parser.add_argument(
        "--made-up-digests", action="store_true", help="do not hash the files first (about a second a GB)"
    )
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    return parser.parse_args(arguments)


def main() -> None:
    """Serve."""
    options = parse()
    with LoopbackHub(port=options.port) as hub:
        rate = None if options.rate is None else options.rate * 1e6
        hub.shape(rate, options.latency / 1000)
        lines = [hub.endpoint]
        for folder in options.folders:
            repo_id = f"{options.org}/{folder.resolve().name}"
            repo = hub.add(
                repo_id,
                folder_files(folder.resolve()),
                xet=options.xet,
                real_digests=not options.made_up_digests,
            )
            lines.append(f"{repo_id} {repo.commit}")
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            if options.until_eof:
                sys.stdin.read()
            else:
                threading.Event().wait()


if __name__ == "__main__":
    main()
