"""`open_local`: a checkpoint of which every file is on the disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from weightscope.checkpoints.folder import Folder
from weightscope.checkpoints.listing import CheckpointFiles
from weightscope.checkpoints.local import LocalFile, fits_page_cache
from weightscope.checkpoints.pickled import open_pickles
from weightscope.checkpoints.reading import Reading
from weightscope.checkpoints.safetensors import SafetensorsSource
from weightscope.checkpoints.source import Source
from weightscope.errors import QuantizedCheckpointError

# A digest takes a core; the disk seldom feeds more than a few.
_DIGESTS_AT_ONCE = 4


def open_local(
    shown: str, folder: Folder, files: CheckpointFiles, reading: Reading, *, revision: str = ""
) -> Source:
    """Open the files.

    Args:
        shown: What the user called them.
        folder: Where they are.
        files: Which.
        reading: Whether pickles are allowed, and whether to verify.
        revision: The commit that they are of; empty where there is none.

    Raises:
        CheckpointNotFound: One cannot be opened.
        CheckpointFormatError: One is not what it says.
        QuantizedCheckpointError: They are GGUF.
    """
    refuse_gguf(shown, files)
    if files.pickled:
        return open_pickles(shown, folder, files, allowed=reading.allow_pickle, revision=revision)
    shards: dict[str, LocalFile] = {}
    with ExitStack() as to_close:
        cached = fits_page_cache([folder.path / name for name in files.shards])
        for name in files.shards:
            shards[name] = LocalFile(folder.path / name, name, cached=cached)
            to_close.callback(shards[name].close)
        if reading.verify:
            with ThreadPoolExecutor(_DIGESTS_AT_ONCE) as pool:
                list(pool.map(LocalFile.verify, shards.values()))
        headers = [shard.header() for shard in shards.values()]
        source = SafetensorsSource(shown, folder, files, shards, headers, revision)
        to_close.pop_all()  # all is well: they stay open
    return source


def refuse_gguf(shown: str, files: CheckpointFiles) -> None:
    """Let anything but GGUF pass.

    Raises:
        QuantizedCheckpointError: It is that.
    """
    if files.shards[0].endswith(".gguf"):
        raise QuantizedCheckpointError(
            f"The weights of {shown!r} were asked for.",
            f"They are in a GGUF file ({files.shards[0]}), which holds quantisation codes.",
            "Analyse the safetensors checkpoint it was made from.",
        )
