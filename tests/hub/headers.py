"""What the Hub itself knows of safetensors files: their headers, and parameters by dtype."""

import json
import math
from collections import Counter
from typing import Any

from tests.hub.repository import Commit

_LARGEST = 100 << 20


def header(commit: Commit, name: str) -> dict[str, Any] | None:
    """The header of a file, or None if the file or its header is none."""
    entry = commit.files.get(name)
    if entry is None or entry.blob.size < 8:
        return None
    length = int.from_bytes(entry.blob.read(0, 8), "little")
    if length > min(_LARGEST, entry.blob.size - 8):
        return None
    try:
        value = json.loads(bytes(entry.blob.read(8, length)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def safetensors_headers(commit: Commit, index: str) -> dict[str, Any] | None:
    """The index without its map, and the header of every shard that it names."""
    entry = commit.files.get(index)
    if entry is None:
        return None
    content = json.loads(bytes(entry.blob.read(0, entry.blob.size)))
    shards = sorted(set(content["weight_map"].values()))
    return {
        "index": {"metadata": content.get("metadata")},
        "headers": {name: header(commit, name) for name in shards},
    }


def safetensors_summary(commit: Commit) -> dict[str, Any] | None:
    """Parameters by dtype and in all, of the safetensors files of the root; None if there are none."""
    counts: Counter[str] = Counter()
    for name in commit.files:
        if name.endswith(".safetensors") and "/" not in name:
            for tensor, info in (header(commit, name) or {}).items():
                if tensor != "__metadata__" and isinstance(info, dict) and "shape" in info:
                    counts[str(info.get("dtype"))] += math.prod(info["shape"])
    return {"parameters": dict(counts), "total": sum(counts.values())} if counts else None
