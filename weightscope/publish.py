"""Files of a result into its folder: written beside, then renamed, all or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EISDIR
from pathlib import Path

from weightscope import exclusive
from weightscope.errors import OutputError

_STAGING = ".weightscope-"


def check_writable(folder: Path) -> None:
    """Make the folder, and be sure a file can be written to it, before hours of work.

    Raises:
        OutputError: It cannot.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise OutputError(
            f"Results were to be written to {str(folder)!a}.",
            "Its name is no text, which some of the files' formats need.",
            "Choose a folder with another name.",
        ) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"Results were to be written to '{folder}'.",
            f"That failed: {error.strerror or error}.",
            "Choose another folder with --out, or make room there; nothing that was in it has changed.",
        ) from None


def refuse_others(folder: Path, mark: str, what: str) -> None:
    """Keep results of two kinds apart: each has a provenance of its own.

    Args:
        folder: Where results are to be written.
        mark: The file that tells the other kind.
        what: Whose results those are.

    Raises:
        OutputError: The folder holds them.
    """
    if (folder / mark).exists():
        raise OutputError(
            f"Results were to be written to '{folder}'.",
            f"It holds those of {what} ('{mark}'), and one provenance cannot be that of both.",
            "Choose another folder with --out, or remove what is in it.",
        )


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keep a second process from writing into the same folder.

    Raises:
        OutputError: Another one does.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # where folders cannot be opened
        yield
        return
    try:
        if not exclusive.take(descriptor):
            raise OutputError(
                f"Results were to be written to '{folder}'.",
                "Another run is writing there at this moment.",
                "Wait for that run, or choose another folder with --out.",
            )
        yield
    finally:
        os.close(descriptor)


def remove_if_empty(folder: Path) -> None:
    """Take back a folder that was made for results that did not come; one that holds anything stays."""
    with suppress(OSError):
        folder.rmdir()


def publish(
    folder: Path, writers: Mapping[str, Callable[[Path], object]], *, stale: Iterable[str] = ()
) -> list[Path]:
    """Write files and return their paths; what an earlier run left stays until all of them are there.

    Args:
        folder: Exists; files of other names in it are left alone.
        writers: Name of the file, which may be in a folder within, to what writes it to a path. They are
            called and the files renamed in this order: what makes a result complete comes last.
        stale: Names that an earlier run may have left: removed unless they are written now, so that a folder
            never mixes two runs.

    Raises:
        OSError: Something could not be written; what was there is untouched.
    """
    for left in folder.glob(f"{_STAGING}*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
    old = set(stale)
    try:
        for name, write in writers.items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            write(staging / name)
        for name in {*writers, *old}:  # what would fail half-way is looked for first
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if (folder / name).is_dir():
                raise IsADirectoryError(EISDIR, "Is a directory", str(folder / name))
        for name in writers:
            (staging / name).replace(folder / name)
        for name in old - set(writers):
            (folder / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return [folder / name for name in writers]
