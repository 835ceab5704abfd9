"""Where the files of a data set lie: Parquet shards or IDX files in one of a few folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weightscope.errors import DataFormatError, DataNotFound, OptionError
from weightscope.training.image_set import not_found

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")
_SPLIT = re.compile(r"[A-Za-z0-9_]{1,60}")
# MNIST calls its test files t10k.
_IDX_PREFIXES = {"test": ("t10k", "test")}
_IDX_IMAGES = ("-images-idx3-ubyte", "-images.idx3-ubyte")
_IDX_LABELS = ("-labels-idx1-ubyte", "-labels.idx1-ubyte")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The files of one split."""

    root: Path
    """What their names are relative to."""
    parquet: tuple[Path, ...] = ()
    """Shards in order; empty for IDX files."""
    idx: tuple[Path, Path] | None = None
    """Images and labels; None for Parquet files."""

    @property
    def files(self) -> tuple[Path, ...]:
        """In the order in which they are read."""
        return self.parquet or self.idx or ()

    def name(self, path: Path) -> str:
        """What to call one of them."""
        return path.relative_to(self.root).as_posix()


def shard_patterns(split: str) -> tuple[str, ...]:
    """Globs for the Parquet files of a split in a repository, in its root or in a folder.

    Raises:
        OptionError: No split can be called that.
    """
    if not _SPLIT.fullmatch(split):
        raise OptionError(
            f"The split {split!r} was asked for.",
            "The name of a split is made of letters, digits and underscores.",
            "Use train or test.",
        )
    return f"{split}-*.parquet", f"*/{split}-*.parquet"


def find_split(root: Path, folders: Sequence[str], split: str, asked: str) -> Found:
    """The files of a split, in the first of these folders that has any.

    Args:
        root: The folder that was named.
        folders: Below it, in order; `.` is itself, and `*` every folder in it.
        split: `train`, `test` …
        asked: First sentence of an error.

    Raises:
        DataNotFound: None of them has.
        DataFormatError: A shard is missing, or the labels to the images; or several folders have it.
        OptionError: No split can be called that.
    """
    pattern = shard_patterns(split)[0]
    prefixes = _IDX_PREFIXES.get(split, (split,))
    try:
        places: list[Path] = []
        for folder in folders:
            here = [place for place in _expand(root, folder) if place.is_dir()]
            hits = [hit for place in here if (hit := _find_in(place, root, pattern, prefixes, asked))]
            if len(hits) > 1:
                names = ", ".join(hit.name(hit.files[0].parent) for hit in hits[:6])
                raise DataFormatError(
                    asked, f"More than one folder in '{root}' has it: {names}.", "Pass the one that is meant."
                )
            if hits:
                return hits[0]
            places += here
        present = [path for place in places for path in place.iterdir()]
        present = [path for path in present if path.is_file()] or present
    except OSError as error:  # no permission, or a name that no file can have
        raise DataNotFound(
            asked, f"The folder cannot be read: {error.strerror}.", "Check its name and the permissions."
        ) from None
    if not places:
        raise not_found(asked, [f"the folder '{root}'"], ["no such folder"])
    inner = ["every folder" if folder == "*" else folder for folder in folders if folder != "."]
    looked = f"'{pattern}' and '{prefixes[0]}{_IDX_IMAGES[0]}' in '{root}' and, in it, {', '.join(inner)}"
    raise not_found(asked, [looked], [path.relative_to(root) for path in present])


def _find_in(place: Path, root: Path, pattern: str, prefixes: Sequence[str], asked: str) -> Found | None:
    if shards := sorted(path for path in place.glob(pattern) if path.is_file()):
        return Found(root=root, parquet=_complete(shards, asked))
    idx = _find_idx(place, prefixes, asked)
    return Found(root=root, idx=idx) if idx else None


def _expand(root: Path, folder: str) -> list[Path]:
    if folder == "*":
        return sorted(root.glob("*/"))
    return [root if folder == "." else root / folder]


def _complete(shards: list[Path], asked: str) -> tuple[Path, ...]:
    """Refuse a split of which a shard is missing: names of the Hub say how many there are."""
    numbers = [match for path in shards if (match := _SHARD.search(path.name))]
    totals = {int(match[2]) for match in numbers}
    expected = [(number, total) for total in totals for number in range(min(total, 100_000))]
    if numbers and (
        len(numbers) < len(shards)
        or sorted((int(m[1]), int(m[2])) for m in numbers) != expected
        or len(totals) > 1
    ):
        raise DataFormatError(
            asked,
            f"The shards in '{shards[0].parent}' are not one whole set: "
            f"{', '.join(path.name for path in shards[:6])}{' …' if len(shards) > 6 else '.'}",
            "Fetch those that are missing, and remove what belongs to another set.",
        )
    return tuple(shards)


def _find_idx(place: Path, prefixes: Sequence[str], asked: str) -> tuple[Path, Path] | None:
    for prefix in prefixes:
        images = _first(place, [prefix + ending for ending in _IDX_IMAGES])
        labels = _first(place, [prefix + ending for ending in _IDX_LABELS])
        if images and labels:
            return images, labels
        if images or labels:
            there = images or labels
            raise DataFormatError(
                asked,
                f"'{there}' is there, and the file with the {'labels' if images else 'images'} is not.",
                "Put both into the folder.",
            )
    return None


def _first(place: Path, names: Sequence[str]) -> Path | None:
    candidates = [place / (name + ending) for name in names for ending in ("", ".gz")]
    return next((path for path in candidates if path.is_file()), None)
