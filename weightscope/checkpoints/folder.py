"""A folder on this machine's disk."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from weightscope.checkpoints.json_object import check_json_size, parse_json_object, unreadable_json
from weightscope.checkpoints.listing import WHAT_TO_PASS, CheckpointFiles, Listing, choose_files
from weightscope.errors import CheckpointNotFound


class Folder(Listing):
    """Its files.

    Attributes:
        path: Where it is.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = f"folder '{path}'"

    @cached_property
    def _entries(self) -> list[Path]:
        try:
            return sorted(self.path.iterdir())
        except OSError as error:
            raise CheckpointNotFound(
                f"The {self.where} was asked for.",
                f"It cannot be listed: {error.strerror}.",
                "Check its permissions.",
            ) from None

    @property
    def names(self) -> Sequence[str]:
        """What lies directly in it, sorted, folders too."""
        return [entry.name for entry in self._entries]

    @property
    def files(self) -> Sequence[str]:
        """Those of `names` that are no folders."""
        return [entry.name for entry in self._entries if not entry.is_dir()]

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            return (self.path / name).is_file()
        except OSError:  # a name longer than the file system has
            return False

    def missing(self, name: str) -> CheckpointNotFound:
        """What to raise where there is no such file."""
        path = self.path / name
        if path.is_symlink():
            found = "It is a link to a file that is not there."
        else:
            found = "It is no regular file." if path.exists() else "There is no such file or folder."
        return CheckpointNotFound(f"The checkpoint {self.shown(name)} was asked for.", found, WHAT_TO_PASS)

    def read_json(self, name: str) -> dict[str, Any]:
        """The JSON object in a file."""
        path = self.path / name
        try:
            check_json_size(path.stat().st_size, self.shown(name))
            content = path.read_bytes()
        except OSError as error:
            raise unreadable_json(self.shown(name), error) from None
        return parse_json_object(content, self.shown(name))

    def shown(self, name: str) -> str:
        """Its path, quoted."""
        return f"'{self.path / name}'"

    def reference(self, name: str) -> str:
        """Its path."""
        return str(self.path / name)


def find_checkpoint(path: Path) -> tuple[Folder, CheckpointFiles]:
    """The checkpoint at a folder, a weights file or an index file, and the folder it lies in.

    Raises:
        CheckpointNotFound: There is none.
        CheckpointFormatError: There are two, or the index is not usable.
    """
    if path.is_dir():
        folder = Folder(path)
        return folder, choose_files(folder)
    folder = Folder(path.parent)
    return folder, choose_files(folder, path.name)
