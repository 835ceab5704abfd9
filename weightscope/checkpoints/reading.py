"""How a checkpoint is to be read, checked."""

from __future__ import annotations

from dataclasses import dataclass

from weightscope.errors import OptionError

DEFAULT_CONNECTIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How to read a checkpoint.

    Raises:
        OptionError: A value out of its range.
    """

    allow_pickle: bool = False
    """Whether `.bin` and `.pt` files may be loaded, tensors only."""
    revision: str | None = None
    """Branch, tag or commit of a repository on the Hub."""
    subfolder: str | None = None
    """Folder inside the repository, or inside a folder on the disk."""
    cache: bool = False
    """Whether to download whole files into the Hub's cache first, rather than to stream what is needed."""
    connections: int = DEFAULT_CONNECTIONS
    """Requests at once."""
    verify: bool = False
    """Whether to compare each file with the Hub's digest of it before it is read."""

    def __post_init__(self) -> None:
        if not 1 <= self.connections <= 64:
            raise OptionError(
                f"{self.connections} connections were asked for.",
                "Between 1 and 64 are possible.",
                "8 are enough for most networks.",
            )
