"""What a checkpoint is called on the command line and in `analyze(source)`.

Grammar::

    reference  = "demo" | path | hub
    path       = anything that exists, or that begins with "/", "./", "../" or "~"
    hub        = ["hf://"] organisation "/" name ["@" revision] [":" subfolder]

An existing path wins over the Hub's reading of the same text; `hf://` forces the latter. A revision
may hold `/` (`refs/pr/1`), so it ends only at `:`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from weightscope.errors import CheckpointNotFound

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB = re.compile(
    rf"(?P<forced>hf://)?(?P<repo_id>{_NAME}/{_NAME})(?:@(?P<revision>[^:\s]+))?(?::(?P<subfolder>[^\s]+))?"
)
DEMO = "demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRef:
    """A parsed reference; `str()` gives the text back."""

    kind: Literal["demo", "path", "hub"]
    """Where it points: into the package, to this machine's disk, to the Hub."""
    location: str
    """`demo`, the path as given, or the repo_id."""
    revision: str = ""
    """Branch, tag or commit; empty for the default and for local files."""
    subfolder: str = ""
    """Folder inside the repository, or a file of it; empty for its root."""
    forced: bool = False
    """Whether `hf://` was written."""

    @classmethod
    def parse(cls, text: str) -> "CheckpointRef":
        """Read a reference.

        Examples:
            >>> CheckpointRef.parse("microsoft/phi-2@main:sub").revision
            'main'

        Raises:
            CheckpointNotFound: The text is no path that exists and no Hub reference.
        """
        forced = text.startswith("hf://")
        if not forced:
            if text == DEMO and not Path(text).exists():
                return cls(kind="demo", location=DEMO)
            if text and _exists(text):
                return cls(kind="path", location=text)
        match = _HUB.fullmatch(text)
        looks_like_path = text.startswith(("/", "./", "../", "~", "\\")) or text.partition(":")[0].endswith(
            (".safetensors", ".bin", ".pt", ".pth", ".json", "/")
        )
        if match and (forced or not looks_like_path):
            return cls(
                kind="hub",
                location=match["repo_id"],
                revision=match["revision"] or "",
                subfolder=match["subfolder"] or "",
                forced=forced,
            )
        raise CheckpointNotFound(
            f"The checkpoint {text!r} was asked for.",
            "There is no such file or folder, and it is no Hub reference of the form 'org/name'."
            if text
            else "The reference is empty.",
            "Check the path, or try the checkpoint that comes with weightscope: 'demo'.",
        )

    @classmethod
    def of_path(cls, path: Path) -> "CheckpointRef":
        """The reference to a path, whatever its text would mean otherwise.

        Raises:
            CheckpointNotFound: There is no such path.
        """
        if not _exists(str(path)):
            raise CheckpointNotFound(
                f"The checkpoint '{path}' was asked for.",
                "There is no such file or folder.",
                "Check the path; a reference to the Hub is a str, not a Path.",
            )
        return cls(kind="path", location=str(path))

    def __str__(self) -> str:
        """The reference as it would be typed."""
        revision = f"@{self.revision}" if self.revision else ""
        subfolder = f":{self.subfolder}" if self.subfolder else ""
        return f"{'hf://' if self.forced else ''}{self.location}{revision}{subfolder}"


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, RuntimeError):  # a name too long for a file, `~` of a user who is not there
        return False
