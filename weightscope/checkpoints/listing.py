"""Which files of a folder are the checkpoint. Shards are those the index names, never a glob."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from weightscope.errors import CheckpointFormatError, CheckpointNotFound

SINGLE = "model.safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".th", ".ckpt")
# optimizer.pt, training_args.bin and their like: state of a training run, not a model.
_NOT_MODELS = ("optimizer", "scheduler", "training_args", "rng_state", "scaler")
WHAT_TO_PASS = "Pass a .safetensors file, a .safetensors.index.json, or the folder that holds them."
_SHARD_NAME = re.compile(r".*\d+-of-\d+\.\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFiles:
    """The files of one checkpoint."""

    shards: tuple[str, ...]
    """Names relative to their folder, in the order of the index."""
    weight_map: dict[str, str] | None
    """Tensor to shard, as the index says; None without an index."""
    pickled: bool
    """Whether the shards are torch pickles."""
    notes: tuple[str, ...] = ()
    """What else lies there and is not read."""


class Listing(ABC):
    """The files of one folder, on a disk or in a repository.

    Attributes:
        where: How a message calls it, such as `folder '/x'`.
    """

    where: str

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """What lies directly in it, sorted, folders too."""

    @property
    @abstractmethod
    def files(self) -> Sequence[str]:
        """Those of `names` that are no folders."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is such a file; the name may lead into a folder of this one, never out of it."""

    @abstractmethod
    def missing(self, name: str) -> CheckpointNotFound:
        """What to raise where there is no such file."""

    @abstractmethod
    def read_json(self, name: str) -> dict[str, Any]:
        """The JSON object in a file.

        Raises:
            CheckpointFormatError: It is none.
        """

    @abstractmethod
    def shown(self, name: str) -> str:
        """How a message calls a file, such as `'/x/config.json'`."""

    @abstractmethod
    def reference(self, name: str) -> str:
        """What to type to mean this file."""


def choose_files(listing: Listing, name: str | None = None) -> CheckpointFiles:
    """The checkpoint in a folder, or the one that a file of it is or indexes.

    Raises:
        CheckpointNotFound: There is none.
        CheckpointFormatError: There are two, or the index is not usable.
    """
    if name is None:
        return _in_folder(listing)
    if not listing.has(name):  # or it is a pipe, which would be waited for without end
        raise listing.missing(name)
    if name.endswith(".index.json"):
        return _by_index(listing, name)
    if name.endswith((".safetensors", ".gguf")):  # the latter is recognised here and refused by name
        return CheckpointFiles(shards=(name,), weight_map=None, pickled=False)
    if name.endswith(PICKLE_SUFFIXES):
        return CheckpointFiles(shards=(name,), weight_map=None, pickled=True)
    raise CheckpointNotFound(
        f"The checkpoint {listing.shown(name)} was asked for.",
        f"It is a file of type {PurePosixPath(name).suffix or 'unknown'!r}, not safetensors.",
        WHAT_TO_PASS,
    )


def _in_folder(listing: Listing) -> CheckpointFiles:
    plain = listing.files
    indexes = [name for name in plain if name.endswith(INDEX_SUFFIX)]
    files = [name for name in plain if name.endswith(".safetensors")]
    if indexes:
        chosen = f"model{INDEX_SUFFIX}" if f"model{INDEX_SUFFIX}" in indexes else indexes[0]
        if len(indexes) > 1 and chosen != f"model{INDEX_SUFFIX}":
            raise _ambiguous(listing, indexes)
        found = choose_files(listing, chosen)
        if SINGLE in files and SINGLE not in found.shards:
            raise _ambiguous(listing, [SINGLE, *indexes])
        others = [name for name in [*files, *indexes] if name not in found.shards and name != chosen]
        return replace(found, notes=_passed_over(others))
    if files:
        if len(files) > 1 and SINGLE not in files:
            raise _ambiguous(listing, files)
        chosen = SINGLE if SINGLE in files else files[0]
        others = [name for name in files if name != chosen]
        return replace(choose_files(listing, chosen), notes=_passed_over(others))
    return _pickles_in(listing)


def _pickles_in(listing: Listing) -> CheckpointFiles:
    plain = listing.files
    if "pytorch_model.bin.index.json" in plain:
        return choose_files(listing, "pytorch_model.bin.index.json")
    pickles = [n for n in plain if n.endswith(PICKLE_SUFFIXES) and not n.startswith(_NOT_MODELS)]
    if "pytorch_model.bin" in pickles:
        return choose_files(listing, "pytorch_model.bin")
    if len(pickles) > 1:
        raise _ambiguous(listing, pickles)
    if pickles:
        return choose_files(listing, pickles[0])
    if ggufs := [name for name in plain if name.endswith(".gguf")]:
        return choose_files(listing, ggufs[0])
    raise CheckpointNotFound(
        f"The {listing.where} was asked for.",
        f"It holds no .safetensors file, only: {_shortened(listing.names)}."
        if listing.names
        else "It is empty.",
        "Pass the folder with the weights; a subfolder is a folder of its own.",
    )


def _by_index(listing: Listing, name: str) -> CheckpointFiles:
    weight_map = listing.read_json(name).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise _bad_index(listing, name, "It has no object 'weight_map' of tensor and file names.")
    if not weight_map:
        raise _bad_index(listing, name, "Its 'weight_map' is empty.")
    shards = tuple(dict.fromkeys(weight_map.values()))
    for shard in shards:
        if not _stays_inside(shard):
            raise _bad_index(
                listing, name, f"It names the shard {shard[:200]!r}, which is not a file of its folder."
            )
    if missing := [shard for shard in shards if not listing.has(shard)]:
        first = f"{missing[0][:200]!r}"
        found = f"It names the shard {first}, which is not there."
        if len(missing) > 1:
            of_all = f"Of the {len(shards)} shards that it names {len(missing)}"
            found = f"{of_all} are not there, the first being {first}."
        raise _bad_index(listing, name, found, "; --partial is for layers that are missing, not for files")
    return CheckpointFiles(shards=shards, weight_map=weight_map, pickled=not name.endswith(INDEX_SUFFIX))


def _stays_inside(shard: str) -> bool:
    parts = PurePosixPath(shard).parts
    return bool(parts) and not shard.startswith("/") and ".." not in parts and not set("\\:\0") & set(shard)


def as_text(name: str) -> str:
    """A name on a disk, bytes that are no text spelled out: tables and JSON hold only text."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _bad_index(listing: Listing, name: str, found: str, beside: str = "") -> CheckpointFormatError:
    return CheckpointFormatError(
        f"The index {listing.shown(name)} was read.",
        found,
        f"Fetch the missing files, or the index again, from the source{beside}.",
    )


def _ambiguous(listing: Listing, names: list[str]) -> CheckpointFormatError:
    if all(_SHARD_NAME.fullmatch(name) for name in names):
        return CheckpointFormatError(
            f"The {listing.where} was asked for.",
            f"It holds shards without the index that belongs to them: {_shortened(names)}.",
            "Fetch the .index.json too, or name one of the files to read it alone.",
        )
    return CheckpointFormatError(
        f"The {listing.where} was asked for.",
        f"It holds more than one checkpoint: {_shortened(names)}.",
        f"Name one of them, for example '{listing.reference(names[0])}'.",
    )


def _passed_over(names: list[str]) -> tuple[str, ...]:
    return (f"Also in the folder and not read: {_shortened(names)}.",) if names else ()


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
