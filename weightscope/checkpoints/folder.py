"""Which files of a folder are the checkpoint. Shards are those the index names, never a glob."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from weightscope.errors import CheckpointFormatError, CheckpointNotFound

SINGLE = "model.safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".th", ".ckpt")
# optimizer.pt, training_args.bin and their like: state of a training run, not a model.
_NOT_MODELS = ("optimizer", "scheduler", "training_args", "rng_state", "scaler")
# A config.json is a few kB; 60 shards of 24,000 tensors make an index of 3 MB.
_MAX_JSON_BYTES = 64_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFiles:
    """The files of one checkpoint."""

    folder: Path
    """Where they lie, config.json with them."""
    shards: tuple[str, ...]
    """Names relative to the folder, in the order of the index."""
    weight_map: dict[str, str] | None
    """Tensor to shard, as the index says; None without an index."""
    pickled: bool
    """Whether the shards are torch pickles."""
    notes: tuple[str, ...]
    """What else lies there and is not read."""


def find_checkpoint(path: Path) -> CheckpointFiles:
    """The checkpoint at a folder, a weights file or an index file.

    Raises:
        CheckpointNotFound: There is none.
        CheckpointFormatError: There are two, or the index is not usable.
    """
    if path.is_dir():
        return _in_folder(path)
    if path.name.endswith(".index.json"):
        return _by_index(path, notes=())
    if path.suffix == ".safetensors":
        return _single(path, pickled=False)
    if path.suffix in PICKLE_SUFFIXES:
        return _single(path, pickled=True)
    if path.suffix == ".gguf":  # recognised here, refused by name in quantized.py
        return _single(path, pickled=False)
    raise CheckpointNotFound(
        f"The checkpoint '{path}' was asked for.",
        f"It is a file of type {path.suffix or 'unknown'!r}, not safetensors.",
        "Pass a .safetensors file, a .safetensors.index.json, or the folder that holds them.",
    )


def _in_folder(folder: Path) -> CheckpointFiles:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise CheckpointNotFound(
            f"The folder '{folder}' was asked for.",
            f"It cannot be listed: {error.strerror}.",
            "Check its permissions.",
        ) from None
    indexes = [name for name in names if name.endswith(INDEX_SUFFIX)]
    files = [name for name in names if name.endswith(".safetensors")]
    if indexes and SINGLE in files:
        raise _ambiguous(folder, [SINGLE, *indexes])
    if indexes:
        chosen = f"model{INDEX_SUFFIX}" if f"model{INDEX_SUFFIX}" in indexes else indexes[0]
        if len(indexes) > 1 and chosen == indexes[0] and not chosen.startswith("model."):
            raise _ambiguous(folder, indexes)
        found = _by_index(folder / chosen, notes=())
        others = [name for name in [*files, *indexes] if name not in found.shards and name != chosen]
        return _by_index(folder / chosen, notes=_passed_over(others))
    if files:
        if len(files) > 1 and SINGLE not in files:
            raise _ambiguous(folder, files)
        chosen = SINGLE if SINGLE in files else files[0]
        return _single(folder / chosen, pickled=False, others=[name for name in files if name != chosen])
    return _pickles_in(folder, names)


def _pickles_in(folder: Path, names: list[str]) -> CheckpointFiles:
    ggufs = [name for name in names if name.endswith(".gguf")]
    if ggufs:
        return _single(folder / ggufs[0], pickled=False)
    if "pytorch_model.bin.index.json" in names:
        return _by_index(folder / "pytorch_model.bin.index.json", notes=())
    pickles = [n for n in names if n.endswith(PICKLE_SUFFIXES) and not n.startswith(_NOT_MODELS)]
    if "pytorch_model.bin" in pickles:
        return _single(folder / "pytorch_model.bin", pickled=True)
    if len(pickles) > 1:
        raise _ambiguous(folder, pickles)
    if pickles:
        return _single(folder / pickles[0], pickled=True)
    listing = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise CheckpointNotFound(
        f"The folder '{folder}' was asked for.",
        f"It holds no .safetensors file, only: {listing}." if names else "It is empty.",
        "Pass the folder with the weights; a subfolder is a folder of its own.",
    )


def _single(path: Path, *, pickled: bool, others: list[str] | None = None) -> CheckpointFiles:
    return CheckpointFiles(
        folder=path.parent,
        shards=(path.name,),
        weight_map=None,
        pickled=pickled,
        notes=_passed_over(others or []),
    )


def _by_index(path: Path, *, notes: tuple[str, ...]) -> CheckpointFiles:
    content = read_json(path)
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise _bad_index(path, "It has no object 'weight_map' of tensor and file names.")
    if not weight_map:
        raise _bad_index(path, "Its 'weight_map' is empty.")
    shards = tuple(dict.fromkeys(weight_map.values()))
    for shard in shards:
        if not _stays_inside(shard):
            raise _bad_index(path, f"It names the shard {shard!r}, which is not a file of its folder.")
        if not (path.parent / shard).is_file():
            raise _bad_index(path, f"It names the shard {shard!r}, which is not there.")
    return CheckpointFiles(
        folder=path.parent,
        shards=shards,
        weight_map=weight_map,
        pickled=not path.name.endswith(INDEX_SUFFIX),
        notes=notes,
    )


def _stays_inside(shard: str) -> bool:
    parts = PurePosixPath(shard).parts
    return bool(parts) and not shard.startswith("/") and ".." not in parts and not set("\\:\0") & set(shard)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, its size and depth bounded.

    Raises:
        CheckpointFormatError: It is not one.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise _bad_json(path, f"It has {path.stat().st_size:,} bytes, far more than such a file needs.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _bad_json(path, f"It cannot be read: {error.strerror}.") from None
    except RecursionError:
        raise _bad_json(path, "It is nested too deeply.") from None
    except CheckpointFormatError:
        raise
    except ValueError as error:  # not JSON or not UTF-8
        raise _bad_json(path, f"It is not JSON ({str(error)[:80]}).") from None
    if not isinstance(content, dict):
        raise _bad_json(path, f"It holds a JSON {type(content).__name__}, not an object.")
    return content


def _bad_json(path: Path, found: str) -> CheckpointFormatError:
    return CheckpointFormatError(f"'{path}' was read as JSON.", found, "Fetch the file again.")


def _bad_index(path: Path, found: str) -> CheckpointFormatError:
    return CheckpointFormatError(
        f"The index '{path}' was read.",
        found,
        "Fetch the missing files, or the index again, from the source.",
    )


def _ambiguous(folder: Path, names: list[str]) -> CheckpointFormatError:
    listing = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return CheckpointFormatError(
        f"The folder '{folder}' was asked for.",
        f"It holds more than one checkpoint: {listing}.",
        f"Name one of them, for example '{folder / names[0]}'.",
    )


def _passed_over(names: list[str]) -> tuple[str, ...]:
    return (f"Also in the folder and not read: {', '.join(names)}.",) if names else ()
