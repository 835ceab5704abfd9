"""Which files of a folder are the checkpoint. Shards are those the index names, never a glob."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
_WHAT_TO_PASS = "Pass a .safetensors file, a .safetensors.index.json, or the folder that holds them."
_SHARD_NAME = re.compile(r".*\d+-of-\d+\.\w+")


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
    notes: tuple[str, ...] = ()
    """What else lies there and is not read."""


def find_checkpoint(path: Path) -> CheckpointFiles:
    """The checkpoint at a folder, a weights file or an index file.

    Raises:
        CheckpointNotFound: There is none.
        CheckpointFormatError: There are two, or the index is not usable.
    """
    if path.is_dir():
        return _in_folder(path)
    if not path.is_file():  # a pipe would be waited for without end
        raise _no_file(path)
    if path.name.endswith(".index.json"):
        return _by_index(path)
    if path.suffix == ".safetensors":
        return _single(path, pickled=False)
    if path.suffix in PICKLE_SUFFIXES:
        return _single(path, pickled=True)
    if path.suffix == ".gguf":  # recognised here, refused by name in stream.py
        return _single(path, pickled=False)
    raise CheckpointNotFound(
        f"The checkpoint '{path}' was asked for.",
        f"It is a file of type {path.suffix or 'unknown'!r}, not safetensors.",
        _WHAT_TO_PASS,
    )


def _no_file(path: Path) -> CheckpointNotFound:
    if path.is_symlink():
        found = "It is a link to a file that is not there."
    else:
        found = "It is no regular file." if path.exists() else "There is no such file or folder."
    return CheckpointNotFound(f"The checkpoint '{path}' was asked for.", found, _WHAT_TO_PASS)


def _in_folder(folder: Path) -> CheckpointFiles:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise CheckpointNotFound(
            f"The folder '{folder}' was asked for.",
            f"It cannot be listed: {error.strerror}.",
            "Check its permissions.",
        ) from None
    names = [entry.name for entry in entries]
    plain = [entry.name for entry in entries if not entry.is_dir()]
    indexes = [name for name in plain if name.endswith(INDEX_SUFFIX)]
    files = [name for name in plain if name.endswith(".safetensors")]
    if indexes:
        chosen = f"model{INDEX_SUFFIX}" if f"model{INDEX_SUFFIX}" in indexes else indexes[0]
        if len(indexes) > 1 and chosen != f"model{INDEX_SUFFIX}":
            raise _ambiguous(folder, indexes)
        found = find_checkpoint(folder / chosen)
        if SINGLE in files and SINGLE not in found.shards:
            raise _ambiguous(folder, [SINGLE, *indexes])
        others = [name for name in [*files, *indexes] if name not in found.shards and name != chosen]
        return replace(found, notes=_passed_over(others))
    if files:
        if len(files) > 1 and SINGLE not in files:
            raise _ambiguous(folder, files)
        chosen = SINGLE if SINGLE in files else files[0]
        others = [name for name in files if name != chosen]
        return replace(find_checkpoint(folder / chosen), notes=_passed_over(others))
    return _pickles_in(folder, plain, names)


def _pickles_in(folder: Path, plain: list[str], names: list[str]) -> CheckpointFiles:
    if "pytorch_model.bin.index.json" in plain:
        return find_checkpoint(folder / "pytorch_model.bin.index.json")
    pickles = [n for n in plain if n.endswith(PICKLE_SUFFIXES) and not n.startswith(_NOT_MODELS)]
    if "pytorch_model.bin" in pickles:
        return find_checkpoint(folder / "pytorch_model.bin")
    if len(pickles) > 1:
        raise _ambiguous(folder, pickles)
    if pickles:
        return find_checkpoint(folder / pickles[0])
    if ggufs := [name for name in plain if name.endswith(".gguf")]:
        return find_checkpoint(folder / ggufs[0])
    raise CheckpointNotFound(
        f"The folder '{folder}' was asked for.",
        f"It holds no .safetensors file, only: {_listing(names)}." if names else "It is empty.",
        "Pass the folder with the weights; a subfolder is a folder of its own.",
    )


def _single(path: Path, *, pickled: bool) -> CheckpointFiles:
    return CheckpointFiles(
        folder=path.parent,
        shards=(path.name,),
        weight_map=None,
        pickled=pickled,
    )


def _by_index(path: Path) -> CheckpointFiles:
    content = read_json(path)
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise _bad_index(path, "It has no object 'weight_map' of tensor and file names.")
    if not weight_map:
        raise _bad_index(path, "Its 'weight_map' is empty.")
    shards = tuple(dict.fromkeys(weight_map.values()))
    for shard in shards:
        if not _stays_inside(shard):
            raise _bad_index(path, f"It names the shard {shard[:200]!r}, which is not a file of its folder.")
        if not _is_file(path.parent / shard):
            raise _bad_index(path, f"It names the shard {shard[:200]!r}, which is not there.")
    return CheckpointFiles(
        folder=path.parent,
        shards=shards,
        weight_map=weight_map,
        pickled=not path.name.endswith(INDEX_SUFFIX),
    )


def _stays_inside(shard: str) -> bool:
    parts = PurePosixPath(shard).parts
    return bool(parts) and not shard.startswith("/") and ".." not in parts and not set("\\:\0") & set(shard)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system has
        return False


def as_text(name: str) -> str:
    """A name on a disk, bytes that are no text spelled out: tables and JSON hold only text."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, its size and depth bounded.

    Raises:
        CheckpointFormatError: It is not one.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise _bad_json(path, f"It has {path.stat().st_size:,} bytes, far more than such a file needs.")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if "\\u" in text:  # an escaped lone surrogate is JSON and no text: nothing could print or save it
            json.dumps(content, ensure_ascii=False).encode("utf-8")
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
    if all(_SHARD_NAME.fullmatch(name) for name in names):
        return CheckpointFormatError(
            f"The folder '{folder}' was asked for.",
            f"It holds shards without the index that belongs to them: {_listing(names)}.",
            "Fetch the .index.json too, or name one of the files to read it alone.",
        )
    return CheckpointFormatError(
        f"The folder '{folder}' was asked for.",
        f"It holds more than one checkpoint: {_listing(names)}.",
        f"Name one of them, for example '{folder / names[0]}'.",
    )


def _passed_over(names: list[str]) -> tuple[str, ...]:
    return (f"Also in the folder and not read: {_listing(names)}.",) if names else ()


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
